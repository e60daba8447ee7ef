"""How rows compare with queries: fast in float32 by BLAS, then right in float64.

A score is larger where a row is nearer, and for one query in the order of the distances: the
cosine, the inner product, q.v - v.v/2 for l2, minus the Hamming distance, the Jaccard similarity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Metric, Precision

Array64 = NDArray[np.float64]
Array32 = NDArray[np.float32]
# A slice, or the numbers of rows in ascending order.
Part = slice | NDArray[np.int64]

_UNIT_ROUNDOFF = 2.0**-24
# Components that are held in float64 at a time: 64 MB.
_HELD = 1 << 23
_SET_BITS = np.array([each.bit_count() for each in range(256)], np.uint8)


class Rows:
    """A version's vectors, mapped.

    Parameters
    ----------
    vectors : array (n, dim), float32 or float16; of bits (n, bytes) uint8
    norms : array (n,), float64
        Of bits how many are set.
    largest : float
        The largest norm.
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        norms: Array64,
        metric: Metric,
        precision: Precision,
        dim: int,
        largest: float,
    ) -> None:
        self.vectors, self.norms = vectors, norms
        self.metric, self.precision, self.dim = metric, precision, dim
        self._largest = largest

    def __len__(self) -> int:
        return len(self.vectors)

    def prepare(self, queries: Array32) -> NDArray[Any]:
        """Return queries as they are compared: of unit length under cosine, bits packed."""
        if self.metric.of_bits:
            return np.packbits(queries != 0, axis=1)
        if self.precision is Precision.FLOAT16:  # as the server casts them
            queries = queries.astype(np.float16).astype(np.float32)
        if self.metric is not Metric.COSINE:
            return queries
        if len(queries) == 1:
            one = queries[0]
            if 1e-30 < (square := float(one @ one)) < 1e30:
                return queries / np.float32(math.sqrt(square))
        return (queries / lengths(queries)[:, None]).astype(np.float32)

    def floats(self, part: Part) -> Array32:
        """Return rows as float32; of bits 0 and 1."""
        taken = self._taken(part)
        if self.precision is Precision.BIT:
            taken = np.unpackbits(taken, axis=1, count=self.dim)
        return taken.astype(np.float32, copy=False)

    def _taken(self, part: Part) -> NDArray[Any]:
        # Of a mapped array, ten times as fast as indexing.
        return self.vectors[part] if isinstance(part, slice) else self.vectors.take(part, axis=0)

    def scores(self, queries: NDArray[Any], part: Part, out: Array32) -> Array32:
        """Return the scores (q, rows) of a part, in float32, in ``out``."""
        if self.metric.of_bits:
            return self._bit_scores(queries, part, out)
        with np.errstate(over="ignore", invalid="ignore"):
            return self._float_scores(queries, part, out)

    def _float_scores(self, queries: NDArray[Any], part: Part, out: Array32) -> Array32:
        block, norms = self.floats(part), self.norms[part]
        if self.metric is Metric.COSINE:
            inverse = (1 / np.where(norms > 0, norms, np.inf)).astype(np.float32)
            if len(queries) > self.dim:  # the cheaper of two places for it
                return np.matmul(queries, (block * inverse[:, None]).T, out=out)
            np.matmul(queries, block.T, out=out)
            out *= inverse
            return out
        np.matmul(queries, block.T, out=out)
        if self.metric is Metric.L2:
            out -= (norms * norms / 2).astype(np.float32)
        return out

    def _bit_scores(self, queries: NDArray[Any], part: Part, out: Array32) -> Array32:
        block = self._taken(part)
        for query, row in zip(queries, out, strict=True):
            if self.metric is Metric.HAMMING:
                row[:] = _counted(block ^ query)
                np.negative(row, out=row)
            else:
                both = _counted(block & query)
                either = self.norms[part] + int(_counted(query[None])[0]) - both
                row[:] = both / np.maximum(either, 1)
        return out

    def tolerance(self, queries: NDArray[Any]) -> Array64:
        """Return how far a score of each query may be off."""
        if self.metric is Metric.HAMMING:
            return np.zeros(len(queries))
        if self.metric is Metric.JACCARD:
            return np.full(len(queries), 4 * _UNIT_ROUNDOFF)
        # Higham, Accuracy and Stability of Numerical Algorithms, 2002, equation 3.5; some for
        # what is done to the products.
        error = (self.dim + 16) * _UNIT_ROUNDOFF
        if self.metric is Metric.COSINE:
            return np.full(len(queries), error)
        reach = lengths(queries) * self._largest
        return error * (reach + (self._largest**2 if self.metric is Metric.L2 else 0))

    def distances(self, queries: NDArray[Any], rows: NDArray[np.int64]) -> Array64:
        """Return the distances (q, m) to rows (q, m), in float64, as pgvector defines them."""
        found = np.empty(rows.shape)
        width = max(1, _HELD // self.dim)
        step = max(1, width // max(1, rows.shape[1]))
        distance = self._bit_distances if self.metric.of_bits else self._float_distances
        for at in range(0, len(rows), step):
            for left in range(0, rows.shape[1], width):
                part = slice(at, at + step), slice(left, left + width)
                found[part] = distance(queries[part[0]], rows[part])
        return found

    def near(self, query: Array32, rows: NDArray[np.int64]) -> Array64:
        """Return the distances (m,) of one prepared query to rows (m,), as ``distances`` does."""
        near = self.vectors.take(rows, axis=0).astype(np.float64)
        own = query.astype(np.float64)
        if self.metric is Metric.L2:
            near -= own
            return np.asarray(np.sqrt(np.einsum("md,md->m", near, near)))
        products: Array64 = near @ own
        if self.metric is Metric.IP:
            return -products
        products /= self.norms.take(rows) * math.sqrt(own @ own)
        return 1 - np.minimum(np.maximum(products, -1, out=products), 1, out=products)

    def _float_distances(self, queries: NDArray[Any], rows: NDArray[np.int64]) -> Array64:
        near = np.take(self.vectors, rows, axis=0).astype(np.float64)
        own = queries.astype(np.float64)
        if self.metric is Metric.L2:
            near -= own[:, None]
            return np.asarray(np.sqrt(np.einsum("qmd,qmd->qm", near, near)))
        products: Array64 = np.matmul(near, own[:, :, None])[:, :, 0]
        if self.metric is Metric.IP:
            return -products
        with np.errstate(invalid="ignore", divide="ignore"):
            products /= self.norms[rows] * np.sqrt((own * own).sum(axis=1))[:, None]
        return np.asarray(1 - np.clip(products, -1, 1))

    def _bit_distances(self, queries: NDArray[Any], rows: NDArray[np.int64]) -> Array64:
        near = self.vectors.take(rows, axis=0)
        if self.metric is Metric.HAMMING:
            return _counted(near ^ queries[:, None]).astype(np.float64)
        both = _counted(near & queries[:, None])
        either = _counted(near | queries[:, None])
        return 1 - both / np.maximum(either, 1)

    def as_scores(self, distances: Array64, queries: NDArray[Any]) -> Array64:
        """Turn distances (q, m) into the scores of this module."""
        if self.metric is Metric.L2:
            own = lengths(queries)
            return (own[:, None] ** 2 - distances**2) / 2
        return self.metric.score(distances)


def lengths(vectors: Array32) -> Array64:
    """Return the norms (n,), in float64 where float32 would lose them."""
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("nd,nd->n", vectors, vectors).astype(np.float64)
    odd = np.flatnonzero(~((squares > 1e-30) & (squares < 1e30)))
    if len(odd):
        wide = vectors[odd].astype(np.float64)
        squares[odd] = np.einsum("nd,nd->n", wide, wide)
    return np.asarray(np.sqrt(squares))


def set_bits(packed: NDArray[np.uint8]) -> Array64:
    """Return how many bits of each row are set."""
    return _counted(packed).astype(np.float64)


def _count(packed: NDArray[Any]) -> NDArray[np.int64]:
    return np.asarray(_SET_BITS[packed].sum(axis=-1, dtype=np.int64))


def _popcount(packed: NDArray[Any]) -> NDArray[np.int64]:
    if packed.shape[-1] % 8 == 0:
        packed = np.ascontiguousarray(packed).view(np.uint64)
    return np.asarray(np.bitwise_count(packed).sum(axis=-1, dtype=np.int64))


# numpy 2 counts bits by the processor's own instruction.
_counted: Callable[[NDArray[Any]], NDArray[np.int64]] = (
    _popcount if hasattr(np, "bitwise_count") else _count
)
