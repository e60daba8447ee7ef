"""From rows as a search finds them to ``Neighbors``: thresholds, groups, pages, and the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InvalidQuery
from ..types import IdType, Metric, Neighbors

Array = NDArray[Any]


@dataclass(frozen=True)
class Cut:
    """What of a query's rows is returned.

    Attributes
    ----------
    k : int
    offset : int
        How many of the best are left out before.
    max_distance : float or None
    group_limit : int or None
        How many rows may have the same value in the column ``group``; None in it is no group.
    """

    k: int
    offset: int = 0
    max_distance: float | None = None
    group: str | None = None
    group_limit: int = 1

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("offset", 0), ("group_limit", 1)):
            value = getattr(self, name)
            if not hasattr(value, "__index__"):
                raise InvalidQuery(f"{name} is {value!r}: it must be a whole number")
            if not least <= value.__index__() <= MAX_K:
                raise InvalidQuery(f"{name} is {value}: ask for {least} to {MAX_K}")
            object.__setattr__(self, name, value.__index__())
        if self.max_distance is not None:
            try:
                limit = float(self.max_distance)
            except (TypeError, ValueError):
                limit = np.nan
            if np.isnan(limit):
                raise InvalidQuery(f"max_distance is {self.max_distance!r}: it must be a number")
            object.__setattr__(self, "max_distance", limit)
        if self.group is None and self.group_limit != 1:
            raise InvalidQuery("group_limit goes with per_group, the attribute to group by")

    @property
    def plain(self) -> bool:
        """Whether the first k rows are the answer."""
        return not self.offset and self.max_distance is None and self.group is None

    @property
    def wanted(self) -> int:
        """How many rows of each query are to be fetched."""
        return min(MAX_K, self.offset + self.k)


MAX_K = 2**31 - 1


@dataclass
class Found:
    """Rows of several queries, each query's best first, one query's after the other's.

    Attributes
    ----------
    places : array (n,) of int
        Which query a row answers, from 0; ascending.
    ids : array (n,), int64 or object
    distances : array (n,), float64; NaN where there is no direction to compare
    columns : mapping of attribute to an object array (n,)
    """

    places: Array
    ids: Array
    distances: Array
    columns: Mapping[str, Array]

    def take(self, rows: Array) -> Found:
        """Return some of the rows, by their numbers or by a mask."""
        columns = {name: each[rows] for name, each in self.columns.items()}
        return Found(self.places[rows], self.ids[rows], self.distances[rows], columns)

    def counts(self, queries: int) -> Array:
        """How many rows each query has (queries,)."""
        return np.bincount(self.places, minlength=queries)


@dataclass(frozen=True)
class Without:
    """Ids that each query leaves out of its answer.

    Attributes
    ----------
    ids : array (n,), int64 or string
    starts : array (queries + 1,) of int
        Those of query i are ids[starts[i]:starts[i + 1]].
    """

    ids: pa.Array
    starts: Array

    @property
    def most(self) -> int:
        """How many a query leaves out at most."""
        return int(np.diff(self.starts).max(initial=0))

    def of(self, first: int, last: int) -> Without:
        """Return those of some queries."""
        starts = self.starts[first : last + 1]
        return Without(self.ids[starts[0] : starts[-1]], starts - starts[0])

    def and_also(self, other: Without) -> Without:
        """Return what either leaves out."""
        lengths = np.stack([np.diff(self.starts), np.diff(other.starts)], axis=1)
        places = np.repeat(np.tile(np.arange(len(lengths)), 2), lengths.T.ravel())
        ids = pa.concat_arrays([self.ids, other.ids]).take(np.argsort(places, kind="stable"))
        return Without(ids, np.concatenate([[0], np.cumsum(lengths.sum(axis=1))]))

    def keeps(self, found: Found) -> Array:
        """Return which rows are not left out."""
        if not len(self.ids) or not len(found.ids):
            return np.ones(len(found.ids), bool)
        known = self.ids.unique()
        places = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        out = np.sort(places * len(known) + pc.index_in(self.ids, value_set=known).to_numpy())
        codes = pc.index_in(pa.array(found.ids, known.type), value_set=known)
        asked = found.places * len(known) + codes.fill_null(0).to_numpy()
        at = np.minimum(np.searchsorted(out, asked), len(out) - 1)
        hit = (out[at] == asked) & pc.is_valid(codes).to_numpy(zero_copy_only=False)
        return np.asarray(~hit)


def joined(parts: list[Found]) -> Found:
    """Put the rows of several searches together, in order of their queries."""
    whole = Found(
        np.concatenate([each.places for each in parts]),
        np.concatenate([each.ids for each in parts]),
        np.concatenate([each.distances for each in parts]),
        {name: np.concatenate([each.columns[name] for each in parts]) for name in parts[0].columns},
    )
    return whole.take(np.argsort(whole.places, kind="stable"))


def cut(found: Found, how: Cut) -> Found:
    """Return the rows that are asked for, best first and equal distances in order of the id.

    They are cut in the order in which the search gave them, and put in order after that: so the
    pages of one search have no row in common, whatever is equally near.
    """
    if how.group is not None:
        found = found.take(_rank(found.places, found.columns[how.group]) < how.group_limit)
    if how.max_distance is not None:
        found = found.take(found.distances <= how.max_distance)
    rank = _rank(found.places)
    if how.offset or (len(rank) and rank.max() >= how.k):
        found = found.take((rank >= how.offset) & (rank < how.offset + how.k))
    return found.take(order(found.places, found.distances, found.ids))


def order(places: Array, distances: Array, ids: Array) -> Array:
    """Return the rows' numbers by query, distance and id."""
    ordered = np.lexsort((distances, places))
    near, own = distances[ordered], places[ordered]
    if not ((near[1:] == near[:-1]) & (own[1:] == own[:-1])).any():
        return ordered
    # Text compares by its code points, as in Postgres' collation "C".
    return np.lexsort((ids.astype(str) if ids.dtype == object else ids, distances, places))


def _rank(places: Array, groups: Array | None = None) -> Array:
    """Count within each query, or each query's group, from 0; what has no group is always 0."""
    numbers = np.arange(len(places))
    if groups is None:
        return numbers - np.searchsorted(places, places)
    codes = pa.array(groups).dictionary_encode().indices.fill_null(-1).to_numpy()
    ordered = np.lexsort((codes, places))
    own, code = places[ordered], codes[ordered]
    starts = np.r_[True, (own[1:] != own[:-1]) | (code[1:] != code[:-1])][: len(own)]
    rank = np.empty(len(places), np.int64)
    rank[ordered] = numbers - np.maximum.accumulate(np.where(starts, numbers, 0))
    return np.where(codes < 0, 0, rank)


def neighbors(
    found: Found, queries: int, how: Cut, metric: Metric, id_type: IdType, version: int, show: Any
) -> Neighbors:
    """Lay cut rows out as (queries, width), width being the most that a query has.

    No queries have k columns, so that they can be joined to the answers of others.
    """
    counts = found.counts(queries)
    shape = (queries, int(counts.max()) if queries else how.k)
    at = (found.places, _rank(found.places))
    bigint = id_type is IdType.BIGINT
    ids = np.full(shape, -1 if bigint else None, dtype=np.int64 if bigint else object)
    ids[at] = found.ids
    distances = np.full(shape, np.nan)
    distances[at] = found.distances
    attributes = {}
    for name in show:
        attributes[name] = np.full(shape, None, dtype=object)
        attributes[name][at] = found.columns[name]
    scores = metric.score(distances)
    return Neighbors(ids, scores, distances, attributes, version, counts, how.k)
