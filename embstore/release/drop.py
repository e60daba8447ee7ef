"""Drop versions and tables, but never what a query may still read."""

from __future__ import annotations

from psycopg import sql

from .. import catalog
from ..connection import Connection, Engine, translated
from ..errors import DatabaseFailed, InvalidQuery
from ..relations import live_view, version_table
from ..types import Status
from . import live

# How long to wait for queries that are reading; then the drop is refused, and nothing has changed.
GIVE_UP_S = 10.0


def drop_version(connection: Connection, engine: Engine, table: str, version: int) -> None:
    """Drop a version's vectors; its catalog row stays, as ``retired``.

    Raises
    ------
    NotFound
    InvalidQuery
        While an alias names it.
    DatabaseFailed
        While a transaction that may still read it is open, naming it.
    """
    row = catalog.resolve(connection, f"{table}@{version}")

    def change() -> None:
        connection.execute("SELECT FROM embstore.tables WHERE name = %s FOR UPDATE", (table,))
        if named := catalog.aliases(connection, table).get((table, version)):
            raise InvalidQuery(
                f"{row.ref} is {' and '.join(named)}: promote or roll back to another version first"
            )
        # As ourselves: embstore_loader may not be let see what other sessions do.
        _refuse_if_an_old_snapshot_may_need(connection, table, version)
        live.act_as_loader(connection, engine)
        connection.execute(
            "UPDATE embstore.versions SET status = 'retired', retired_at = clock_timestamp()"
            " WHERE table_name = %s AND version = %s",
            (table, version),
        )
        live.rebuild(connection, engine, table)
        connection.execute(sql.SQL("DROP TABLE {}").format(version_table(table, version)))

    with translated(f"dropping {row.ref}"):
        live.with_short_locks(connection, f"dropping {row.ref}", change, give_up_s=GIVE_UP_S)


def drop_table(connection: Connection, engine: Engine, table: str) -> None:
    """Drop a table with all of its versions and aliases. Its version numbers are not used again.

    Raises
    ------
    NotFound
    InvalidQuery
        While a load into it runs.
    DatabaseFailed
        While somebody reads it, naming the session.
    """
    catalog.table(connection, table)

    def change() -> None:
        live.act_as_loader(connection, engine)
        connection.execute("SELECT FROM embstore.tables WHERE name = %s FOR UPDATE", (table,))
        rows = catalog.versions(connection, table)
        if loading := [row.ref for row in rows if row.status is Status.LOADING]:
            raise InvalidQuery(f"{loading[0]} is being loaded: drop {table} when that is done")
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


def _refuse_if_an_old_snapshot_may_need(connection: Connection, table: str, version: int) -> None:
    """A transaction older than the version's last move still sees its alias, and would read it."""
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
        raise DatabaseFailed(
            f"{table}@{version} may still be read by pid {pid} ({user}, {state}), whose transaction"
            f" is {age:.0f} s old and began before the version was replaced; drop it when that has"
            " ended"
        )
