"""A version measured from end to end: queries, truth, recall, and the figures into its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from .. import catalog
from ..catalog import VersionRow, as_indexes
from ..connection import Connection, Engine, translated
from ..errors import DatabaseFailed, InvalidQuery
from ..index.manage import missing
from ..query.target import Target
from ..release.live import act_as_loader
from ..types import Progress
from .queries import Queries, given, own
from .recall import check_k, evaluate, summary, sweep
from .result import METRIC, Evaluation
from .target import Goal, settled, smallest
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
    row = _measurable(store, ref, write=write)
    values = sweep(row, k, search)
    with store.reading() as connection:
        asked = _queries(connection, store.read_engine, row, queries, sample, seed)
        truth = exact(connection, row, asked, k, report)
    found = evaluate(store.lender, row, asked, truth, k, values, report)
    if write:
        with store.writing() as connection:
            record(connection, store.engine, row, METRIC, found.as_json())
    return found


def tune(
    store: Store,
    ref: str,
    recall: float,
    queries: object,
    k: int,
    *,
    progress: Callable[[Progress], None] | None,
) -> Evaluation:
    """Search a version's index so that it reaches a recall; see ``Version.tune``."""
    row = _measurable(store, ref, write=True)
    if not row.indexes:
        raise InvalidQuery(f"{row.ref} has no index: its queries find all there is")
    index = row.indexes[0]
    goal = Goal.of(store, Target.of_version(row), recall, queries, k)
    with store.reading() as connection:
        asked = goal.queries or own(connection, store.read_engine, row)
        truth = exact(connection, row, asked, k, progress or (lambda _: None))
    found, tried = smallest(store.lender, row, index, asked, truth, goal)
    if found is None:
        raise InvalidQuery(
            f"{row.ref} does not reach recall@{k} of {recall:g}: {index.kind} has"
            f" {tried[-1].mean:.4g} at {tried[-1]} with {asked}; it stays as it is, build a better"
            f" one (embstore index {row.ref} --m 32), or none for exact search (--kind none)"
        )
    index, _ = settled(index, found, asked, goal)
    measured = summary(row, index, asked, k, tried)
    with store.writing() as connection, translated(f"tuning {row.ref}"), connection.transaction():
        act_as_loader(connection, store.engine)
        done = connection.execute(
            "UPDATE embstore.versions SET indexes = %s, metrics = metrics || %s"
            " WHERE table_name = %s AND version = %s AND indexes = %s",
            (
                as_indexes((index, *row.indexes[1:])),
                Jsonb({METRIC: measured.as_json()}),
                row.table_name,
                row.version,
                as_indexes(row.indexes),
            ),
        )
        if not done.rowcount:
            raise DatabaseFailed(
                f"the indexes of {row.ref} were changed while they were measured: run it again"
            )
    return measured


def _measurable(store: Store, ref: str, *, write: bool) -> VersionRow:
    """Return a version that can be measured as its queries find it.

    Raises
    ------
    DatabaseFailed, InvalidQuery, NotFound
    """
    with store.writing() as connection:
        row = catalog.resolve(connection, ref)
        if write:
            check_writable(connection, row)
    with store.reading() as connection:
        if lost := missing(connection, row)[:1]:
            raise InvalidQuery(
                f"Postgres has no usable index {lost[0]} of {row.ref}, so there is nothing to"
                f" measure: rebuild it with embstore index {row.ref} --kind {row.index_kind}"
            )
    return row


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


def check_writable(connection: Connection, row: VersionRow) -> None:
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


def record(
    connection: Connection, engine: Engine, row: VersionRow, key: str, found: object
) -> None:
    """Write what was found into the version's metrics; the others stay."""
    with translated(f"writing the metrics of {row.ref}"), connection.transaction():
        act_as_loader(connection, engine)
        connection.execute(
            "UPDATE embstore.versions SET metrics = metrics || %s"
            " WHERE table_name = %s AND version = %s",
            (Jsonb({key: found}), row.table_name, row.version),
        )
