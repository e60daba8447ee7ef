"""FM vectors as features help, and a fitted pipeline stays on the version of its fit."""

import re

import pytest

import embstore
from examples.data import generated
from examples.fm_features.__main__ import run


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")  # of myFM
def test_vectors_help_and_a_pipeline_stays_on_its_version(store: embstore.Store) -> None:
    data = generated(200, 700)
    report = run(store, data, seed=0)
    without, fitted, later, followed, again = (row["boosted trees"] for row in report.rows)
    assert fitted > without + 0.015 and without > 0.68  # which is no straw man
    assert later == fitted > followed + 0.02
    assert again > without + 0.015
    assert store["fm_features_reader"].number == 2
    assert {pin.version for pin in store.pins("fm_features_reader")} == {1}
    # No rating is in two parts.
    counts = re.findall(r"[\d,]+(?= rating|\ for the)", report.notes[0])
    assert sum(int(each.replace(",", "")) for each in counts) == len(data.ratings)
