"""Exact search: every row is compared, in blocks, by BLAS; the best are compared again in float64.

The first pass keeps a few more than k. Where these cannot be proved to hold the k nearest (rows
that are equal or nearly so, at the edge), all rows within the error of float32 are compared again.
So the answer is the float64 one, ties in order of the id, whatever made the first pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .scores import Array32, Array64, Part, Rows

Numbers = NDArray[np.int64]
# Scores that are held at a time: 16 MB, of which the processor's cache keeps a good part.
_HELD = 1 << 22
_QUERIES = 1024
# Found and not yet merged, per query, before they are.
_WAITING = 64


class Scan(Protocol):
    """The first pass: rows (q, m) and scores (q, m) of the best m rows, in any order."""

    def __call__(
        self, queries: NDArray[Any], wanted: int, among: Numbers | None
    ) -> tuple[Numbers, Array32]:
        """``among``: numbers of the rows to compare, ascending; None for all."""


def search(
    rows: Rows,
    scan: Scan,
    queries: NDArray[Any],
    k: int,
    among: Numbers | None,
    ids: Callable[[Numbers], NDArray[Any]],
) -> tuple[Numbers, Array64]:
    """Return the rows (q, k) nearest to prepared queries, and their distances, best first.

    Fewer than k columns come back when there are fewer rows.
    """
    count = len(rows) if among is None else len(among)
    k = min(k, count)
    if not len(queries):
        return np.zeros((0, k), np.int64), np.zeros((0, k))
    wanted = min(count, k + max(8, k // 4))
    step = max(1, min(_QUERIES, _HELD // max(1, wanted)))
    done = [
        _block(rows, scan, queries[at : at + step], k, wanted, count, among, ids)
        for at in range(0, len(queries), step)
    ]
    if len(done) == 1:
        return done[0]
    found, distances = zip(*done, strict=True)
    return np.concatenate(found), np.concatenate(distances)


def _block(
    rows: Rows,
    scan: Scan,
    queries: NDArray[Any],
    k: int,
    wanted: int,
    count: int,
    among: Numbers | None,
    ids: Callable[[Numbers], NDArray[Any]],
) -> tuple[Numbers, Array64]:
    if not k:
        return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0))
    near, scores = scan(queries, wanted, among)
    found, distances = ordered(near, rows.distances(queries, near), ids)
    found, distances = found[:, :k], distances[:, :k]
    if wanted < count:
        tolerance = rows.tolerance(queries)
        last = rows.as_scores(distances[:, -1:], queries)[:, 0]
        unsure = np.flatnonzero(~(last > scores.min(axis=1) + tolerance))
        found, distances = np.ascontiguousarray(found), np.ascontiguousarray(distances)
        for each in unsure:
            one = slice(each, each + 1)
            close = _above(rows, queries[one], last[each] - tolerance[each], among)
            if len(close) >= k:
                best, far = ordered(close[None], rows.distances(queries[one], close[None]), ids)
                found[each], distances[each] = best[0, :k], far[0, :k]
    return found, distances


def _above(rows: Rows, query: NDArray[Any], least: float, among: Numbers | None) -> Numbers:
    """Return the rows whose float32 score of one query is at least this."""
    found = []
    for part, first in parts(len(rows), among, _HELD):
        scores = rows.scores(query, part, np.empty((1, _length(part)), np.float32))
        close = np.flatnonzero(~(scores[0] < least))  # NaN is what float32 cannot hold
        found.append(close + first if among is None else among[first + close])
    return np.concatenate(found)


def ordered(
    near: Numbers, distances: Array64, ids: Callable[[Numbers], NDArray[Any]]
) -> tuple[Numbers, Array64]:
    """Sort each query's rows by distance, and where that ties by id; NaN comes last."""
    order = np.argsort(distances, axis=1, kind="stable")
    near = np.take_along_axis(near, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    for each in np.flatnonzero((distances[:, 1:] == distances[:, :-1]).any(axis=1)):
        keys = ids(near[each])
        by_id = np.argsort(keys, kind="stable")
        order = by_id[np.argsort(distances[each][by_id], kind="stable")]
        near[each], distances[each] = near[each][order], distances[each][order]
    return near, distances


def parts(count: int, among: Numbers | None, step: int) -> list[tuple[Part, int]]:
    """Cut the rows to compare into blocks; each with the place of its first."""
    if among is None:
        return [(slice(at, min(count, at + step)), at) for at in range(0, count, step)]
    return [(among[at : at + step], at) for at in range(0, len(among), step)]


def _length(part: Part) -> int:
    return part.stop - part.start if isinstance(part, slice) else len(part)


class BlasScan:
    """The first pass on the processor: a matrix product per block, and what beats the worst kept.

    After the first blocks few scores do, so that finding them is one comparison per score, where
    a partition of each block would cost more than the product.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __call__(
        self, queries: NDArray[Any], wanted: int, among: Numbers | None
    ) -> tuple[Numbers, Array32]:
        """See ``Scan``."""
        count = len(queries)
        step = max(2 * wanted, _HELD // count)
        buffer = np.empty(count * step, np.float32)
        best = _Best(count, wanted)
        for part, first in parts(len(self._rows), among, step):
            width = _length(part)
            out = buffer[: count * width].reshape(count, width)
            best.offer(self._rows.scores(queries, part, out), first)
        places, scores = best.merged()
        return (places if among is None else among[places]), scores


class _Best:
    """The best scores so far of each query."""

    def __init__(self, queries: int, wanted: int) -> None:
        self._queries, self._wanted = queries, wanted
        self._places: Numbers | None = None
        self._waiting: list[tuple[Numbers, Numbers, Array32]] = []
        self._count = 0

    def offer(self, scores: Array32, first: int) -> None:
        """Take from scores (q, rows) what may belong to the best."""
        if self._places is None:
            if scores.shape[1] > self._wanted:
                places = np.argpartition(scores, -self._wanted, axis=1)[:, -self._wanted :]
            else:
                places = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
            self._places = places + first
            self._scores = np.take_along_axis(scores, places, axis=1)
            self._floor = self._scores.min(axis=1, keepdims=True)
            return
        better = np.flatnonzero((scores > self._floor).ravel())
        if not len(better):
            return
        query, place = np.divmod(better, scores.shape[1])
        self._waiting.append((query, place + first, scores.ravel()[better]))
        self._count += len(better)
        if self._count > _WAITING * self._queries:
            self.merged()

    def merged(self) -> tuple[Numbers, Array32]:
        """Return places (q, wanted) and scores (q, wanted)."""
        assert self._places is not None
        if self._waiting:
            kept = np.repeat(np.arange(self._queries), self._places.shape[1])
            own = [(kept, self._places.ravel(), self._scores.ravel()), *self._waiting]
            query, place, score = (np.concatenate(each) for each in zip(*own, strict=True))
            order = np.lexsort((-score, query))
            starts = np.searchsorted(query[order], np.arange(self._queries))
            first = order[starts[:, None] + np.arange(self._wanted)]
            self._places, self._scores = place[first], score[first]
            self._floor = self._scores.min(axis=1, keepdims=True)
            self._waiting, self._count = [], 0
        return self._places, self._scores
