"""Drop versions and tables, but never what a query may still read."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from .. import catalog
from ..connection import Connection, Engine, translated
from ..errors import InUse, InvalidQuery
from ..relations import live_view, version_table
from ..types import Status
from . import live
from .pins import Pin, pins

# How long to wait for queries that are reading; then the drop is refused, and nothing has changed.
GIVE_UP_S = 10.0


def drop_version(
    connection: Connection,
    engine: Engine,
    table: str,
    version: int,
    *,
    force: bool = False,
    give_up_s: float | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Drop a version's vectors; its catalog row stays, as ``retired``.

    Parameters
    ----------
    force : bool
        Though somebody has pinned it.
    check : callable
        Raises what else is against it, when nobody can move an alias or pin any more.

    Raises
    ------
    NotFound
    InvalidQuery
        While an alias names it, or somebody has pinned it.
    InUse
        While a transaction that may still read it is open, naming it.
    """
    ref = catalog.resolve(connection, f"{table}@{version}").ref

    def change() -> None:
        connection.execute("SELECT FROM embstore.tables WHERE name = %s FOR UPDATE", (table,))
        catalog.resolve(connection, ref)  # somebody else may have been faster
        check()
        if named := catalog.aliases(connection, table).get((table, version)):
            raise InvalidQuery(
                f"{ref} is {' and '.join(named)}: promote or roll back to another version first"
            )
        pinned = [each for each in pins(connection, table) if each.version == version]
        if pinned and not force:
            raise InvalidQuery(f"{_pinned(pinned)}: unpin it first")
        # As ourselves: embstore_loader may not be let see what other sessions do.
        refuse_if_an_old_snapshot_may_need(connection, table, version)
        live.act_as_loader(connection, engine)
        if pinned:
            connection.execute(
                "DELETE FROM embstore.pins WHERE table_name = %s AND version = %s", (table, version)
            )
        connection.execute(
            "UPDATE embstore.versions SET status = 'retired', retired_at = clock_timestamp()"
            " WHERE table_name = %s AND version = %s",
            (table, version),
        )
        live.rebuild(connection, engine, table)
        connection.execute(sql.SQL("DROP TABLE {}").format(version_table(table, version)))

    give_up_s = GIVE_UP_S if give_up_s is None else give_up_s
    with translated(f"dropping {ref}"):
        live.with_short_locks(connection, f"dropping {ref}", change, give_up_s=give_up_s)


def drop_table(connection: Connection, engine: Engine, table: str, *, force: bool = False) -> None:
    """Drop a table with all of its versions and aliases. Its version numbers are not used again.

    Raises
    ------
    NotFound
    InvalidQuery
        While a load into it runs, or, unless forced, somebody has pinned a version of it.
    InUse
        While somebody reads it, naming the session.
    """
    catalog.table(connection, table)

    def change() -> None:
        live.act_as_loader(connection, engine)
        connection.execute("SELECT FROM embstore.tables WHERE name = %s FOR UPDATE", (table,))
        rows = catalog.versions(connection, table)
        if loading := [row.ref for row in rows if row.status is Status.LOADING]:
            raise InvalidQuery(f"{loading[0]} is being loaded: drop {table} when that is done")
        if (pinned := pins(connection, table)) and not force:
            raise InvalidQuery(f"{_pinned(pinned)}: unpin it first, or force the drop of {table}")
        connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(live_view(table)))
        for row in rows:
            if row.status is Status.READY:
                connection.execute(
                    sql.SQL("DROP TABLE {}").format(version_table(table, row.version))
                )
        for of in "aliases", "pins", "gates", "alignments", "appends", "versions":
            connection.execute(
                sql.SQL("DELETE FROM {} WHERE table_name = %s").format(
                    sql.Identifier("embstore", of)
                ),
                (table,),
            )
        connection.execute("DELETE FROM embstore.tables WHERE name = %s", (table,))

    with translated(f"dropping {table}"):
        live.with_short_locks(connection, f"dropping {table}", change, give_up_s=GIVE_UP_S)


def _pinned(pinned: list[Pin]) -> str:
    """``items@7 is pinned by a and b, and items@8 by c``."""
    by: dict[str, list[str]] = {}
    for each in pinned:
        by.setdefault(each.ref, []).append(each.pinned_by)
    parts = [f"{ref} is pinned by {' and '.join(names)}" for ref, names in by.items()]
    return ", ".join(parts)


def refuse_if_an_old_snapshot_may_need(connection: Connection, table: str, version: int) -> None:
    """A transaction older than the version's last move still sees its alias, and would read it.

    Raises
    ------
    InUse
        Naming it.
    """
    row = connection.execute(
        "SELECT s.pid, s.usename, s.state, extract(epoch FROM clock_timestamp() - s.xact_start)"
        " FROM pg_stat_activity s"
        " WHERE s.backend_xmin IS NOT NULL AND s.pid <> pg_backend_pid()"
        " AND s.datname = current_database() AND s.xact_start <= ("
        "  SELECT max(h.moved_at) FROM embstore.alias_history h"
        "  WHERE h.table_name = %s AND h.previous = %s)"
        " ORDER BY s.xact_start LIMIT 1",
        (table, version),
    ).fetchone()
    if row is not None:
        pid, user, state, age = row
        raise InUse(
            f"{table}@{version} may still be read by pid {pid} ({user}, {state}), whose transaction"
            f" is {age:.0f} s old and began before the version was replaced; drop it when that has"
            " ended"
        )
