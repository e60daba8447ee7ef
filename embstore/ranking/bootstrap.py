"""How far a mean over users might be another with other users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

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
    users, columns = values.shape
    there = (~np.isnan(values)).astype(np.float64)
    filled = np.where(there > 0, values, 0)

    def drawn(places: NDArray[np.int64], axis: int) -> Array:
        times = np.stack([np.bincount(each, minlength=users) for each in places.reshape(-1, users)])
        with np.errstate(invalid="ignore"):
            found = (times @ filled) / (times @ there)
        return found.T.reshape(columns, *places.shape[:-1])

    found = bootstrap(
        (np.arange(users),),
        drawn,
        n_resamples=resamples,
        batch=10,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return np.asarray(found.bootstrap_distribution).reshape(columns, resamples)


def interval(distribution: Array) -> tuple[float, float]:
    """Return the percentile interval of ``CONFIDENCE``."""
    outside = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(distribution, [outside, 100 - outside])
    return float(low), float(high)
