"""The build of an ANN index: its expression, its memory, and whether the data suit it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..errors import InvalidQuery
from ..relations import SCHEMA, index_name, version_table
from ..types import Index, Metric, Precision, Progress
from . import choose
from .choose import Wanted

_SMALL_KB = 65_536
# Under cosine, vectors shorter than this lose their direction in float16, whose smallest number
# is 6e-8.
_SHORTEST = 1e-4
# Rows whose signs and lengths are looked at, before signs are all there is to tell them apart; and
# how far the lengths may be spread under ip (standard deviation by mean). Of 10,000 SVD factors
# with a spread of 0.95 the signs found 0.63 of the ten largest inner products.
_SAMPLE = 1000
_SPREAD = 0.1
# How much of the vectors' squared length may be one bias under ip, away from the queries' side, and
# on it. Measured on 20,000 clustered vectors of 32 dims and a bias each: away from it recall@10 was
# 0.95 at 0.18, 0.89 at 0.45, 0.50 at 0.95; on it 1.00 at 0.88, 0.96 at 0.95, 0.65 at 0.99.
_AWAY, _ON = 0.2, 0.9


def check(
    connection: Connection, wanted: Wanted, dim: int, metric: Metric, stored: Precision, name: str
) -> None:
    """Refuse, before any work, an index that Postgres could not build.

    Raises
    ------
    InvalidQuery
        With the ways out.
    """
    choose.check(wanted, dim, metric, stored, name)
    if wanted.kind == "ivfflat":
        precision = wanted.precision or choose.form(dim, stored) or stored
        needed, allowed = lists_kb(dim, precision, wanted.lists or 1), _memory(connection)[0]
        if needed > allowed:
            raise _too_little_memory(name, needed, allowed)


def _too_little_memory(name: str, needed: int, allowed: int) -> InvalidQuery:
    return InvalidQuery(
        f"{name}: an IVFFlat index needs {needed // 1024 + 1} MB of maintenance_work_mem for its"
        f" lists, and the server allows {allowed // 1024} MB: raise it there, ask for fewer lists,"
        " or use hnsw"
    )


def decide(
    connection: Connection, engine: Engine, version: VersionRow, wanted: Wanted, rows: int
) -> Index | str:
    """Choose the index of a version whose rows are there; a form that they do not fit is passed by.

    Returns
    -------
    Index or str
        Without its name and size; or why there is none.

    Raises
    ------
    InvalidQuery
        When what was asked for cannot be built of these rows.
    """
    unfit: dict[Precision, str] = {}
    while True:
        found = choose.choose(
            wanted, rows, version.dim, version.metric, version.precision, unfit=unfit
        )
        if isinstance(found, str):
            if wanted.kind not in {"auto", "none"}:
                raise InvalidQuery(f"{version.ref} cannot have an index: {found}")
            return found
        asked = wanted.precision is not None
        why = _unfit(connection, engine, version, found.precision, rows, asked=asked)
        if why is None:
            break
        if asked:
            raise InvalidQuery(
                f"{version.ref} cannot be indexed as {found.precision}: {why}; use another"
                " precision, or index none for exact search"
            )
        unfit[found.precision] = why
    if found.kind == "ivfflat":
        found = _fitted(connection, version, wanted, found)
    return found


def _fitted(connection: Connection, version: VersionRow, wanted: Wanted, index: Index) -> Index:
    """Take fewer lists than usual where the server's memory asks for it."""
    allowed, lists = _memory(connection)[0], index.options["lists"]
    while (needed := lists_kb(version.dim, index.precision, lists)) > allowed:
        if wanted.lists is not None or lists == 1:
            raise _too_little_memory(version.ref, needed, allowed)
        lists //= 2
    if lists == index.options["lists"]:
        return index
    why = f"{index.why}; {allowed // 1024} MB of maintenance_work_mem are enough for so many lists"
    return dataclasses.replace(
        index,
        options={"lists": lists},
        search={**index.search, "probes": choose.probes(lists)},
        why=why,
    )


def _unfit(
    connection: Connection,
    engine: Engine,
    version: VersionRow,
    precision: Precision,
    rows: int,
    *,
    asked: bool,
) -> str | None:
    """Say why a smaller form of these vectors would not tell them apart, if it would not."""
    if precision is version.precision:
        return None
    relation = version_table(version.table_name, version.version)
    form = expression(engine, version, precision)
    if precision is Precision.BIT:
        return None if asked else _alike_as_bits(connection, engine, version, form, rows)
    try:
        with connection.transaction():
            row = connection.execute(
                sql.SQL(
                    "SELECT count({}), count(*) FILTER (WHERE {norm} > 0 AND {norm} < {}) FROM {}"
                ).format(form, sql.Literal(_SHORTEST), relation, norm=norm(engine, version))
            ).fetchone()
    except psycopg.errors.NumericValueOutOfRange:
        return "some of its values are beyond float16"
    assert row is not None
    if row[1] and version.metric is Metric.COSINE:
        return f"{row[1]} of its vectors are too short to have a direction in float16"
    return None


def norm(engine: Engine, version: VersionRow) -> sql.Composed:
    """Return the length of a version's vector, in SQL."""
    name = "vector_norm" if version.precision is Precision.FLOAT32 else "l2_norm"
    return sql.SQL("{}.{}(embedding)").format(engine.schema, sql.Identifier(name))


def _alike_as_bits(
    connection: Connection,
    engine: Engine,
    version: VersionRow,
    form: sql.Composable,
    rows: int,
) -> str | None:
    """Look at a sample: signs say nothing of vectors without negative values, nor of lengths."""
    vectors, signs, spread = _sampled(
        connection,
        sql.SQL(
            "count(DISTINCT embedding), count(DISTINCT {form}),"
            " coalesce(stddev({norm}) / nullif(avg({norm}), 0), 0)"
        ).format(form=form, norm=norm(engine, version)),
        version,
        rows,
    )
    if signs * 2 < vectors:
        return f"{vectors} vectors have only {signs} different patterns of signs"
    if version.metric is Metric.IP and spread > _SPREAD:
        return "their lengths differ, which inner products tell apart and signs do not"
    return None


def _one_sided(
    connection: Connection, engine: Engine, version: VersionRow, rows: int
) -> str | None:
    """Look at a sample of folded biases: HNSW joins items that lie together, far from [u, 1]."""
    mean, square = _sampled(
        connection,
        sql.SQL(
            "coalesce(avg((embedding::real[])[{dim}]), 0), coalesce(avg({norm} ^ 2), 0)"
        ).format(dim=sql.Literal(version.dim), norm=norm(engine, version)),
        version,
        rows,
    )
    if mean * mean <= (_AWAY if mean < 0 else _ON) * square:
        return None
    return (
        f"the biases of {version.ref} are all about {mean:.3g}, which turns its vectors to one"
        " side, where an HNSW index misses many of the nearest: take their mean away before the"
        f" load, which changes no order, or measure it with embstore evaluate {version.ref}"
    )


def _sampled(
    connection: Connection, what: sql.Composable, version: VersionRow, rows: int
) -> tuple[Any, ...]:
    """Return aggregates over a sample of rows."""
    row = connection.execute(
        sql.SQL("SELECT {} FROM {} TABLESAMPLE BERNOULLI ({}) REPEATABLE (0)").format(
            what,
            version_table(version.table_name, version.version),
            sql.Literal(min(100.0, 100 * _SAMPLE / rows)),
        )
    ).fetchone()
    assert row is not None
    return row


def expression(engine: Engine, version: VersionRow, precision: Precision) -> sql.Composable:
    """Return what is indexed, in SQL; a query that is to use the index orders by the very same."""
    if precision is version.precision:
        return sql.SQL("embedding")
    if precision is Precision.FLOAT16:
        return sql.SQL("(embedding::{})").format(engine.type("halfvec", version.dim))
    return sql.SQL("({}.binary_quantize(embedding)::{})").format(
        engine.schema, engine.type("bit", version.dim)
    )


def build(
    connection: Connection, engine: Engine, version: VersionRow, index: Index, rows: int
) -> tuple[Index, list[str]]:
    """Build an index, in the caller's transaction.

    Readers go on meanwhile: a plain CREATE INDEX keeps only writers out, and a version has none.
    So it needs no CONCURRENTLY, and whatever ends it leaves nothing behind.

    Returns
    -------
    Index, list of str
        With its name and size; what is to be known of it: that its graph did not fit in memory, or
        that it will find little.
    """
    began = time.monotonic()
    index = dataclasses.replace(index, name=_free_name(connection, version, index.kind))
    allowed, workers = _memory(connection)
    needed = needed_kb(version, index, rows)
    # Never above what the server's owner allows; below it, because a parallel build reserves all
    # of this at once.
    connection.execute(
        sql.SQL("SET LOCAL maintenance_work_mem = {}").format(
            sql.Literal(f"{min(needed, allowed)}kB")
        )
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
    metric = version.metric
    if index.precision is Precision.BIT and not metric.of_bits:
        metric = Metric.HAMMING
    connection.execute(
        sql.SQL("CREATE INDEX {} ON {} USING {} ({} {}) WITH ({})").format(
            sql.Identifier(index.name),
            relation,
            sql.Identifier(index.kind),
            expression(engine, version, index.precision),
            sql.SQL("{}.{}").format(
                engine.schema, sql.Identifier(f"{index.precision.sql_type}_{metric}_ops")
            ),
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
                for name, value in index.options.items()
            ),
        )
    )
    if hurry:
        connection.execute(sql.SQL("ALTER TABLE {} RESET (parallel_workers)").format(relation))
    row = connection.execute(
        "SELECT pg_relation_size(format('%%I.%%I', %s::text, %s::text)::regclass)",
        (SCHEMA, index.name),
    ).fetchone()
    built = dataclasses.replace(
        index, bytes=row[0] if row else None, seconds=round(time.monotonic() - began, 3)
    )
    warnings = []
    if needed > allowed:
        warnings.append(
            f"the HNSW graph of {version.ref} needs about {needed // 1024} MB and"
            f" maintenance_work_mem is {allowed // 1024} MB: raise it on the server for a faster"
            " build"
        )
    folded = version.source.get("folded_bias", "1") != "1"  # ones are of the queries' side
    if folded and index.kind == "hnsw" and version.metric is Metric.IP:
        doubt = _one_sided(connection, engine, version, rows)
        warnings += [doubt] if doubt else []
    return built, warnings


def _free_name(connection: Connection, version: VersionRow, kind: str) -> str:
    """Return the next name that nothing in the schema has, nor the catalog for a lost index."""
    listed = {each.name for each in version.indexes}
    names = (index_name(version.table_name, version.version, kind, n) for n in count(1))
    for name in names:
        there = connection.execute(
            "SELECT FROM pg_class WHERE relname = %s AND relnamespace = %s::regnamespace",
            (name, SCHEMA),
        ).fetchone()
        if there is None and name not in listed:
            break
    return name


def _memory(connection: Connection) -> tuple[int, int]:
    """Return maintenance_work_mem in kB, and how many workers may help a build."""
    row = connection.execute(
        "SELECT setting::bigint, current_setting('max_parallel_maintenance_workers')::int"
        " FROM pg_settings WHERE name = 'maintenance_work_mem'"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def needed_kb(version: VersionRow, index: Index, rows: int) -> int:
    """Memory that the build needs, in kB: IVFFlat to run at all, HNSW to stay in its fast phase."""
    if index.kind == "ivfflat":
        kb = lists_kb(version.dim, index.precision, index.options["lists"])
    else:
        kb = graph_kb(version.dim, index.precision, index.options["m"], rows)
    return max(_SMALL_KB, kb)


def graph_kb(dim: int, precision: Precision, m: int, rows: int) -> int:
    """Memory of an HNSW graph in kB.

    Measured with m from 4 to 64: the vector, 190 bytes and 32 for each m an element, beside the
    3 MB that a parallel build keeps for itself; a tenth on top.
    """
    return rows * (precision.nbytes(dim) + 190 + 32 * m) * 11 // 10 // 1024 + 4096


def lists_kb(dim: int, precision: Precision, lists: int) -> int:
    """Memory of pgvector's k-means in kB: samples, centers, and the bounds between them."""
    samples, vector = max(10_000, 50 * lists), precision.nbytes(dim) + 16
    arrays = (samples + 2 * lists) * vector
    arrays += 4 * (lists * dim + samples * lists + lists * lists + 2 * samples + 4 * lists)
    return arrays // 1024 + 1


def progress_of(connection: Connection, pid: int) -> Progress | None:
    """How far the index build of backend ``pid`` is, in blocks."""
    row = connection.execute(
        "SELECT blocks_done, blocks_total FROM pg_stat_progress_create_index WHERE pid = %s", (pid,)
    ).fetchone()
    return Progress("index", int(row[0]), int(row[1])) if row and row[1] else None


@contextmanager
def watched(
    connection: Connection,
    connect: Callable[[], Connection],
    report: Callable[[Progress], None],
) -> Iterator[None]:
    """Report the index build that ``connection`` runs meanwhile, seen from a second one."""
    pid, over = connection.info.backend_pid, threading.Event()

    def watch() -> None:
        with connect() as other:
            while not over.wait(0.25):
                if seen := progress_of(other, pid):
                    report(seen)

    thread = threading.Thread(target=watch, name="embstore-index", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
