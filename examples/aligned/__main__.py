"""A model trained on last week's vectors, scored on this week's: as they are, and aligned.

Two factorizations (ALS) of the same readers and books, each of four fifths of the readings, are
loaded as two versions. A logistic regression is trained on the vectors of the first, and scored on
those of the second; then on the same vectors, rotated by embstore onto the first (orthogonal
Procrustes: P. Schönemann, Psychometrika 31, 1966).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from threadpoolctl import threadpool_limits

import embstore

from ..data import Array, Data, matrix
from ..report import Report, fresh, main

DIM, PAIRS = 32, 30_000
WEEKS = "week 7", "week 8", "week 8, aligned"
# The versions that one training made, by table.
Refs = dict[str, str]


def train(users: Array, items: Array, shape: tuple[int, int], seed: int) -> Any:
    """Factorize the readings; factors that begin at random have axes of their own."""
    with threadpool_limits(1, "blas"):  # it has threads of its own
        model = AlternatingLeastSquares(DIM, iterations=10, random_state=seed)
        model.fit(matrix(users, items, shape), show_progress=False)
    return model


def load(store: embstore.Store, week: str, model: Any) -> Refs:
    """Load readers and books as a version of each table."""
    return {
        name: store.table(name)
        .load(model, vectors=side, ids="row-number", space=week, zero="keep", index="none")
        .ref
        for name, side in (("aligned_readers", "user_factors"), ("aligned_books", "item_factors"))
    }


def features(store: embstore.Store, refs: Refs, ids: tuple[Array, ...]) -> Array:
    """Return the vectors of books; of readers and books both vectors, and their product."""
    if len(ids) == 1:
        return store[refs["aligned_books"]].lookup(ids[0]).vectors
    users, items = ids
    found = store.features({refs["aligned_readers"]: users, refs["aligned_books"]: items})
    reader, book = (found.vectors[:, each] for each in found.columns.values())
    return np.hstack([reader, book, reader * book])


# A name, the ids that it is about, and the answer for each.
Task = tuple[str, tuple[Array, ...], Array]


def tasks(data: Data, users: Array, items: Array, rng: np.random.Generator) -> Iterator[Task]:
    """Whether a book has one of the four commonest tags; whether a reader will read a book."""
    tags = data.column("tags")
    for name, _ in Counter(tag for own in tags for tag in own).most_common(4):
        yield name, (np.arange(len(tags)),), np.array([name in own for own in tags])
    # Readings that neither week has seen, beside pairs of these readers and books by chance.
    pairs = np.tile(users, 2), np.concatenate([items, rng.permutation(items)])
    yield "will read", pairs, np.repeat([True, False], len(items))


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Train on last week; score on last week, this week, and this week aligned."""
    rng = np.random.default_rng(seed)
    users, items = data.liked()
    for name in ("aligned_readers", "aligned_books"):
        fresh(store, name)
    weeks, refs = [rng.random(len(users)) < 0.8 for _ in range(2)], []
    for number, seen in enumerate(weeks, 7):
        model = train(users[seen], items[seen], data.shape, seed + number)
        refs.append(load(store, f"week-{number}", model))
    old, new = refs
    start = time.monotonic()
    versions = store.align(
        [new["aligned_books"], new["aligned_readers"]], to=old["aligned_books"], index="none"
    )
    aligning = time.monotonic() - start
    books, aligned = versions[0], {each.table: each.ref for each in versions}
    kept = store.compare(old["aligned_books"], new["aligned_books"]).overlap
    assert kept is not None

    rows, fitting = [], 0.0
    unseen = rng.permutation(np.flatnonzero(~weeks[0] & ~weeks[1]))[:PAIRS]
    for name, ids, truth in tasks(data, users[unseen], items[unseen], rng):
        known = rng.random(len(truth)) < 0.5
        x = [features(store, each, ids) for each in (old, new, aligned)]
        # A model that is trained once and scored thrice.
        model = make_pipeline(Normalizer(), StandardScaler(), LogisticRegression(max_iter=1000))
        start = time.monotonic()
        model.fit(x[0][known], truth[known])
        fitting += time.monotonic() - start
        scores = (model.predict_proba(week[~known])[:, 1] for week in x)
        aucs = [float(roc_auc_score(truth[~known], score)) for score in scores]
        rows.append({"AUC of a model of week 7": name, **dict(zip(WEEKS, aucs, strict=True))})
    fit = books.source["aligned"]
    return Report(
        rows,
        f"Five models of week 7 read week 8 without a new training or release; aligning"
        f" {sum(each.rows for each in versions):,} vectors took {aligning:.1f} s. (These models are"
        f" small, and took {fitting:.1f} s.)",
        [
            f"{books.ref} is {fit['from']} rotated onto {fit['to']}: residual"
            f" {fit['residual']:.2f}, {fit['before']:.2f} without; of 10 neighbours of a book"
            f" {10 * kept.mean:.1f} are the same in both weeks, aligned or not."
        ],
        lambda axes: draw(axes, rows),
    )


def draw(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Draw a group of three bars for each task."""
    names = [row["AUC of a model of week 7"] for row in rows]
    for place, week in enumerate(WEEKS):
        axes.bar(np.arange(len(rows)) + 0.27 * (place - 1), [row[week] for row in rows], 0.25)
    axes.set_xticks(range(len(rows)), names)
    axes.set_ylim(0.4, 1)
    axes.set_ylabel("AUC of a model of week 7")
    axes.legend(WEEKS, loc="lower right")


if __name__ == "__main__":
    main(__doc__, run, needs=("tags",))
