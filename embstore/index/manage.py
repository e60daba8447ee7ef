"""Indexes of ready versions: added, replaced, dropped, while readers go on.

A new index and its place in the catalog come in one transaction, and the old one goes with its
place in another. So whatever ends either, the catalog lists what is there, and queries use what
they used before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext

from psycopg import sql

from .. import catalog
from ..catalog import VersionRow, as_indexes
from ..connection import Connection, Engine, translated, working
from ..errors import DatabaseFailed, InvalidQuery, NotFound
from ..relations import SCHEMA, version_name
from ..release import live
from ..types import Index, Progress
from .build import build, check, decide, watched
from .choose import Wanted

# How long to wait for queries that are reading; then the old index stays, and is said to.
GIVE_UP_S = 10.0


def create(
    connect: Callable[[], Connection],
    engine: Engine,
    ref: str,
    wanted: Wanted,
    *,
    replace: bool,
    progress: Callable[[Progress], None] | None,
    warn: Callable[[str], None],
) -> Index | None:
    """Build an index of a version; see ``Version.create_index``."""
    with _alone(connect, ref) as (connection, row):
        check(connection, wanted, row.dim, row.metric, row.precision, row.ref)
        rows = row.rows or 0
        chosen = decide(connection, engine, row, wanted, rows)
        if isinstance(chosen, str):
            if not replace:
                raise InvalidQuery(f"{row.ref} gets no further index: {chosen}")
            for each in row.indexes:
                _remove(connection, engine, row, each)
            if wanted.kind == "auto":
                warn(f"{row.ref} has no index: {chosen}")
            return None
        with (
            translated(f"indexing {row.ref}"),
            connection.transaction(),
            watched(connection, connect, progress) if progress else nullcontext(),
        ):
            live.act_as_loader(connection, engine)
            built, warnings = build(connection, engine, row, chosen, rows)
            _record(connection, row, (built, *row.indexes))
        for sentence in warnings:
            warn(sentence)
        if replace and row.indexes:
            try:
                _remove(connection, engine, row, row.indexes[0])
            except DatabaseFailed as error:
                warn(
                    f"{row.ref} uses the new index; the old one is still there ({error}): remove it"
                    f" with embstore index {row.ref} --drop {row.indexes[0].name}"
                )
        return built


def drop(
    connect: Callable[[], Connection], engine: Engine, ref: str, name: str | None = None
) -> Index:
    """Drop an index, by default the one that queries prefer; returns what it was.

    Raises
    ------
    NotFound
        When there is none, or none of that name.
    DatabaseFailed
        While a transaction that reads the version is open, naming it.
    """
    with _alone(connect, ref) as (connection, row):
        found = next((each for each in row.indexes if name in {None, each.name}), None)
        if found is None:
            have = ", ".join(each.name for each in row.indexes) or "none"
            raise NotFound(
                f"{row.ref} has no index{'' if name is None else f' {name!r}'}: it has {have}"
            )
        _remove(connection, engine, row, found)
        return found


def missing(connection: Connection, row: VersionRow) -> list[str]:
    """Return the catalog's indexes that Postgres has not, or cannot use; say, dropped by hand."""
    with translated(f"reading the indexes of {row.ref}"):
        found = connection.execute(
            "SELECT i.indexrelid::regclass::text, c.relname FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))"
            " AND i.indisvalid",
            (SCHEMA, version_name(row.table_name, row.version)),
        ).fetchall()
    there = {name for _, name in found}
    return [each.name for each in row.indexes if each.name not in there]


@contextmanager
def _alone(connect: Callable[[], Connection], ref: str) -> Iterator[tuple[Connection, VersionRow]]:
    """Hold a version's indexes against another session that would change them; dies with us."""
    with working(connect, f"indexing {ref}") as connection:
        row = catalog.resolve(connection, ref)
        taken = connection.execute(
            "SELECT pg_try_advisory_lock(hashtext('embstore index ' || %s), %s)",
            (row.table_name, row.version),
        ).fetchone()
        if not (taken and taken[0]):
            raise DatabaseFailed(
                f"another session is changing the indexes of {row.ref}: wait for it"
            )
        yield connection, catalog.resolve(connection, row.ref)


def _remove(connection: Connection, engine: Engine, row: VersionRow, index: Index) -> None:
    """Drop one index and take it from the catalog."""

    def change() -> None:
        live.act_as_loader(connection, engine)
        kept = catalog.resolve(connection, row.ref).indexes
        connection.execute(
            sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(SCHEMA, index.name))
        )
        _record(connection, row, (each for each in kept if each.name != index.name))

    with translated(f"dropping index {index.name}"):
        live.with_short_locks(
            connection, f"dropping index {index.name}", change, give_up_s=GIVE_UP_S
        )


def _record(connection: Connection, row: VersionRow, indexes: Iterable[Index]) -> None:
    """Write the catalog's list; the first is what queries prefer."""
    listed = tuple(indexes)
    connection.execute(
        "UPDATE embstore.versions SET indexes = %s, index_kind = %s,"
        " bytes = pg_total_relation_size(to_regclass(format('%%I.%%I', %s::text, %s::text)))"
        " WHERE table_name = %s AND version = %s",
        (
            as_indexes(listed),
            listed[0].kind if listed else "none",
            SCHEMA,
            version_name(row.table_name, row.version),
            row.table_name,
            row.version,
        ),
    )
