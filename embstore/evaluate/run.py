"""A version measured from end to end: queries, truth, recall, and the figures into its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from .. import catalog
from ..catalog import VersionRow
from ..connection import Connection, Engine, translated
from ..errors import DatabaseFailed, InvalidQuery
from ..index.manage import missing
from ..query.target import Target
from ..release.live import act_as_loader
from ..types import Progress
from .queries import Queries, given, own
from .recall import check_k, evaluate, sweep
from .result import METRIC, Evaluation
from .truth import exact

if TYPE_CHECKING:
    from ..store import Store


def run(
    store: Store,
    ref: str,
    queries: object,
    k: int,
    *,
    sample: int | None,
    seed: int,
    search: Iterable[int] | None,
    write: bool,
    progress: Callable[[Progress], None] | None,
) -> Evaluation:
    """Measure a version; see ``Version.evaluate``."""
    check_k(k)
    report = progress or (lambda _: None)
    with store.writing() as connection:
        row = catalog.resolve(connection, ref)
        values = sweep(row, k, search)
        if write:
            _check_writable(connection, row)
    with store.reading() as connection:
        if lost := missing(connection, row)[:1]:
            raise InvalidQuery(
                f"Postgres has no usable index {lost[0]} of {row.ref}, so there is nothing to"
                f" measure: rebuild it with embstore index {row.ref}"
            )
        asked = _queries(connection, store.read_engine, row, queries, sample, seed)
        truth = exact(connection, row, asked, k, report)
    found = evaluate(store.lender, row, asked, truth, k, values, report)
    if write:
        with store.writing() as connection:
            record(connection, store.engine, row, found)
    return found


def _queries(
    connection: Connection,
    engine: Engine,
    row: VersionRow,
    queries: object,
    sample: int | None,
    seed: int,
) -> Queries:
    if queries is None:
        return own(connection, engine, row, sample=sample, seed=seed)
    return given(connection, engine, queries, Target.of_version(row), sample=sample, seed=seed)


def _check_writable(connection: Connection, row: VersionRow) -> None:
    """Refuse before the work what would fail after it.

    Raises
    ------
    DatabaseFailed
    """
    with translated(f"measuring {row.ref}"):
        found = connection.execute(
            "SELECT has_table_privilege('embstore.versions', 'UPDATE'),"
            " current_setting('transaction_read_only') = 'off'"
        ).fetchone()
    if found is None or not all(found):
        raise DatabaseFailed(
            f"this user may not write to the catalog, and the figures go to the metrics of"
            f" {row.ref}: measure without, by write=False (--no-write), or as a loader"
        )


def record(connection: Connection, engine: Engine, row: VersionRow, found: Evaluation) -> None:
    """Write what was found into the version's metrics; the others stay."""
    with translated(f"writing the metrics of {row.ref}"), connection.transaction():
        act_as_loader(connection, engine)
        connection.execute(
            "UPDATE embstore.versions SET metrics = metrics || %s"
            " WHERE table_name = %s AND version = %s",
            (Jsonb({METRIC: found.as_json()}), row.table_name, row.version),
        )
