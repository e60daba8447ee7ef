"""GBDT + LR: leaves that are looked up serve a linear model better than what they are made of."""

import embstore
from examples.data import generated
from examples.gbdt_lr.__main__ import run


def test_leaves_are_better_than_the_numbers(store: embstore.Store) -> None:
    report = run(store, generated(300, 1000), seed=0)
    numbers, trees, once, _, online, _ = report.rows
    assert online["mean AUC"] > numbers["mean AUC"] + 0.005
    assert online["mean normalized entropy"] < numbers["mean normalized entropy"] - 0.02
    assert online["mean normalized entropy"] < trees["mean normalized entropy"]
    assert abs(online["mean AUC"] - once["mean AUC"]) < 0.01
    version = store["gbdt_lr_leaves"]
    assert version.number == 1 and version.appended > version.rows / 2
