"""Vectors of a factorization machine as features of another model, in a scikit-learn pipeline.

Rendle, Factorization Machines, 2010.

A machine learns vectors from past ratings. Classifiers that predict whether a newer rating is 4 or
5 look them up, beside numbers such as the share of good ones among the reader's. Next week's
vectors go live, and the classifiers go on reading those that they were fitted on.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import embstore
from embstore.sklearn import EmbeddingFeatures
from examples.data import Array, Data, held_out
from examples.fields import Fields, factorization_machine, fields, load_machine, numbers
from examples.report import Report, bars, fresh, main

NAMES = ("author", "genre")
RANK, ITERATIONS = 8, 60
STEM = "fm_features"
CLASSIFIERS = {
    "logistic regression": make_pipeline(
        SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "boosted trees": HistGradientBoostingClassifier(random_state=0),
}
ROWS = (
    "without vectors",
    "with vectors of week 1",
    "the same, week 2 live",
    "if they had followed",
    "fitted again",
)


def frame(data: Data, both: Fields, past: Array) -> pd.DataFrame:
    """Return of each rating the ids of all fields, and numbers that the past alone tells."""
    columns: dict[str, Any] = {
        name: np.array(ids)[codes]
        for (name, ids), codes in zip(both.vocabularies.items(), both.codes.T, strict=True)
    }
    return pd.DataFrame(columns | numbers(data, both, past))


def pipeline(classifier: Any, ids: list[str], vectors: Any) -> Pipeline:
    """Return a classifier of the frame: ids become ``vectors``, numbers stay."""
    return make_pipeline(
        ColumnTransformer([("ids", vectors, ids)], remainder="passthrough"), classifier
    )


def publish(store: embstore.Store, seen: Fields, week: int, seed: int) -> float:
    """Train a machine, load its vectors and make them live; returns the seconds of training."""
    start = time.perf_counter()
    machine = factorization_machine(seen, RANK, ITERATIONS, seed + week)
    spent = time.perf_counter() - start
    loaded = load_machine(store, STEM, machine, seen, space=f"week {week}")
    store.release({f"{STEM}_{name}": version.number for name, version in loaded.items()})
    return spent


def fitted_on(model: Pipeline) -> dict[str, str]:
    """Return the versions that a pipeline reads, by column."""
    versions: dict[str, str] = model[0].named_transformers_["ids"].versions_
    return versions


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Fit classifiers with and without vectors, then let the next vectors go live."""
    if len(data.users) > 300_000:
        data = data.smaller(1 / 4)
    both = fields(data, *NAMES)
    rng = np.random.default_rng(seed)
    test = held_out(data.users, seed=seed)
    # Vectors and means are of the past, classifiers learn from what came after: a vector knows the
    # ratings that it was trained on, and a classifier would trust it too much on these.
    past = ~test & (rng.random(len(test)) < 0.6)
    recent = ~test & ~past
    table = frame(data, both, past)
    ids = list(both.vocabularies)
    for name in ids:
        fresh(store, f"{STEM}_{name}", metric="ip")

    def learn(classifier: Any, how: Any) -> Pipeline:
        return pipeline(clone(classifier), ids, how).fit(table[recent], both.good[recent])

    def score(model: Any, features: Any) -> float:
        return float(roc_auc_score(both.good[test], model.predict_proba(features)[:, 1]))

    rows: dict[str, dict[str, float]] = {each: {} for each in ROWS}
    weeks = [past & (rng.random(len(test)) < 0.9) for _ in range(2)]  # much the same ratings
    training = publish(store, both[weeks[0]], 1, seed)
    vectors = EmbeddingFeatures(store, {name: f"{STEM}_{name}" for name in ids})
    models = {name: learn(each, vectors) for name, each in CLASSIFIERS.items()}
    for name, model in models.items():
        rows["without vectors"][name] = score(learn(CLASSIFIERS[name], "drop"), table[test])
        rows["with vectors of week 1"][name] = score(model, table[test])
    read = fitted_on(models["boosted trees"])
    for ref in read.values():
        store.pin(ref, by="fm_features")  # no clearing up drops what a model reads

    publish(store, both[weeks[1]], 2, seed)
    for name, model in models.items():
        rows["the same, week 2 live"][name] = score(model, table[test])
        moved = clone(model[:-1]).fit(table[recent])  # what is live now, under the old classifier
        rows["if they had followed"][name] = score(model[-1], moved.transform(table[test]))
        again = learn(CLASSIFIERS[name], vectors)
        rows["fitted again"][name] = score(again, table[test])
    start = time.perf_counter()
    vectors.fit(table[ids]).transform(table.loc[test, ids])
    looking = time.perf_counter() - start
    return Report(
        [{"features": each, **own} for each, own in rows.items()],
        f"One training of the machine ({training:.1f} s) gave {len(models)} classifiers their"
        f" features: {int(test.sum()):,} rows of {len(ids)} ids each are looked up in"
        f" {looking:.2f} s.",
        [
            f"{int(past.sum()):,} ratings for vectors and means, {int(recent.sum()):,} for the"
            f" classifiers, {int(test.sum()):,} for the test",
            f"fitted on {', '.join(read.values())}",
            f"fitted again on {', '.join(fitted_on(again).values())}",
        ],
        bars([{"features": each, **own} for each, own in rows.items()], "boosted trees"),
    )


if __name__ == "__main__":
    main(__doc__, run, needs=("rating",))
