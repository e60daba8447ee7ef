"""Measures of ranked lists against the items that each user took to, all of one weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Of each user, so that their mean has an interval; coverage is of all lists together.
NAMES = ("hit_rate", "recall", "ndcg", "mrr", "novelty")


def of_users(
    hits: NDArray[np.bool_], relevant: NDArray[np.int64], surprise: Array, k: int
) -> dict[str, Array]:
    """Return the measures of each user's first k items.

    Parameters
    ----------
    hits : array (users, rank)
        Whether the item at that rank is one that was held out.
    relevant : array (users,)
        How many items were held out, at least 1.
    surprise : array (users, rank)
        Of each item how unexpected it is, in bits; NaN where there is no item, or nothing is known.
    k : int

    Returns
    -------
    mapping of ``NAMES`` to array (users,)
        ``hit_rate``: 1 where any was found. ``recall``: the share of the held-out ones that was
        found. ``ndcg``: the sum of 1 / log2(rank + 1) over the hits, divided by the best that is
        possible in k ranks (Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR
        techniques", 2002). ``mrr``: 1 / the rank of the first hit, else 0. ``novelty``: the mean
        surprise of the list (Zhou et al., "Solving the apparent diversity-accuracy dilemma of
        recommender systems", 2010), NaN for a list without items.
    """
    hits, surprise = hits[:, :k], surprise[:, :k]
    found = hits.sum(axis=1)
    gains = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(gains)[np.minimum(relevant, k) - 1]
    first = np.where(found > 0, hits.argmax(axis=1) + 1, np.inf)
    there = ~np.isnan(surprise)
    known = there.sum(axis=1)
    total = np.where(there, surprise, 0).sum(axis=1)
    return {
        "hit_rate": (found > 0).astype(np.float64),
        "recall": found / relevant,
        "ndcg": hits @ gains[: hits.shape[1]] / best,
        "mrr": 1 / first,
        "novelty": np.where(known > 0, total / np.maximum(known, 1), np.nan),
    }
