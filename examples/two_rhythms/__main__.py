"""Embeddings of the week under a model of the hour, over ten days: aligned, and not.

A large embedding model is trained once a week; a small model that takes its vectors as features
learns on by the hour. On day 5 the new embeddings come, readers and books in one release, with axes
of their own (Hamilton, Leskovec & Jurafsky 2016 align such versions by orthogonal Procrustes). The
model of the hour knows only the old axes, unless the store rotates the new vectors onto these.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import embstore

from ..aligned.__main__ import train
from ..data import Array, Data
from ..report import Report, fresh, main

DAYS, SECOND, HOURS, DIM = 10, 5, 24, 32
READERS, BOOKS = "two_rhythms_readers", "two_rhythms_books"
LINEAR, NETWORK = "logistic regression", "network"
STAY, RAW, ALIGNED = "not used", "as it is", "aligned"


@dataclass(frozen=True)
class Events:
    """What was shown to whom, in order of time.

    Attributes
    ----------
    users, items : array (n,), int64
    taken : array (n,), bool
        Half of them.
    times : array (n,), float
        In days; history is below 0.
    """

    users: Array
    items: Array
    taken: Array
    times: Array

    def between(self, start: float, end: float) -> Events:
        """Return those of a while."""
        some = slice(*np.searchsorted(self.times, [start, end]))
        return Events(self.users[some], self.items[some], self.taken[some], self.times[some])


def timeline(data: Data, seed: int) -> Events:
    """Spread what readers took to over ten days of history and ten to come, by chance.

    The data have no times. Beside each book that was taken, one was shown that the reader did not
    take to: what somebody took at that time, so that popular books are shown more.
    """
    users, items = data.liked()
    rng = np.random.default_rng(seed)
    other = items[rng.permutation(len(items))]
    known = np.isin(users * len(data.books) + other, users * len(data.books) + items)
    times = rng.uniform(-DAYS, DAYS, len(users))
    order = np.argsort(np.concatenate([times, times[~known]]), kind="stable")
    return Events(
        np.concatenate([users, users[~known]])[order],
        np.concatenate([items, other[~known]])[order],
        (np.arange(len(order)) < len(users))[order],
        np.concatenate([times, times[~known]])[order],
    )


def embed(store: embstore.Store, data: Data, seen: Events, week: str, seed: int) -> dict[str, int]:
    """Factorize what was taken, and load readers and books as versions of one space."""
    model = train(seen.users[seen.taken], seen.items[seen.taken], data.shape, seed)
    return {
        name: store.table(name)
        .load(model, vectors=side, ids="row-number", space=week, index="none")
        .number
        for name, side in ((READERS, "user_factors"), (BOOKS, "item_factors"))
    }


def features(look: Any, events: Events) -> Array:
    """Look up both tables at one moment: both vectors, and their product.

    ``look`` is ``store.features``, for what is live, or ``store.as_of(t).features``.
    """
    found = look({READERS: events.users, BOOKS: events.items})
    reader, book = (found.vectors[:, each] for each in found.columns.values())
    return np.hstack([reader, book, reader * book])


class Ranker:
    """A model of the hour: what a day taught it, and then each hour."""

    def __init__(self, model: Any, x: Array, taken: Array) -> None:
        self.model, self.scaler = model, StandardScaler().fit(x)
        for _ in range(15):
            model.partial_fit(self.scaler.transform(x), taken, classes=[False, True])

    def score(self, x: Array) -> Array:
        """Return how likely each is to be taken."""
        return np.asarray(self.model.predict_proba(self.scaler.transform(x))[:, 1])

    def learn(self, x: Array, taken: Array) -> None:
        """Go once over the events of an hour."""
        self.model.partial_fit(self.scaler.transform(x), taken)


def rankers(x: Array, taken: Array, seed: int) -> dict[str, Ranker]:
    """Train a linear model and a network."""
    return {
        LINEAR: Ranker(
            SGDClassifier("log_loss", learning_rate="constant", eta0=2e-4, random_state=seed),
            x,
            taken,
        ),
        NETWORK: Ranker(MLPClassifier((32,), random_state=seed), x, taken),
    }


def live(
    store: embstore.Store, events: Events, models: dict[str, Ranker], days: range
) -> dict[str, list[float]]:
    """Score every hour with the vectors that are live, then learn from it: the AUC of each day."""
    aucs: dict[str, list[float]] = {name: [] for name in models}
    for day in days:
        scores: dict[str, list[Array]] = {name: [] for name in models}
        for hour in range(HOURS):
            now = events.between(day + hour / HOURS, day + (hour + 1) / HOURS)
            x = features(store.features, now)
            for name, model in models.items():
                scores[name].append(model.score(x))
                model.learn(x, now.taken)
        for name, own in scores.items():
            taken = events.between(day, day + 1).taken
            aucs[name].append(float(roc_auc_score(taken, np.concatenate(own))))
    return aucs


def refused(store: embstore.Store, number: int) -> str:
    """Try to make new books live under the old readers; return the store's reason not to."""
    try:
        store.promote(f"{BOOKS}@{number}")
    except embstore.SpaceMismatch as error:
        return str(error)
    return "nothing: they are live"


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Live through ten days; the second five thrice."""
    if data.shape[0] > 20_000:
        data = data.smaller(1 / 5)
    for name in (READERS, BOOKS):
        fresh(store, name, metric="ip")
    events = timeline(data, seed)
    # The last day before the first is for the models of the hour: the vectors must not know it.
    first = embed(store, data, events.between(-DAYS, -1), "week 1", seed)
    begun = store.release(first, message="week 1")
    for name, number in first.items():
        store.pin(f"{name}@{number}", by="the models of the hour")
    day = events.between(-1, 0)
    models = rankers(features(store.features, day), day.taken, seed)
    before = live(store, events, models, range(SECOND))

    second = embed(store, data, events.between(-DAYS, SECOND), "week 2", seed + 1)
    rest = range(SECOND, DAYS)
    after = {STAY: live(store, events, copy.deepcopy(models), rest)}
    why = refused(store, second[BOOKS])
    store.release(second, message="week 2")
    after[RAW] = live(store, events, copy.deepcopy(models), rest)
    store.rollback(BOOKS, message="the models of the hour lost their way")  # readers go along

    start = time.perf_counter()
    new = [f"{BOOKS}@{second[BOOKS]}", f"{READERS}@{second[READERS]}"]
    aligned = store.align(new, to=f"{BOOKS}@{first[BOOKS]}", index="none")
    aligning = time.perf_counter() - start
    store.release({each.table: each.number for each in aligned}, message="week 2, aligned")
    after[ALIGNED] = live(store, events, copy.deepcopy(models), rest)

    curves = {
        (model, way): before[model] + found[model]
        for model in models
        for way, found in after.items()
    }
    raw, turned = (np.array(curves[NETWORK, each][SECOND:]) for each in (RAW, ALIGNED))
    assert begun.moved_at is not None
    then = features(store.as_of(begun.moved_at).features, day)
    rotated = sum(each.rows for each in aligned)
    return Report(
        [_row(*names, aucs) for names, aucs in curves.items()],
        f"Rotating {rotated:,} vectors took {aligning:.1f} s. Without, the network"
        f" lost {turned[0] - raw[0]:.3f} AUC on the first day and, learning by the hour, was"
        f" behind on {(raw < turned).sum()} of {len(raw)} days.",
        [
            f"Books of week 2 alone: {why}",
            f"A day's {len(then):,} rows of features as of the first release,"
            f" {BOOKS}@{store.as_of(begun.moved_at)[BOOKS].number}, though live is"
            f" {store[BOOKS].ref}; the pin keeps them.",
        ],
        lambda axes: draw(axes, curves),
    )


def _row(model: str, way: str, aucs: list[float]) -> dict[str, Any]:
    return {
        "week 2": way,
        "model of the hour": model,
        "AUC, days 0-4": float(np.mean(aucs[:SECOND])),
        "day 5": aucs[SECOND],
        "day 9": aucs[-1],
        "days 5-9": float(np.mean(aucs[SECOND:])),
    }


def draw(axes: Any, curves: dict[tuple[str, str], list[float]]) -> None:
    """Draw the AUC of each day: solid the network, dotted the linear model."""
    for (model, way), aucs in curves.items():
        color = {STAY: "C7", RAW: "C3", ALIGNED: "C0"}[way]
        solid = model == NETWORK
        axes.plot(aucs, "-" if solid else ":", color=color, label=way if solid else None)
    axes.axvline(SECOND - 0.5, color="0.8", zorder=0)
    axes.set_xlabel("day")
    axes.set_ylabel("AUC of the network; dotted: linear")
    axes.legend(loc="best")


if __name__ == "__main__":
    main(__doc__, run)
