"""Which loads are alive, and the sweep of those that are not.

A load holds an advisory lock on its version for as long as its session lives; so a version that
is `loading` with a free lock is what a killed load left behind. A session's end frees its locks
however it came, and no clock is compared.
"""

from __future__ import annotations

from psycopg import sql

from ..connection import Connection, translated
from ..relations import staged_table, version_table

_KEY = "hashtext('embstore load ' || %(table)s), %(version)s"


def hold(connection: Connection, table: str, version: int) -> None:
    """Mark a version as being loaded by this session."""
    connection.execute(
        f"SELECT pg_advisory_lock({_KEY})",
        {"table": table, "version": version},
    )


def release(connection: Connection, table: str, version: int) -> None:
    """Take the mark away."""
    connection.execute(
        f"SELECT pg_advisory_unlock({_KEY})",
        {"table": table, "version": version},
    )


def discard(connection: Connection, table: str, version: int) -> None:
    """Remove all that a load left; its number stays used."""
    with connection.transaction():
        for each in version_table, staged_table:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(each(table, version)))
        connection.execute(
            "DELETE FROM embstore.versions"
            " WHERE table_name = %s AND version = %s AND status = 'loading'",
            (table, version),
        )


def sweep(connection: Connection) -> list[str]:
    """Remove what dead loads left; returns their refs. ``connection`` is in autocommit."""
    swept = []
    with translated("cleaning up after loads that died"):
        loading = connection.execute(
            "SELECT table_name, version FROM embstore.versions WHERE status = 'loading'"
        ).fetchall()
        for table, version in loading:
            row = connection.execute(
                f"SELECT pg_try_advisory_lock({_KEY})",
                {"table": table, "version": version},
            ).fetchone()
            if not (row and row[0]):
                continue
            try:
                # Between the two statements above it may have become ready; discard asks again.
                still = connection.execute(
                    "SELECT FROM embstore.versions WHERE table_name = %s AND version = %s"
                    " AND status = 'loading'",
                    (table, version),
                ).fetchone()
                if still is not None:
                    discard(connection, table, version)
                    swept.append(f"{table}@{version}")
            finally:
                release(connection, table, version)
    return swept
