"""How far a mean over users might be another with other users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONFIDENCE = 0.95


def means(values: Array) -> Array:
    """Return the mean of each column, NaN left out."""
    there = ~np.isnan(values)
    counts = there.sum(axis=0)
    total = np.where(there, values, 0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def resampled(values: Array, resamples: int, seed: int) -> Array:
    """Return the means of the columns among users drawn with replacement, again and again.

    All columns are of the same users in each draw, so that the differences of two columns have the
    interval of a paired comparison (Efron, "Bootstrap methods: another look at the jackknife",
    1979).

    Parameters
    ----------
    values : array (users, columns)
        NaN is left out of a mean.

    Returns
    -------
    array (columns, resamples)
    """
    users = len(values)
    there = (~np.isnan(values)).astype(np.float64)
    filled = np.where(there > 0, values, 0)
    rng = np.random.default_rng(seed)
    found = np.empty((values.shape[1], resamples))
    for draw in range(resamples):
        times = np.bincount(rng.integers(0, users, users), minlength=users).astype(np.float64)
        with np.errstate(invalid="ignore"):
            found[:, draw] = (times @ filled) / (times @ there)
    return found


def interval(distribution: Array) -> tuple[float, float]:
    """Return the percentile interval of ``CONFIDENCE``."""
    outside = 50 * (1 - CONFIDENCE)
    low, high = np.nanpercentile(distribution, [outside, 100 - outside])
    return float(low), float(high)
