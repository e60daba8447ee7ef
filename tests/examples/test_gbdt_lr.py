"""GBDT + LR: leaves that are looked up serve a linear model better than what they are made of."""

import numpy as np

import embstore
from examples.data import generated
from examples.gbdt_lr.__main__ import day_by_day, run


def test_leaves_are_better_than_the_numbers(store: embstore.Store) -> None:
    report = run(store, generated(300, 1000), seed=0)
    numbers, trees, once, _, online, _ = report.rows
    assert online["mean AUC"] > numbers["mean AUC"] - 0.005
    assert online["mean normalized entropy"] < numbers["mean normalized entropy"] - 0.02
    assert online["mean normalized entropy"] < trees["mean normalized entropy"]
    assert 0 < abs(online["mean AUC"] - once["mean AUC"]) < 0.01
    version = store["gbdt_lr_leaves"]
    assert version.number == 1 and version.appended > version.rows / 2


def test_a_day_is_predicted_before_it_is_learned() -> None:
    # Days 1 and 2 have two features that day 0 knows nothing of: one good, one not.
    features = np.repeat(np.eye(4), 5, axis=0)[np.r_[0:10, 10:20, 10:20]]
    good = np.tile(np.repeat([0, 1], 5), 3)
    days = np.split(np.arange(30), 3)
    for learns, second in ((True, 1), (False, 0.5)):
        found = day_by_day(lambda day: features[day], good, days, 0.1, learns=learns)
        assert [each.auc for each in found] == [0.5, second]
