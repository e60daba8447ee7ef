"""The live view ``emb.<table>``: every ready version, gated by the alias.

::

    SELECT id, title, embedding, version FROM (
      SELECT id, title, embedding::vector AS embedding, 1 AS version FROM emb.items_v1
      UNION ALL
      SELECT id, NULL::text, embedding::vector, 2 FROM emb.items_v2
    ) u WHERE version = (SELECT version FROM embstore.aliases
                         WHERE table_name = 'items' AND alias = 'live')

The gate stands outside the UNION ALL, so the planner runs the live branch only and uses its
index; ``embedding`` has no declared dim, so that a prepared statement outlives a promote to
another one. A promote changes a row of aliases and never this view. The view changes when a
version becomes ready or is dropped, and only then needs a lock that its readers would feel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

from ..catalog import VersionRow, ready_versions
from ..connection import Connection, Engine
from ..errors import InUse
from ..relations import live_view, version_table
from ..types import Attribute

# While a lock on the view is waited for, new readers queue behind it: so wait only this long,
# let them pass, and try again.
LOCK_TIMEOUT_MS = 50
GIVE_UP_S = 300.0


def rebuild(connection: Connection, engine: Engine, table: str) -> None:
    """Make the view show exactly the ready versions. Runs inside the caller's transaction.

    Columns only ever come at the end, as CREATE OR REPLACE VIEW demands; one that no version has
    any more stays, as NULL.
    """
    versions = ready_versions(connection, table)
    if not versions:
        connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(live_view(table)))
        return
    connection.execute(definition(engine, versions, view_columns(connection, table)))
    _grant(connection, live_view(table))


def act_as_loader(connection: Connection, engine: Engine) -> None:
    """Let embstore_loader own what the transaction makes, so that every loader can go on there."""
    if engine.loader_role:
        connection.execute("SET LOCAL ROLE embstore_loader")


def grant_version(connection: Connection, version: VersionRow) -> None:
    """Let the reading roles see a version that has just become ready, and not before."""
    _grant(connection, version_table(version.table_name, version.version))


def _grant(connection: Connection, relation: sql.Identifier) -> None:
    roles = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname IN ('embstore_reader', 'embstore_promoter')"
    ).fetchall()
    for (role,) in roles:
        connection.execute(
            sql.SQL("GRANT SELECT ON {} TO {}").format(relation, sql.Identifier(role))
        )


def definition(
    engine: Engine, versions: Sequence[VersionRow], known: Sequence[Attribute] = ()
) -> sql.Composed:
    """Return the statement that creates the view; ``known`` are the columns it has already."""
    table = versions[0].table_name
    loaded = [each for version in versions for each in version.attributes]
    have = {each.name for each in known}
    order = [*known] if known else [Attribute("id", ""), *loaded, *_TAIL]
    order += [each for each in loaded if known and each.name not in have]
    columns = list({each.name: each for each in order}.values())
    branches = [_branch(engine, version, columns) for version in versions]
    return sql.SQL(
        "CREATE OR REPLACE VIEW {view} AS SELECT {names} FROM ({branches}) u WHERE version ="
        " (SELECT a.version FROM embstore.aliases a"
        " WHERE a.table_name = {table} AND a.alias = 'live')"
    ).format(
        view=live_view(table),
        names=sql.SQL(", ").join(sql.Identifier(each.name) for each in columns),
        branches=sql.SQL(" UNION ALL ").join(branches),
        table=sql.Literal(table),
    )


_TAIL = (Attribute("embedding", ""), Attribute("version", ""))


def _branch(engine: Engine, version: VersionRow, columns: Sequence[Attribute]) -> sql.Composed:
    own = {each.name for each in version.attributes}

    def select(column: Attribute) -> sql.Composable:
        name = sql.Identifier(column.name)
        if column.name == "id":
            return name
        if column.name == "embedding":
            return sql.SQL("embedding::{} AS embedding").format(
                engine.type(version.precision.sql_type)
            )
        if column.name == "version":
            return sql.SQL("{}::integer AS version").format(sql.Literal(version.version))
        if column.name in own:
            return name
        return sql.SQL("NULL::{} AS {}").format(sql.SQL(column.type), name)

    return sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(select, columns)), version_table(version.table_name, version.version)
    )


def view_columns(connection: Connection, table: str) -> list[Attribute]:
    """Return the columns of the live view and their types; none before it is there."""
    rows = connection.execute(
        "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a"
        " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 ORDER BY a.attnum",
        (f"emb.{table}",),
    ).fetchall()
    return [Attribute(name, kind) for name, kind in rows]


def with_short_locks(
    connection: Connection,
    doing: str,
    change: Callable[[], None],
    *,
    give_up_s: float = GIVE_UP_S,
    waiting: Callable[[str], None] = lambda _: None,
) -> None:
    """Run ``change`` in a transaction of its own, again and again until its locks are free.

    ``waiting`` is told who is in the way.

    Raises
    ------
    InUse
        After ``give_up_s``, naming the sessions in the way.
    """
    deadline = time.monotonic() + give_up_s
    pause = 0.02
    while True:
        try:
            with connection.transaction():
                connection.execute(
                    sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT_MS))
                )
                change()
            return
        except psycopg.errors.LockNotAvailable as error:
            blockers = _blockers(connection)
            if time.monotonic() > deadline:
                raise InUse(
                    f"{doing}: gave up after {give_up_s:.0f} s waiting for {blockers}; end that"
                    " transaction and run it again"
                ) from error
            waiting(blockers)
            time.sleep(pause)
            pause = min(1.0, pause * 2)


def _blockers(connection: Connection) -> str:
    rows = connection.execute(
        "SELECT DISTINCT s.pid, s.state, s.usename, now() - s.xact_start FROM pg_locks l"
        " JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_stat_activity s ON s.pid = l.pid"
        " WHERE n.nspname IN ('emb', 'embstore') AND s.pid <> pg_backend_pid() AND l.granted"
        " AND s.xact_start IS NOT NULL ORDER BY 4 DESC LIMIT 3"
    ).fetchall()
    named = [
        f"pid {pid} ({user}, {state}, in its transaction for {age.total_seconds():.0f} s)"
        for pid, state, user, age in rows
    ]
    return ", ".join(named) or "another session"
