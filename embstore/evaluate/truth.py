"""The exact answer to many queries, in one pass over the version with flat memory.

On the server each query would read the whole version: 0.2 s of it at a million rows. Here the
rows come once and are compared with all queries by BLAS, as a replica's exact search does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..catalog import VersionRow
from ..connection import Connection
from ..errors import InvalidQuery
from ..query.stream import Block, blocks
from ..replica.flat import BlasScan, search
from ..replica.scores import Array64, Rows, lengths, set_bits
from ..types import Metric, Precision, Progress
from .queries import Queries

# Compared at a time. Fewer would spend their time on choosing the best of each block.
_BYTES = 32 << 20
_UNIT_ROUNDOFF = 2.0**-24


@dataclass(frozen=True, eq=False)
class Truth:
    """How far away the k nearest rows of each query are.

    Attributes
    ----------
    distances : array (q, k), float64, ascending; infinite where there are fewer rows
    slack : array (q,), float64
        How far the server's distances, computed in float32, may be off.
    """

    distances: Array64
    slack: Array64

    def recall(self, found: Array64) -> Array64:
        """Return which share of each query's k nearest was found (q,).

        A row counts by its distance (q, any number): of rows that are equally near, any will do.
        """
        there = np.isfinite(self.distances)
        wanted = there.sum(axis=1)
        last = np.where(there, self.distances, -np.inf).max(axis=1)
        hits = (found <= (last + self.slack)[:, None]).sum(axis=1)
        return np.asarray(np.minimum(hits, wanted) / np.maximum(wanted, 1) + (wanted == 0))


def exact(
    connection: Connection,
    version: VersionRow,
    queries: Queries,
    k: int,
    report: Callable[[Progress], None] = lambda _: None,
) -> Truth:
    """Compare queries with every row of a version.

    Raises
    ------
    InvalidQuery
        When a query is beyond float16, which the version holds.
    """
    prepared = as_rows(version, _no_vectors(version)).prepare(queries.vectors)
    if version.precision is Precision.FLOAT16 and not np.isfinite(prepared).all():
        raise InvalidQuery(
            f"the queries ({queries.name}) hold a number beyond float16, which {version.ref} holds"
        )
    best = np.full((len(queries), k), np.inf)
    largest, done = 0.0, 0
    with closing(blocks(connection, dataclasses.replace(version, attributes=()))) as stream:
        for block in _gathered(stream, version):
            rows = as_rows(version, block.vectors)
            largest = max(largest, rows.norms.max(initial=0.0))
            among = None
            if version.metric is Metric.COSINE and not rows.norms.all():
                among = np.flatnonzero(rows.norms)  # a zero vector is nobody's neighbour
            wanted = k + (queries.ids is not None)
            near, distances = search(rows, BlasScan(rows), prepared, wanted, among, _by_place)
            if queries.ids is not None:
                own = pc.index_in(queries.ids, block.ids).fill_null(-1).to_numpy()
                distances = np.where(near == own[:, None], np.inf, distances)
            best = np.sort(np.hstack([best, distances]), axis=1)[:, :k]
            done += len(block.ids)
            report(Progress("exact", done, version.rows))
    return Truth(best, _slack(version, queries, best, largest))


def _by_place(rows: NDArray[np.int64]) -> NDArray[Any]:
    # Which of equally near rows comes first is of no interest here.
    return rows


def _no_vectors(version: VersionRow) -> NDArray[Any]:
    bits = version.precision is Precision.BIT
    width = version.precision.nbytes(version.dim) if bits else version.dim
    return np.zeros((0, width), np.uint8 if bits else str(version.precision))


def as_rows(version: VersionRow, vectors: NDArray[Any]) -> Rows:
    """Return some vectors of a version as rows to compare."""
    if version.precision is Precision.BIT:
        norms = set_bits(vectors)
    else:
        norms = lengths(vectors.astype(np.float32, copy=False))
    largest = float(norms.max(initial=0.0))
    return Rows(vectors, norms, version.metric, version.precision, version.dim, largest)


def _gathered(stream: Iterator[Block], version: VersionRow) -> Iterator[Block]:
    """Put small blocks together."""
    held: list[Block] = []
    rows = 0
    most = max(1, _BYTES // (4 * version.dim))
    for block in stream:
        held.append(block)
        rows += len(block.ids)
        if rows >= most:
            yield _joined(held)
            held, rows = [], 0
    if held:
        yield _joined(held)


def _joined(held: list[Block]) -> Block:
    ids = pa.concat_arrays([each.ids for each in held])
    return Block(ids, [], np.concatenate([each.vectors for each in held]))


def _slack(version: VersionRow, queries: Queries, best: Array64, largest: float) -> Array64:
    """Return the rounding of a sum of dim products in float32, as the server computes it."""
    error = (version.dim + 16) * _UNIT_ROUNDOFF
    if version.metric is Metric.IP:
        return np.asarray(error * largest * lengths(queries.vectors))
    if version.metric is Metric.L2:
        return np.asarray(error * np.where(np.isfinite(best), best, 0.0).max(axis=1))
    return np.full(len(queries), 0.0 if version.metric is Metric.HAMMING else error)
