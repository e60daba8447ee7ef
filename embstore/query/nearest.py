"""Recall: the k nearest rows to query vectors or to stored ids.

Each call is one statement. Its settings travel inside it: a materialized CTE calls set_config for
the statement's own transaction before the index scan starts. That costs no further round trip
(a transaction with SET LOCAL costs three, or half of the query's time again), and leaves nothing
behind in the session, so it also works behind a pooler in transaction mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, SupportsIndex

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from .. import wire
from ..connection import Connection, Engine
from ..errors import DimensionMismatch, InvalidQuery
from ..load.checks import MAX_NORM, MIN_NORM
from ..types import Metric, Neighbors, Precision, Vectors
from .target import (
    Target,
    check_columns,
    check_ids,
    id_array,
    id_parameter,
    one_snapshot,
    reading,
    single_id,
)

# Recall@10 of 0.95 and more on every set measured so far, for a tenth of a millisecond over
# pgvector's own default of 40.
EF_SEARCH = 100
# pgvector's own limit of hnsw.ef_search; a larger k is answered exactly.
MAX_EF_SEARCH = 1000
MAX_K = 2**31 - 1
# Queries of one statement: enough to hide the round trip, few enough to keep results small.
BLOCK = 1000


def nearest(
    connection: Connection,
    engine: Engine,
    target: Target,
    queries: object,
    k: int = 10,
    *,
    exact: bool = False,
    show: Sequence[str] = (),
) -> Neighbors:
    """Return the k nearest rows to each query; see ``Version.nearest``."""
    search = _Search(connection, engine, target, check_k(k), exact, show)
    if (single := _ordinary(queries, target)) is not None:
        return search.run(wire.vector(single), "vector", 1)
    vectors = check_queries(queries, target)
    if len(vectors) == 1:
        one = wire.bits if target.metric.of_bits else wire.vector
        return search.run(one(vectors[0]), "vector", 1)
    blocks = [vectors[at : at + BLOCK] for at in range(0, len(vectors), BLOCK)]
    with reading(connection, target), one_snapshot(connection, target):
        many = wire.bits_array if target.metric.of_bits else partial(wire.vector_array, engine)
        parts = [search.run(many(block), "vectors", len(block)) for block in blocks]
    return _stacked(parts, target)


def similar(
    connection: Connection,
    engine: Engine,
    target: Target,
    ids: object,
    k: int = 10,
    *,
    exact: bool = False,
    show: Sequence[str] = (),
) -> Neighbors:
    """Return the k nearest neighbours of each stored id; see ``Version.similar``."""
    search = _Search(connection, engine, target, check_k(k), exact, show)
    if (single := single_id(ids, target)) is not None:
        return search.run(single, "id", 1)
    asked = check_ids(ids, target)
    if len(asked) <= BLOCK:
        return search.run(id_parameter(asked), "ids", len(asked), asked)
    blocks = [asked.slice(at, BLOCK) for at in range(0, len(asked), BLOCK)]
    with reading(connection, target), one_snapshot(connection, target):
        parts = [search.run(id_parameter(block), "ids", len(block), block) for block in blocks]
    return _stacked(parts, target)


def check_k(k: SupportsIndex) -> int:
    """Return k if it can be asked for.

    Raises
    ------
    InvalidQuery
    """
    try:
        number = k.__index__()
    except AttributeError:
        raise InvalidQuery(f"k is {k!r}: it must be a whole number") from None
    if not 1 <= number <= MAX_K:
        raise InvalidQuery(f"k is {number}: ask for 1 to {MAX_K}")
    return number


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
    if target.dim is not None and vectors.shape[1] != target.dim:
        raise DimensionMismatch(
            f"{target.ref} has {target.dim} dimensions, the queries have {vectors.shape[1]}"
        )
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


class _Search:
    """One call's settings; runs its statement, and once more without the index if that is short."""

    def __init__(
        self,
        connection: Connection,
        engine: Engine,
        target: Target,
        k: int,
        exact: bool,
        show: Sequence[str],
    ) -> None:
        self.connection, self.engine, self.target = connection, engine, target
        self.k = k
        self.exact = exact or k > MAX_EF_SEARCH
        self.show: tuple[str, ...] = ()
        if show:
            with reading(connection, target):
                self.show = tuple(check_columns(connection, target, show))

    def run(self, parameter: Any, by: str, count: int, asked: pa.Array | None = None) -> Neighbors:
        """Answer ``count`` queries given ``by`` vector, vectors, id or ids."""
        if not count:
            return _stacked([], self.target)
        found = self._fetch(parameter, by, count, asked, self.exact)
        short = min(map(len, found)) if found else 0
        if short < self.k:
            row = self.target.current(self.connection)
            self._explain(row.dim, parameter, by)
            rows = row.rows or 0
            expected = min(self.k, rows - 1 if by in _ITSELF else rows)
            if short < expected and not self.exact:
                # Clusters of equal vectors, for one, hide rows from an HNSW scan.
                found = self._fetch(parameter, by, count, asked, True)
        return self._shaped(found)

    def _explain(self, dim: int, parameter: Any, by: str) -> None:
        """Nothing came back: was it the dim? (No row was compared, so no error came either.)"""
        if by != "vector":
            return
        given = (len(parameter.data) - 4) // 4
        if isinstance(parameter, wire.Bits):
            given = int.from_bytes(parameter.data[:4], "big")
        if given != dim:
            raise DimensionMismatch(
                f"{self.target.ref} has {dim} dimensions, the queries have {given}"
            )

    def _fetch(
        self, parameter: Any, by: str, count: int, asked: pa.Array | None, exact: bool
    ) -> list[list[Any]]:
        """Rows of each query, best first: what `_statement` says."""
        statement = self.target.statement(
            (self.k, by, exact, self.show),
            lambda: _statement(self.engine, self.target, self.k, by, exact, self.show),
        )
        with reading(self.connection, self.target):
            rows = self.connection.execute(statement, {"q": parameter}, binary=True).fetchall()
        if by in {"vector", "id"}:
            if by == "id" and (not rows or rows[0][1] is None):  # compared with nothing
                self._check_there([parameter])
                rows = []  # it is the only one
            return [rows]
        groups = {key: list(group) for key, group in groupby(rows, itemgetter(-1))}
        if asked is None:
            return [groups.get(place, []) for place in range(1, count + 1)]
        keys = asked.to_pylist()
        if missing := [key for key in dict.fromkeys(keys) if key not in groups]:
            self._check_there(missing)
        return [groups.get(key, []) for key in keys]

    def _check_there(self, keys: list[Any]) -> None:
        """Refuse ids that are not there, or have no direction; others may have no neighbour."""
        rows = self.connection.execute(
            sql.SQL("SELECT id, embedding {} embedding FROM {} WHERE id = ANY (%s)").format(
                self.engine.operator(self.target.metric.operator), self.target.relation
            ),
            [id_parameter(check_ids(keys, self.target))],
        ).fetchall()
        there = {row[0] for row in rows}
        if zeros := [key for key, distance in rows if distance != distance]:
            raise InvalidQuery(
                f"id {zeros[0]!r} of {self.target.ref} is a zero vector: it has no direction to"
                " compare by cosine"
            )
        absent = [key for key in keys if key not in there]
        if absent:
            self.target.current(self.connection)  # or is there nothing live at all?
            raise self.target.absent(absent)

    def _shaped(self, found: list[list[Any]]) -> Neighbors:
        width = min(map(len, found))
        shape = (len(found), width)
        rows = [row for each in found for row in each[:width]] if len(found) > 1 else found[0]
        version = self.target.version
        if version is None:
            version = rows[0][2] if rows else self.target.current(self.connection).version
        distances = np.array([row[1] for row in rows], np.float64).reshape(shape)
        first = 2 + (self.target.version is None)
        return Neighbors(
            ids=id_array([row[0] for row in rows], self.target.id_type).reshape(shape),
            scores=self.target.metric.score(distances),
            distances=distances,
            attributes={
                name: _objects([row[first + place] for row in rows]).reshape(shape)
                for place, name in enumerate(self.show)
            },
            version=version,
        )


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _stacked(parts: list[Neighbors], target: Target) -> Neighbors:
    if not parts:
        empty = np.zeros((0, 0))
        ids = id_array([], target.id_type).reshape(0, 0)
        return Neighbors(ids, empty, empty, {}, target.version or 0)
    return Neighbors(
        ids=np.concatenate([each.ids for each in parts]),
        scores=np.concatenate([each.scores for each in parts]),
        distances=np.concatenate([each.distances for each in parts]),
        attributes={
            name: np.concatenate([each.attributes[name] for each in parts])
            for name in parts[0].attributes
        },
        version=parts[0].version,
    )


# What the query vector is, for each way of asking. One query is written where it is used: through
# a join, as the many are, it would cost a tenth of the whole.
_OWN = {
    "vector": "%(q)s::{kind}{cast}",
    "id": "(SELECT embedding FROM {relation} WHERE id = %(q)s)",
    "vectors": "q.own{cast}",
    "ids": "q.own",
}
_MANY = {
    "vectors": "SELECT place AS key, own FROM unnest(%(q)s::{kind}[])"
    " WITH ORDINALITY AS u (own, place)",
    "ids": "SELECT id AS key, embedding AS own FROM {relation} WHERE id = ANY (%(q)s)",
}
# An id's own row comes back too, as a rule first; it is one more to ask for, and is left out.
_ITSELF = {"id": "r.id <> %(q)s", "ids": "r.id <> q.key"}
# A zero vector is not in a cosine index; without the index it comes last, at no distance.
_DIRECTED = "r.distance <> 'NaN'"


def _statement(
    engine: Engine, target: Target, k: int, by: str, exact: bool, show: tuple[str, ...]
) -> bytes:
    """Compose the statement; rows come as id, distance, version if live, shown..., key if many."""
    cast = "::{halfvec}" if target.precision is Precision.FLOAT16 else ""
    kind = engine.type("bit" if target.metric.of_bits else "vector")
    kinds = {"kind": kind, "relation": target.relation}
    own = sql.SQL(_OWN[by].replace("{cast}", cast)).format(halfvec=engine.type("halfvec"), **kinds)
    # The sum keeps the planner from matching the expression to the index.
    distance = sql.SQL("(embedding {} {}) + 0" if exact else "embedding {} {}").format(
        # A percent sign by itself would begin a parameter.
        engine.operator(target.metric.operator.replace("%", "%%")),
        own,
    )
    beside = ([] if target.version else ["version"]) + list(show)
    results = [sql.SQL("r.id, r.distance"), *(sql.Identifier("r", each) for each in beside)]
    many = by in _MANY
    wanted = k + (by in _ITSELF)
    others = [_ITSELF[by]] if by in _ITSELF else []
    others += [_DIRECTED] if target.metric is Metric.COSINE else []
    return (
        sql.SQL(
            "WITH s AS MATERIALIZED (SELECT set_config('hnsw.ef_search', {ef_search}, true) AS ef,"
            " set_config('hnsw.iterative_scan', 'strict_order', true) AS scan){queries}"
            " SELECT {results} FROM s{join} CROSS JOIN LATERAL"
            " (SELECT {columns} FROM {relation} WHERE s.ef IS NOT NULL ORDER BY {order}"
            " LIMIT {wanted}) r{others} ORDER BY {key}r.distance, r.id"
        )
        .format(
            ef_search=sql.Literal(str(min(MAX_EF_SEARCH, max(EF_SEARCH, wanted)))),
            queries=sql.SQL(f", q AS MATERIALIZED ({_MANY[by]})" if many else "").format(**kinds),
            results=sql.SQL(", ").join([*results, sql.SQL("q.key")] if many else results),
            join=sql.SQL(" CROSS JOIN q" if many else ""),
            columns=sql.SQL(", ").join(
                [sql.SQL("id, {} AS distance").format(distance), *map(sql.Identifier, beside)]
            ),
            relation=target.relation,
            order=sql.SQL("distance, id" if exact else "distance"),
            wanted=sql.Literal(wanted),
            others=sql.SQL(" WHERE " + " AND ".join(others) if others else ""),
            key=sql.SQL("q.key, " if many else ""),
        )
        .as_bytes(None)
    )
