"""Boosted trees choose the features, a linear model learns on every day: GBDT + LR.

He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, 2014.

LightGBM is trained once. The leaves that a rating falls into are a version of bits, to which each
day's ratings are appended; linear models look them up, predict the day and then learn from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import embstore
from examples.data import Array, Data
from examples.fields import fields, numbers
from examples.report import Report, fresh, main

DAYS = 10
RATES = (0.0003, 0.001, 0.003)
Features = Callable[[Array], Array]


@dataclass(frozen=True)
class Day:
    """How a model did on one day, before it learned from it.

    Attributes
    ----------
    auc : float
    entropy : float
        Normalized: the log loss beside that of always saying the day's own share of good ratings.
    """

    auc: float
    entropy: float


def calendar(data: Data, seed: int) -> tuple[Array, list[Array]]:
    """Return the ratings of the past, and those of days 0, 1, ..., 10; day 0 is a longer one.

    The ratings have no dates. The books' years stand in for them, roughly, so that what changes is
    real: from day to day there are newer books, of which the past knows less.
    """
    rng = np.random.default_rng(seed)
    year = data.books["year"].to_numpy().astype(float)
    year = np.where(np.isnan(year), np.nanmedian(year), year)[data.items]
    order = np.argsort(year + rng.normal(0, 5, len(year)))
    past, first, later = np.split(order, [int(0.4 * len(order)), int(0.6 * len(order))])
    return np.sort(past), [first, *np.array_split(later, DAYS)]


def judge(good: Array, chance: Array) -> Day:
    """Return how good a day's predictions are."""
    same = log_loss(good, np.full(len(good), good.mean()))
    return Day(float(roc_auc_score(good, chance)), float(log_loss(good, chance) / same))


def day_by_day(
    features: Features, good: Array, days: Sequence[Array], rate: float, *, learns: bool = True
) -> list[Day]:
    """Train a linear model on day 0; each day it predicts, and then learns what was right."""
    model = SGDClassifier(
        loss="log_loss",
        alpha=1e-5,
        learning_rate="constant",
        eta0=rate,
        average=True,
        random_state=0,
    )
    first = features(days[0])
    for _ in range(3):
        model.partial_fit(first, good[days[0]], classes=[0, 1])
    found = []
    for day in days[1:]:
        own = features(day)
        found.append(judge(good[day], model.predict_proba(own)[:, 1]))
        if learns:
            model.partial_fit(own, good[day])
    return found


def encode(table: embstore.Table, trees: Any, X: Array, days: Sequence[Array]) -> embstore.Version:
    """Load the leaves of day 0's ratings as a version, and append each day's as it comes.

    The id of a rating is its row.
    """
    version = table.load(trees, X=X[days[0]], ids=days[0], index="none", promote=True)
    for number, day in enumerate(days[1:], 1):
        version.append(trees, X=X[day], ids=day, message=f"day {number}")
    return table.live


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Train the trees once, and linear models on their leaves day by day."""
    if len(data.users) > 300_000:
        data = data.smaller(1 / 4)
    both = fields(data, "author", "genre")
    past, days = calendar(data, seed)
    X = np.stack(list(numbers(data, both, past).values()), axis=1)
    good = both.good

    start = time.perf_counter()
    trees: Any = LGBMClassifier(
        n_estimators=50,
        num_leaves=16,
        min_child_samples=50,
        random_state=seed,
        n_jobs=1,
        verbose=-1,
    ).fit(X[days[0]], good[days[0]])
    training, start = time.perf_counter() - start, time.perf_counter()
    version = encode(fresh(store, "gbdt_lr_leaves", metric="jaccard"), trees, X, days)
    encoding = time.perf_counter() - start

    seconds, rows = 0.0, 0

    def leaves(day: Array) -> Array:
        nonlocal seconds, rows
        start = time.perf_counter()
        found = version.lookup(day).vectors
        seconds, rows = seconds + time.perf_counter() - start, rows + len(day)
        return found

    scaler = make_pipeline(SimpleImputer(), StandardScaler()).fit(X[days[0]])
    runs = {
        "LR on the numbers, online": day_by_day(
            lambda day: scaler.transform(X[day]), good, days, RATES[1]
        ),
        "LightGBM, of day 0": [
            judge(good[day], trees.predict_proba(X[day])[:, 1]) for day in days[1:]
        ],
        "GBDT + LR, of day 0": day_by_day(leaves, good, days, RATES[1], learns=False),
    }
    for rate in RATES:
        runs[f"GBDT + LR, online, rate {rate:g}"] = day_by_day(leaves, good, days, rate)
    return Report(
        [row(name, found) for name, found in runs.items()],
        f"{len(RATES) + 1} trainings of the linear part read one version of the trees, which took"
        f" {training:.1f} s to train and {encoding:.1f} s to apply and load, once: {rows:,} lookups"
        f" of {version.dim} bits in {seconds:.1f} s.",
        [
            f"{len(past):,} ratings for the numbers, {len(days[0]):,} of day 0 for the trees,"
            f" about {len(days[1]):,} a day for {DAYS} days",
            f"{version.ref}: {version.rows:,} ratings, {version.appended:,} of them appended day by"
            f" day, {version.dim} bits each ({version.dim // 8} bytes)",
        ],
        drawn(runs),
    )


def row(name: str, found: Sequence[Day]) -> dict[str, Any]:
    """Return a model's row of the table."""
    return {
        "model": name,
        "AUC, day 1": found[0].auc,
        f"AUC, day {DAYS}": found[-1].auc,
        "mean AUC": float(np.mean([each.auc for each in found])),
        "mean normalized entropy": float(np.mean([each.entropy for each in found])),
    }


def drawn(runs: Mapping[str, Sequence[Day]]) -> Callable[[Any], None]:
    """Draw the normalized entropy over the days."""

    def draw(axes: Any) -> None:
        for name, found in runs.items():
            axes.plot(range(1, DAYS + 1), [each.entropy for each in found], label=name)
        axes.set_xlabel("day")
        axes.set_ylabel("normalized entropy")
        axes.legend(fontsize="small")

    return draw


if __name__ == "__main__":
    main(__doc__, run, needs=("rating", "year"))
