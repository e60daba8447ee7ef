"""Recall: the k nearest rows to query vectors or to stored ids.

One query is one statement, from which rows come. Many are cut into blocks, each one statement
whose answer is packed into one row, and several blocks run at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from .. import wire
from ..connection import Engine
from ..errors import InvalidQuery
from ..index.choose import EF_SEARCH
from ..io import Io, Lender
from ..types import IdType, Index, Metric, Neighbors, Vectors
from . import filter as filters
from .ask import Ask
from .check import check_dim, check_queries, check_search, ordinary
from .filter import Filter
from .lookup import as_objects, unpacked_ids, vectors_of
from .shape import Cut, Found, Without, cut, joined, neighbors, order
from .statement import Scan, search
from .target import (
    Target,
    check_columns,
    check_ids,
    check_lists,
    failed,
    id_array,
    pinned,
    rows,
    single_id,
)

# pgvector's own limit of hnsw.ef_search; a larger k is answered exactly.
MAX_EF_SEARCH = 1000
# Queries of one statement: enough to hide the round trip, few enough to keep results small.
BLOCK = 1000
# What a search is expected to cost, in microseconds: measured on 100,000 x 64, where a filter
# that lets 3% through costs the same either way. A row that is looked at, one that is compared,
# and one that an index scan comes upon.
_LOOK, _COMPARE, _VISIT = 0.05, 0.2, 14.0


async def nearest(lender: Lender, target: Target, queries: object, ask: Ask) -> Neighbors:
    """Return the k nearest rows to each query; see ``Reads.nearest``."""
    single = ordinary(queries, target)
    if single is None:
        vectors = check_queries(queries, target)
    elif ask.plain:
        async with lender.io() as io:
            found = await _at_once(io, lender.engine, target, ask, wire.vector(single), "vector")
        if found is not None:
            return found
        vectors = single[None]
    else:
        vectors = single[None]
    async with lender.io() as io:
        target = await pinned(io, target)
        check_dim(vectors.shape[1], target)
        return await _search(lender, io, target, vectors, ask)


async def similar(lender: Lender, target: Target, ids: object, ask: Ask) -> Neighbors:
    """Return the k nearest neighbours of each stored id; see ``Reads.similar``."""
    async with lender.io() as io:
        if ask.plain and (single := single_id(ids, target)) is not None:
            found = await _at_once(io, lender.engine, target, ask, single, "id")
            if found is not None:
                return found
        asked = check_ids(ids, target)
        target = await pinned(io, target)
        vectors = await vectors_of(io, lender.engine, target, asked)
        if target.metric is Metric.COSINE and not (directed := vectors.any(axis=1)).all():
            raise InvalidQuery(
                f"id {asked[int(directed.argmin())].as_py()!r} of {target.ref} is a zero vector: it"
                " has no direction to compare by cosine"
            )
        return await _search(lender, io, target, vectors, ask, asked)


def _index(target: Target) -> Index | None:
    """Return the index that a version is asked by; None where there is none."""
    assert target.row is not None
    return next(iter(target.row.indexes), None)


def _as_asked(index: Index | None, ask: Ask, target: Target) -> Index | None:
    """Return the index with the settings of a call."""
    check_search(ask.search, index, target)
    if index is None or not ask.search:
        return index
    return replace(index, search={**index.search, **ask.search})


def _settings(index: Index, least: int) -> tuple[tuple[str, str], ...]:
    """Return what a scan of the index needs set, to give ``least`` rows or more."""
    search = index.search
    if index.kind == "hnsw":
        ef_search = min(MAX_EF_SEARCH, max(search["ef_search"], least))
        return ("hnsw.ef_search", str(ef_search)), ("hnsw.iterative_scan", "strict_order")
    return ("ivfflat.probes", str(search["probes"])), ("ivfflat.iterative_scan", "relaxed_order")


def _usual(target: Target) -> Index:
    """Return what the live view is asked by before it is known which version answers."""
    return Index("", "hnsw", target.precision, {}, {"ef_search": EF_SEARCH}, None, None, "")


async def _at_once(
    io: Io, engine: Engine, target: Target, ask: Ask, parameter: Any, by: str
) -> Neighbors | None:
    """Answer one query in one step, as almost all can be; None when it takes more."""
    version = target if target.row else target.seen
    index = _index(version) if version else _usual(target)
    wanted = ask.cut.k + (by == "id")
    if wanted > MAX_EF_SEARCH or (index and not Scan(index).ordered(target)):
        return None
    if ask.search and (target.row is None or index is None):
        return None
    index = _as_asked(index, ask, target)
    show = await check_columns(io, target, ask.show) if ask.show else ()
    scan = Scan(index, _settings(index, wanted) if index else ())
    key = (by, wanted, scan.settings, show)
    statement = target.statement(key, lambda: search(engine, target, by, scan, wanted, None, show))
    columns = None
    if not show:
        numbered = target.statement(
            ("$1", *key),
            lambda: statement.replace(b"%(_q)s", b"$1").replace(b"%%", b"%"),
        )
        columns = await io.columns(numbered, *wire.encoded(parameter, engine))
    if columns is not None:
        if None in columns[1]:  # compared with nothing: is the id there?
            return None
        ids, distances, versions = _decoded(columns, target)
        shown: Sequence[Any] = ()
    else:
        found = await rows(io, target, statement, {"_q": parameter})
        if not found or found[0][1] is None:
            return None
        own, away, *rest = zip(*found, strict=True)
        ids = np.array(own, np.int64 if target.id_type is IdType.BIGINT else object)
        distances, versions = np.array(away), rest[0] if target.row is None else ()
        shown = [as_objects(each) for each in rest[target.row is None :]]
    # Short: is that all there is? NaN: has it a direction?
    if len(ids) < wanted or distances[-1] != distances[-1]:
        return None
    answered = target.row.version if target.row else versions[0]
    if target.row is None and (target.seen is None or target.seen.version != answered):
        now = await pinned(io, target)
        if now.version != answered or _index(now) != index:
            return None
    kept: Any = slice(None)
    if by == "id":
        kept = np.flatnonzero(ids != parameter)[: ask.cut.k]
    if (distances[1:] == distances[:-1]).any():
        places = order(np.zeros(len(ids), np.int64), distances, ids)
        kept = places[ids[places] != parameter][: ask.cut.k] if by == "id" else places
    far = distances[None, kept]
    return Neighbors(
        ids[None, kept],
        target.metric.score(far),
        far,
        {name: column[None, kept] for name, column in zip(show, shown, strict=True)},
        answered,
        np.array((far.shape[1],)),
        ask.cut.k,
    )


def _decoded(
    columns: tuple[list[Any], ...], target: Target
) -> tuple[NDArray[Any], NDArray[np.float64], Sequence[int]]:
    """Return ids, distances and the version of each row, as they came in binary form."""
    bigint = target.id_type is IdType.BIGINT
    keys = b"".join(columns[0]) if bigint else [each.decode() for each in columns[0]]
    distances = np.frombuffer(b"".join(columns[1]), ">f8").astype(np.float64)
    versions = [int.from_bytes(each) for each in columns[2][:1]] if target.row is None else ()
    return unpacked_ids(keys, target.id_type), distances, versions


@dataclass(frozen=True)
class _Plan:
    """How all blocks of a call are searched."""

    target: Target
    cut: Cut
    scan: Scan
    wanted: int
    chosen: Filter | None
    show: tuple[str, ...]


async def _search(
    lender: Lender,
    io: Io,
    target: Target,
    vectors: Vectors,
    ask: Ask,
    own: pa.Array | None = None,
) -> Neighbors:
    """Answer any number of queries about one version; ``own`` are their own ids, left out."""
    chosen = filters.made(ask.where, ask.unsafe_where, target)
    show = await check_columns(io, target, ask.show)
    grouped = () if ask.cut.group is None else await check_columns(io, target, (ask.cut.group,))
    without = left_out(ask.exclude, own, len(vectors), target)
    wanted = ask.cut.wanted + without.most
    scan = await _scan(io, target, ask, chosen, wanted)
    plan = _Plan(target, ask.cut, scan, wanted, chosen, tuple(dict.fromkeys((*show, *grouped))))
    starts = range(0, len(vectors), BLOCK)
    done: list[int] = []

    async def block(io: Io, at: int) -> Found:
        queries = vectors[at : at + BLOCK]
        out = without.of(at, at + len(queries))
        found = await _block(io, lender.engine, plan, queries, out)
        found.places += at
        done.append(len(queries))
        if ask.progress:
            ask.progress(sum(done), len(vectors))
        return found

    if chosen is not None and chosen.unsafe:
        async with io.snapshot():
            parts = [await block(io, at) for at in starts]
    elif len(starts) > 1:
        async with io.snapshot():
            # Read, so that a drop waits until the last block is answered.
            await rows(io, target, sql.SQL("SELECT FROM {} LIMIT 0").format(target.relation))
            parts = await lender.each(io, block, starts)
    else:
        parts = [await block(io, at) for at in starts]
    whole = joined(parts) if parts else _nothing(target, plan.show)
    assert target.row is not None
    return neighbors(
        whole, len(vectors), ask.cut, target.metric, target.id_type, target.row.version, show
    )


def left_out(exclude: object, own: pa.Array | None, queries: int, target: Target) -> Without:
    """Return what each query leaves out: what the call excludes, and the query's own id."""
    lists = [] if exclude is None else [check_lists(exclude, queries, target)]
    if own is not None:
        lists.append(Without(own, np.arange(queries + 1)))
    if not lists:
        return Without(check_ids([], target), np.zeros(queries + 1, np.int64))
    return lists[0] if len(lists) == 1 else lists[0].and_also(lists[1])


async def _scan(io: Io, target: Target, ask: Ask, chosen: Filter | None, wanted: int) -> Scan:
    """Choose between the index and every row."""
    assert target.row is not None
    index = _as_asked(_index(target), ask, target)
    # One of the pages needs as many candidates as another, or they would not be pages of one list.
    least = wanted - ask.cut.offset
    if ask.exact or index is None or least > MAX_EF_SEARCH:
        return Scan()
    scan = Scan(index)
    listed = ask.cut.offset or ask.cut.group is not None
    if listed and not scan.ordered(target):
        return Scan()
    if scan.rounded(target):
        least *= index.search["oversample"]
    if chosen is not None:
        through = max(1.0, await filters.estimated(io, target, chosen))
        total = max(target.row.rows or 0, through)
        if _VISIT * least * total / through > _LOOK * total + _COMPARE * through:
            return Scan()
        # By default a scan ends at 20,000 rows, of which a filter may have left few.
        return Scan(index, (*_settings(index, least), ("hnsw.max_scan_tuples", "200000")))
    return Scan(index, _settings(index, least))


async def _block(io: Io, engine: Engine, plan: _Plan, vectors: Vectors, without: Without) -> Found:
    """Answer the queries of one statement."""
    assert plan.target.row is not None
    wanted, total = plan.wanted, plan.target.row.rows or 0
    if plan.cut.group is not None:
        wanted = min(4 * wanted, max(total, 1))
    scan = plan.scan
    if (
        scan.rounded(plan.target)
        and plan.target.metric is Metric.L2
        and np.abs(vectors).max(initial=0) > np.finfo(np.float16).max
    ):
        scan = Scan()  # nothing can be compared with it in float16
    while True:
        found = await _fetch(io, engine, plan, scan, wanted, vectors)
        most = wanted if plan.chosen else min(wanted, total)
        if not scan.exact and (short := found.counts(len(vectors)) < most).any():
            # A filter, or a cluster of equal vectors, hides rows from an index.
            again = np.flatnonzero(short)
            more = await _fetch(io, engine, plan, Scan(), wanted, vectors[again])
            more.places = again[more.places]
            found = joined([found.take(~short[found.places]), more])
        answer = cut(found.take(without.keeps(found)), plan.cut)
        if plan.cut.group is None or wanted >= total:
            return answer
        raw = found.counts(len(vectors))
        farthest = np.full(len(vectors), -np.inf)
        np.maximum.at(farthest, found.places, found.distances)
        more_may_do = plan.cut.max_distance is None or farthest <= plan.cut.max_distance
        lacking = more_may_do & (answer.counts(len(vectors)) < plan.cut.k) & (raw >= wanted)
        if not lacking.any():
            return answer
        wanted = min(4 * wanted, total)


async def _fetch(
    io: Io, engine: Engine, plan: _Plan, scan: Scan, wanted: int, vectors: Vectors
) -> Found:
    target, chosen = plan.target, plan.chosen
    statement = target.statement(
        ("vectors", wanted, scan.key, plan.show) + ((chosen.key,) if chosen else ()),
        lambda: search(engine, target, "vectors", scan, wanted, chosen, plan.show),
    )
    many = wire.bits_array if target.metric.of_bits else partial(wire.vector_array, engine)
    parameters = {"_q": many(vectors), **(chosen.parameters if chosen else {})}
    try:
        found = await io.rows(statement, parameters)
    except psycopg.Error as error:
        if chosen is None:
            raise await failed(io, target, error) from error
        raise await filters.refused(io, target, chosen, error) from error
    places, ids, distances, *columns = found[0]
    if places is None:
        return _nothing(target, plan.show)
    answer = Found(
        np.frombuffer(places, ">i4").astype(np.int64) - 1,
        unpacked_ids(ids, target.id_type),
        np.frombuffer(distances, ">f8").astype(np.float64),
        dict(zip(plan.show, map(as_objects, columns), strict=True)),
    )
    # A zero vector has no direction: it is nobody's neighbour under cosine.
    undirected = np.isnan(answer.distances)
    return answer.take(~undirected) if undirected.any() else answer


def _nothing(target: Target, show: Sequence[str]) -> Found:
    return Found(
        np.zeros(0, np.int64),
        id_array(check_ids([], target)),
        np.zeros(0),
        {name: np.zeros(0, object) for name in show},
    )
