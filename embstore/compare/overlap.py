"""Neighbour overlap: of the k nearest an id had, how many are still among its k nearest.

It needs no alignment, since neither rotation nor dim changes who is near; so it is what can be said
of any two versions (Wang et al., "Towards Understanding the Instability of Network Embedding",
2020; Antoniak & Mimno, "Evaluating the Stability of Embedding-based Word Similarities", 2018).
"""

from __future__ import annotations

from collections.abc import Callable
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
from ..evaluate.queries import check_sample
from ..evaluate.recall import check_k
from ..evaluate.truth import as_rows
from ..query.target import id_array
from ..replica.flat import BlasScan, ordered, search
from ..types import Precision
from .measures import error_of_mean
from .pairs import Pairs, directed, drawn, no_vectors, pairs

SAMPLE = 1000


@dataclass(frozen=True, eq=False)
class Overlap:
    """The neighbour overlap of a sample of ids.

    Attributes
    ----------
    k : int
        Neighbours of each id; fewer where fewer ids are in common.
    ids : array (n,), int64 or object (str)
    values : array (n,), float64
        Of each id: the share of its old neighbours that are among its new ones.
    common : int
        The ids that both versions have (under cosine without zero vectors), of which these were
        drawn.
    mean, error : float
        Their mean, and its standard error as an estimate for all common ids; 0 when these are all.
    """

    k: int
    ids: NDArray[Any]
    values: NDArray[np.float64]
    common: int
    mean: float
    error: float

    def __len__(self) -> int:
        return len(self.values)


def overlap(
    connection: Connection,
    old: VersionRow,
    new: VersionRow,
    k: int = 10,
    sample: int | None = SAMPLE,
    seed: int = 0,
    report: Callable[[int], None] = lambda _: None,
) -> Overlap:
    """Measure the neighbour overlap@k on a sample of the ids that both versions have.

    The neighbours are exact, each version's by its own metric, and taken from the common ids alone,
    so that ids which came or went do not count as change. All of them pass once, as pairs, and are
    compared by BLAS in blocks: the memory does not grow with them. Of equally near ids the lower
    one comes first.

    Parameters
    ----------
    k : int
        1 to 1000.
    sample : int or None
        How many ids to draw; None takes all, which takes the square of their number.
    report : callable
        Called with the pairs done.

    Raises
    ------
    InvalidQuery
        When the versions have less than two ids in common, or k or sample is none.
    """
    check_k(k)
    check_sample(sample, seed)
    with connection.transaction():  # a drop waits
        found = of_pairs(connection, old, new, k, sample, seed, report)
    if found is None:
        raise InvalidQuery(
            f"{old.ref} and {new.ref} have less than two ids in common that can be compared: there"
            " are no neighbours"
        )
    return found


def of_pairs(
    connection: Connection,
    old: VersionRow,
    new: VersionRow,
    k: int,
    sample: int | None,
    seed: int,
    report: Callable[[int], None] = lambda _: None,
    beside: Callable[[Pairs], None] = lambda _: None,
) -> Overlap | None:
    """Likewise in the caller's transaction; ``beside`` is shown all pairs that pass.

    None where less than two ids can be compared.
    """
    asked = drawn(connection, old, new, sample or 2**62, seed)
    asked = directed(asked, old, new)
    sides = [_Nearest(old, asked.ids, asked.old, k), _Nearest(new, asked.ids, asked.new, k)]
    done = compared = 0
    with closing(pairs(connection, old, new)) as stream:
        for block in stream:
            done += len(block)
            beside(block)
            block = directed(block, old, new)
            compared += len(block)
            sides[0].offer(block.ids, block.old)
            sides[1].offer(block.ids, block.new)
            report(done)
    if compared < 2:
        return None
    values = _shared(*sides)
    return Overlap(
        min(k, compared - 1),
        id_array(asked.ids),
        values,
        compared,
        float(values.mean()),
        error_of_mean(values, compared),
    )


class _Nearest:
    """The k nearest ids so far of some ids of one version."""

    def __init__(self, version: VersionRow, ids: pa.Array, vectors: NDArray[Any], k: int) -> None:
        self._version, self._own, self._k = version, ids, k
        if version.precision is Precision.BIT:
            vectors = np.unpackbits(vectors, axis=1, count=version.dim)
        floats = vectors.astype(np.float32)
        self._queries = as_rows(version, no_vectors(version)).prepare(floats)
        self.ids = np.zeros((len(ids), 0), id_array(ids).dtype)
        self.distances = np.zeros((len(ids), 0))

    def offer(self, ids: pa.Array, vectors: NDArray[Any]) -> None:
        """Take from some more rows what belongs to the nearest."""
        if not len(ids) or not len(self._own):
            return
        rows, names = as_rows(self._version, vectors), id_array(ids)
        near, far = search(
            rows, BlasScan(rows), self._queries, self._k + 1, None, lambda each: names[each]
        )
        own = pc.index_in(self._own, ids).fill_null(-1).to_numpy()
        far = np.where(near == own[:, None], np.inf, far)
        both, distances = np.hstack([self.ids, names[near]]), np.hstack([self.distances, far])
        flat = both.ravel()
        places, distances = ordered(
            np.arange(flat.size).reshape(both.shape), distances, lambda each: flat[each]
        )
        self.ids = flat[places[:, : self._k]]
        self.distances = distances[:, : self._k]


def _shared(old: _Nearest, new: _Nearest) -> NDArray[np.float64]:
    """Return the share of each query's old neighbours that are among its new ones."""
    there, here = np.isfinite(old.distances), np.isfinite(new.distances)
    same = (old.ids[:, :, None] == new.ids[:, None, :]) & there[:, :, None] & here[:, None, :]
    return np.asarray(same.any(axis=2).sum(axis=1) / np.maximum(there.sum(axis=1), 1))
