"""What readers do by chance cannot be foretold: an example that does has seen the answers."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from embstore import Store
from examples.data import Data, generated, held_out
from examples.fields import Fields


def by_chance(books: int, readers: int, each: int, ratings: tuple[int, ...], seed: int) -> Data:
    """Make up readers who take to as many books each, and rate them, by chance."""
    rng = np.random.default_rng(seed)
    items = np.sort(rng.random((readers, books)).argsort(axis=1)[:, :each], axis=1).ravel()
    users = np.repeat(np.arange(readers), each)
    known = generated(books, readers, seed)
    nobody = np.empty(0, np.int64)
    return replace(
        known,
        users=users,
        items=items,
        ratings=rng.choice(ratings, len(users)),
        wanted=(nobody, nobody),
    )


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")  # of myFM
@pytest.mark.parametrize(
    ("name", "sizes", "most"),
    [
        ("airbnb", (120, 150, 30, (5,)), {"AUC": 0.6, "new books: AUC": 0.6}),
        ("aligned", (1200, 200, 40, (5,)), {"week 7": 0.65, "week 8, aligned": 0.65}),
        ("coldstart", (120, 150, 30, (5,)), {"held-out reader@10": 0.25}),
        (
            "eges",
            (120, 80, 40, (5,)),
            {"new: held-out reader@10": 0.25, "known: held-out reader@10": 0.42},
        ),
        (
            "fm_features",
            (120, 150, 30, (3, 5)),
            {"logistic regression": 0.57, "boosted trees": 0.57},
        ),
        ("gbdt_lr", (120, 150, 30, (3, 5)), {"mean AUC": 0.56}),
        ("pca", (120, 150, 30, (5,)), {"hit rate@10": 0.65}),
        ("pinsage", (300, 300, 40, (5,)), {"held-out reader@10": 0.095}),
        ("two_rhythms", (120, 150, 30, (5,)), {"AUC, days 0-4": 0.54, "days 5-9": 0.54}),
    ],
)
def test_what_is_by_chance_is_not_known(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    sizes: tuple[int, int, int, tuple[int, ...]],
    most: dict[str, float],
) -> None:
    example = import_module(f"examples.{name}.__main__")
    if name == "two_rhythms":
        monkeypatch.setattr(example, "HOURS", 6)
    rows = example.run(store, by_chance(*sizes, seed=0), seed=0).rows
    for column, limit in most.items():
        assert max(row[column] for row in rows) < limit, column


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")  # of myFM
@pytest.mark.parametrize(
    ("name", "trainings"),
    [("embedding_layer", ["fit"]), ("fm_to_fnn", ["fit", "factorization_machine"])],
)
def test_networks_are_held_away_from_what_they_are_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str, trainings: list[str]
) -> None:
    example, data = import_module(f"examples.{name}.__main__"), generated(60, 60)
    held = held_out(data.users)
    asked = set(zip(data.users[held], data.items[held], strict=True))

    def watched(train: Any) -> Any:
        def instead(*given: Any, **how: Any) -> Any:
            seen = next(each for each in given if isinstance(each, Fields))
            assert not asked & set(map(tuple, seen.codes[:, :2]))  # reader and book
            return train(*given, **how)

        return instead

    for training in trainings:
        monkeypatch.setattr(example, training, watched(getattr(example, training)))
    example.run(store, data, seed=0)
