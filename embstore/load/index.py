"""The primary key, the ANN index and the planner's statistics of a loaded version."""

from __future__ import annotations

import psycopg
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..errors import InvalidQuery
from ..relations import index_name, version_table
from ..types import Precision

_SMALL_KB = 65_536


def check_indexable(kind: str, dim: int, precision: Precision, name: str) -> None:
    """Refuse, before anything is loaded, an index that Postgres could not build.

    Raises
    ------
    InvalidQuery
        With the ways out.
    """
    if kind not in {"hnsw", "none"}:
        raise InvalidQuery(f"there is no index kind {kind!r}: use hnsw or none")
    if kind == "hnsw" and dim > precision.max_indexed_dim:
        if precision is Precision.BIT:
            raise InvalidQuery(
                f"{name}: {dim} bits are more than an HNSW index takes"
                f" ({precision.max_indexed_dim}): use index none for exact search, or fewer trees"
                " or leaves"
            )
        way = " float16 vectors up to 4000," if precision is Precision.FLOAT32 else ""
        raise InvalidQuery(
            f"{name}: {dim} dimensions are more than an HNSW index takes of {precision} vectors"
            f" ({precision.max_indexed_dim}): use{way} index none for exact search, or reduce"
            " them first, say with PCA"
        )


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


def graph_kb(version: VersionRow, rows: int) -> int:
    """Memory that pgvector's HNSW build needs to stay in its fast phase, in kB.

    Measured with m = 16: the vector and 694 bytes an element, beside the 3 MB that a parallel
    build keeps for itself; a tenth on top.
    """
    per_row = version.precision.nbytes(version.dim) + 700
    return max(_SMALL_KB, rows * per_row * 11 // 10 // 1024 + 4096)


def build(connection: Connection, engine: Engine, version: VersionRow, rows: int) -> str | None:
    """Build the version's ANN index. Returns a warning when it will not fit in memory."""
    if version.index_kind == "none":
        return None
    needed = graph_kb(version, rows)
    row = connection.execute(
        "SELECT setting::bigint, current_setting('max_parallel_maintenance_workers')::int"
        " FROM pg_settings WHERE name = 'maintenance_work_mem'"
    ).fetchone()
    assert row is not None
    allowed, workers = row
    # Never above what the server's owner allows; below it, because a parallel build reserves all
    # of this at once.
    memory = min(needed, allowed)
    connection.execute(
        sql.SQL("SET LOCAL maintenance_work_mem = {}").format(sql.Literal(f"{memory}kB"))
    )
    relation = version_table(version.table_name, version.version)
    # By a table's size alone Postgres takes few workers; a graph has work for all it may take.
    hurry = workers and needed > _SMALL_KB and not engine.distributed
    if hurry:
        connection.execute(
            sql.SQL("ALTER TABLE {} SET (parallel_workers = {})").format(
                relation, sql.Literal(workers)
            )
        )
    connection.execute(
        sql.SQL("CREATE INDEX {} ON {} USING hnsw (embedding {})").format(
            index_name(version.table_name, version.version, "hnsw"),
            relation,
            sql.SQL("{}.{}").format(
                engine.schema,
                sql.Identifier(f"{version.precision.sql_type}_{version.metric}_ops"),
            ),
        )
    )
    if hurry:
        connection.execute(sql.SQL("ALTER TABLE {} RESET (parallel_workers)").format(relation))
    if needed <= allowed:
        return None
    return (
        f"the HNSW graph of {version.ref} needs about {needed // 1024} MB and maintenance_work_mem"
        f" is {allowed // 1024} MB: raise it on the server for a faster build"
    )


def analyze(connection: Connection, version: VersionRow) -> None:
    """Give the planner its statistics; of ids and vectors alone, a small sample tells all."""
    if not version.attributes:
        connection.execute("SET LOCAL default_statistics_target = 10")
    connection.execute(
        sql.SQL("ANALYZE {}").format(version_table(version.table_name, version.version))
    )


def progress_of(connection: Connection, pid: int) -> tuple[int, int] | None:
    """How far the index build of backend ``pid`` is: blocks done and in all."""
    row = connection.execute(
        "SELECT blocks_done, blocks_total FROM pg_stat_progress_create_index WHERE pid = %s", (pid,)
    ).fetchone()
    return (int(row[0]), int(row[1])) if row and row[1] else None
