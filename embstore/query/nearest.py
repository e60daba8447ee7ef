"""Recall: the k nearest rows to query vectors or to stored ids.

One query is one statement, from which rows come. Many are cut into blocks, each one statement
whose answer is packed into one row, and several blocks run at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypedDict, Unpack

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from .. import wire
from ..connection import Engine
from ..errors import DimensionMismatch, InvalidQuery
from ..index.choose import EF_SEARCH
from ..io import Io, Lender
from ..load.checks import MAX_NORM, MIN_NORM
from ..types import IdType, Index, Metric, Neighbors, Precision, Vectors
from . import filter as filters
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


class How(TypedDict, total=False):
    """What a call may say beside its queries and k; see ``Reads.nearest``."""

    where: object
    unsafe_where: object
    max_distance: float | None
    per_group: str | None
    group_limit: int
    offset: int
    exclude: object
    exact: bool
    search: Mapping[str, int] | None
    show: Sequence[str]
    progress: Callable[[int, int], None] | None


@dataclass(frozen=True)
class Ask:
    """What a call asks for beside its queries; see ``Reads.nearest``."""

    cut: Cut
    where: object = None
    unsafe_where: object = None
    exclude: object = None
    exact: bool = False
    search: Mapping[str, int] = field(default_factory=dict)
    show: Sequence[str] = ()
    progress: Callable[[int, int], None] | None = None

    @classmethod
    def of(cls, k: int, **how: Unpack[How]) -> Ask:
        """Return what a call asks for, checked as far as can be without what it asks.

        Raises
        ------
        InvalidQuery
        """
        rest: dict[str, Any] = {**how, "search": how.get("search") or {}}
        cut = Cut(
            k,
            rest.pop("offset", 0),
            rest.pop("max_distance", None),
            rest.pop("per_group", None),
            rest.pop("group_limit", 1),
        )
        return cls(cut, **rest)

    @property
    def plain(self) -> bool:
        """Whether it can be answered by one simple statement, also of the live view."""
        return (
            self.cut.plain
            and self.where is None
            and self.unsafe_where is None
            and self.exclude is None
            and not self.exact
        )


async def nearest(lender: Lender, target: Target, queries: object, ask: Ask) -> Neighbors:
    """Return the k nearest rows to each query; see ``Reads.nearest``."""
    single = _ordinary(queries, target)
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
        _check_dim(vectors.shape[1], target)
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


def check_queries(queries: object, target: Target) -> Vectors:
    """Return the queries as float32 (q, dim); a single vector (dim,) is one query.

    Raises
    ------
    DimensionMismatch, InvalidQuery
        NaN or infinity; under cosine also a norm that has no direction. Bits other than 0 and 1;
        under jaccard also bits that are all 0.
    """
    try:
        with np.errstate(over="ignore"):
            vectors = np.atleast_2d(np.asarray(queries, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InvalidQuery(f"the queries are not an array of numbers: {error}") from error
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise InvalidQuery(f"the queries have shape {vectors.shape}: it must be (q, dim) or (dim,)")
    _check_dim(vectors.shape[1], target)
    finite = np.isfinite(vectors)
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise InvalidQuery(f"query {row + 1} holds NaN or infinity")
    if target.metric.of_bits:
        _check_bits(vectors, target)
    if target.metric is Metric.COSINE:
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        bad = np.flatnonzero(~((norms >= MIN_NORM) & (norms <= MAX_NORM)))
        if len(bad):
            raise InvalidQuery(
                f"query {bad[0] + 1} has norm {norms[bad[0]]:g}: it has no direction to compare by"
                " cosine"
            )
    return vectors


def _check_dim(dim: int, target: Target) -> None:
    if target.dim not in {None, dim}:
        raise DimensionMismatch(f"{target.ref} has {target.dim} dimensions, the queries have {dim}")


def _check_bits(vectors: Vectors, target: Target) -> None:
    bad = np.flatnonzero(((vectors != 0) & (vectors != 1)).any(axis=1))
    if len(bad):
        raise InvalidQuery(
            f"query {bad[0] + 1} holds other values than 0 and 1, and {target.ref} holds bits"
        )
    empty = np.flatnonzero(~vectors.any(axis=1))
    if len(empty) and target.metric is Metric.JACCARD:
        raise InvalidQuery(
            f"query {empty[0] + 1} is all 0: it has nothing in common to compare by jaccard"
        )


# Squared norms that are finite and have a direction, with room for rounding.
_ORDINARY = (1e-30, 1e30)


def _ordinary(queries: object, target: Target) -> Vectors | None:
    """Return the one query that is seen to be good by one product, as the hot path's are."""
    if not (isinstance(queries, np.ndarray) and queries.dtype == np.float32) or (
        target.metric.of_bits
    ):
        return None
    single = queries[0] if queries.ndim == 2 and len(queries) == 1 else queries
    if single.ndim != 1 or target.dim not in {None, len(single)}:
        return None
    return single if _ORDINARY[0] < float(single @ single) < _ORDINARY[1] else None


def _index(target: Target) -> Index | None:
    """Return the index that a version is asked by; None where there is none."""
    assert target.row is not None
    return next(iter(target.row.indexes), None)


def _settings(index: Index, least: int) -> tuple[tuple[str, str], ...]:
    """Return what a scan of the index needs set, to give ``least`` rows or more."""
    search = index.search
    if index.kind == "hnsw":
        ef_search = min(MAX_EF_SEARCH, max(search["ef_search"], least))
        return ("hnsw.ef_search", str(ef_search)), ("hnsw.iterative_scan", "strict_order")
    return ("ivfflat.probes", str(search["probes"])), ("ivfflat.iterative_scan", "relaxed_order")


# What the live view is asked with before it is known which version answers.
_USUAL = Index("", "hnsw", Precision.FLOAT32, {}, {"ef_search": EF_SEARCH}, None, None, "")


async def _at_once(
    io: Io, engine: Engine, target: Target, ask: Ask, parameter: Any, by: str
) -> Neighbors | None:
    """Answer one query in one step, as almost all can be; None when it takes more."""
    version = target if target.row else target.seen
    index = _index(version) if version else _USUAL
    wanted = ask.cut.k + (by == "id")
    if wanted > MAX_EF_SEARCH or (index and not _in_order(index, version)):
        return None
    if ask.search and (target.row is None or index is None):
        return None
    _check_search(ask.search, index, target)
    show = await check_columns(io, target, ask.show) if ask.show else ()
    if index and ask.search:
        index = replace(index, search={**index.search, **ask.search})
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
    if target.id_type is IdType.BIGINT:
        ids: NDArray[Any] = np.frombuffer(b"".join(columns[0]), ">i8").astype(np.int64)
    else:
        ids = as_objects([each.decode() for each in columns[0]])
    distances = np.frombuffer(b"".join(columns[1]), ">f8").astype(np.float64)
    return (
        ids,
        distances,
        [int.from_bytes(each) for each in columns[2][:1]] if target.row is None else (),
    )


def _in_order(index: Index, target: Target | None) -> bool:
    return target is None or Scan(index).ordered(target)


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


def _check_search(asked: Mapping[str, int], index: Index | None, target: Target) -> None:
    for name, value in asked.items():
        if index is not None and name not in index.search:
            raise InvalidQuery(
                f"search={{{name!r}: ...}}: the {index.kind} index of {target.ref} takes"
                f" {', '.join(index.search)}"
            )
        if not isinstance(value, int) or value < 1:
            raise InvalidQuery(f"search={{{name!r}: {value!r}}}: a positive whole number is needed")


async def _scan(io: Io, target: Target, ask: Ask, chosen: Filter | None, wanted: int) -> Scan:
    """Choose between the index and every row."""
    assert target.row is not None
    index = _index(target)
    _check_search(ask.search, index, target)
    if index is not None:
        index = replace(index, search={**index.search, **ask.search})
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
        if _VISIT * wanted * total / through > _LOOK * total + _COMPARE * through:
            return Scan()
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
        raw = found.counts(len(vectors))
        answer = cut(found.take(without.keeps(found)), plan.cut)
        farthest = np.full(len(vectors), -np.inf)
        np.maximum.at(farthest, found.places, found.distances)
        more_may_do = plan.cut.max_distance is None or farthest <= plan.cut.max_distance
        lacking = more_may_do & (answer.counts(len(vectors)) < plan.cut.k) & (raw >= wanted)
        if plan.cut.group is None or wanted >= total or not lacking.any():
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
