"""The primary key and the planner's statistics of a loaded version."""

from __future__ import annotations

import psycopg
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection
from ..relations import version_table


def primary_key(connection: Connection, version: VersionRow) -> list[int | str]:
    """Add the primary key; returns some ids that stand there twice (then there is none)."""
    relation = version_table(version.table_name, version.version)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (id)").format(relation))
    except psycopg.errors.UniqueViolation:
        rows = connection.execute(
            sql.SQL("SELECT id FROM {} GROUP BY id HAVING count(*) > 1 LIMIT 10").format(relation)
        ).fetchall()
        return [row[0] for row in rows]
    return []


def analyze(connection: Connection, version: VersionRow) -> None:
    """Give the planner its statistics; of ids and vectors alone, a small sample tells all."""
    if not version.attributes:
        connection.execute("SET LOCAL default_statistics_target = 10")
    connection.execute(
        sql.SQL("ANALYZE {}").format(version_table(version.table_name, version.version))
    )
