"""A release from end to end: what is live now, the gates, then one step, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from .. import catalog
from ..catalog import VersionRow
from ..connection import Connection
from ..errors import GateFailed, InvalidQuery
from ..types import Progress
from . import gates, releases
from .gates import GateResult
from .measure import Case, measure
from .releases import Release

if TYPE_CHECKING:
    from ..store import Store


def promote(
    store: Store,
    refs: Sequence[str],
    *,
    given: Sequence[str] = (),
    message: str | None = None,
    force: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Release:
    """Make versions live; see ``Store.release``."""
    if force and not message:
        raise InvalidQuery("a release is forced with a message that says why")
    if not given and not force:
        # Most tables have no gates, and who has them is told so by the function itself.
        with suppress(GateFailed), store.writing() as connection:
            return releases.release(connection, refs, message=message)
    with store.writing() as connection:
        versions = [catalog.resolve(connection, ref) for ref in refs]
        tables = [each.table_name for each in versions]
        kept = gates.stored(connection, tables)
        asked = gates.of_release(tables, kept, given)
        live = {name: _live(connection, name) for name in tables} if any(asked.values()) else {}
    results: list[GateResult] = []
    together = {each.table_name: each.ref for each in versions}
    for each in versions:
        now = live.get(each.table_name)
        if now is None or now.version != each.version:
            for gate in asked[each.table_name]:
                if progress:
                    note = f"{each.ref} {gate.text}"
                    progress(Progress("gates", len(results), sum(map(len, asked.values())), note))
                results.append(measure(Case(store, each, now, gate, together)))
    failed = [each for each in results if not each.passed]
    if failed and not force:
        raise GateFailed(
            f"{'; '.join(map(str, failed))}; nothing has changed: look at it (embstore compare),"
            " or force it with a message",
            results=tuple(results),
        )
    with store.writing() as connection:
        return releases.release(
            connection,
            [each.ref for each in versions],
            message=message,
            forced=force,
            gates=[each.as_json() for each in results],
            expected={name: row.version if row else None for name, row in live.items()},
        )


def _live(connection: Connection, name: str) -> VersionRow | None:
    """Return the version of a table that is live, if any is."""
    named = catalog.aliases(connection, name)
    found = next((version for (_, version), of in named.items() if "live" in of), None)
    return None if found is None else catalog.resolve(connection, f"{name}@{found}")
