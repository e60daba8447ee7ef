"""The k best items of some users: of a version, or just the most popular ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ..interactions import Interactions
from ..reads import Reads
from ..recall import best
from ..types import Metric, Vectors


@dataclass(frozen=True, eq=False)
class Lists:
    """The best items of some users.

    Attributes
    ----------
    items : Arrow array (users * k,)
        The first k are of the first user; null where a list has no more.
    answered : array (users,), bool
        Who got any.
    """

    items: pa.Array
    answered: NDArray[np.bool_]


# Users times popular items looked at together: some 80 MB.
_CELLS = 16 << 20
# The lists of a block of users, given their ids.
Lister = Callable[[pa.Array], Lists]
# The vectors of a block of users (n, dim), and who has one (n,).
Asking = Callable[[pa.Array], tuple[Vectors, NDArray[np.bool_]]]


def of_version(
    items: Reads,
    asking: Asking,
    k: int,
    seen: Interactions | None,
    *,
    exact: bool,
) -> Lister:
    """Return what recalls items by the users' vectors; who has none gets nothing."""

    kind = pa.int64() if items.id_type == "bigint" else pa.string()

    def lists(users: pa.Array) -> Lists:
        vectors, known = asking(users)
        places = np.flatnonzero(known)
        ids = users.take(pa.array(places))
        found = best(items, ids, vectors[places], k, seen, exact=exact) if len(ids) else None
        if found is None:
            return _filled(users, k, np.array([], np.int64), pa.array([], kind))
        place, rank, item, _ = found
        return _filled(users, k, places[place] * k + rank - 1, pa.array(item, kind))

    return lists


def of_popularity(k: int, seen: Interactions) -> Lister:
    """Return what gives every user the items with the most users, less those already seen.

    Of items with as many users, the one that comes first in order of the id is the more popular.
    """
    values = seen.items.value_counts()
    counts = values.field("counts").to_numpy()
    order = np.lexsort((pc.rank(values.field("values"), tiebreaker="first").to_numpy(), -counts))
    popular = values.field("values").take(pa.array(order))

    def lists(users: pa.Array) -> Lists:
        lengths = seen.lengths(users)
        # Who has seen n of them finds the k best others among the first n + k.
        most = min(len(popular), int(lengths.max(initial=0)) + k)
        step = max(1, _CELLS // most)
        at, found = [], []
        for first in range(0, len(users), step):
            free = _unseen(users.slice(first, step), lengths[first : first + step], most)
            ranks = np.cumsum(free, axis=1, dtype=np.int32)
            row, place = np.nonzero(free & (ranks <= k))
            at.append((first + row) * k + ranks[row, place] - 1)
            found.append(place)
        taken = popular.take(pa.array(np.concatenate(found)))
        return _filled(users, k, np.concatenate(at), taken)

    def _unseen(users: pa.Array, lengths: NDArray[Any], most: int) -> NDArray[np.bool_]:
        free = np.ones((len(users), most), bool)
        places = pc.index_in(seen.lists(users).flatten(), value_set=popular).to_numpy()
        rows = np.repeat(np.arange(len(users)), lengths)
        near = places < most
        free[rows[near], places[near]] = False
        return free

    return lists


def of_users(users: Reads) -> Asking:
    """Return what looks the users' vectors up."""

    def vectors(ids: pa.Array) -> tuple[Vectors, NDArray[np.bool_]]:
        found = users.lookup(ids, "zero")
        return found.vectors, found.found

    return vectors


def of_history(items: Reads, seen: Interactions) -> Asking:
    """Return what makes a user's vector: the mean of those of the items seen, as directions."""

    def vectors(users: pa.Array) -> tuple[Vectors, NDArray[np.bool_]]:
        known = seen.lists(users)
        lengths = seen.lengths(users)
        distinct = known.flatten().dictionary_encode()
        found = items.lookup(distinct.dictionary, "zero")
        rows = found.vectors.astype(np.float64)
        if items._target().metric is Metric.COSINE:
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where(norms > 0, norms, 1)
        places = np.repeat(np.arange(len(users)), lengths)
        columns = distinct.indices.to_numpy()
        there = found.found[columns]
        shape = (len(users), len(rows))
        holds = csr_array((there.astype(np.float64), (places, columns)), shape)
        counts = np.bincount(places, there, len(users))
        means: Vectors = ((holds @ rows) / np.maximum(counts, 1)[:, None]).astype(np.float32)
        return means, counts > 0

    return vectors


def _filled(users: pa.Array, k: int, at: NDArray[Any], items: pa.Array) -> Lists:
    """Put items where they belong; the rest is null."""
    taken = np.full(len(users) * k, -1)
    taken[at] = np.arange(len(at))
    answered = np.asarray((taken >= 0).reshape(len(users), k).any(axis=1))
    return Lists(items.take(pa.array(taken, mask=taken < 0)), answered)
