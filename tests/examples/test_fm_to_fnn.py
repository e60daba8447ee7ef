"""FNN: what a factorization machine has learned is a better start than random vectors."""

import pytest

import embstore
from examples.data import generated
from examples.fm_to_fnn.__main__ import run


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")  # of myFM
def test_a_start_from_the_machine_is_ahead(store: embstore.Store) -> None:
    random, _, both, machine = run(store, generated(300, 1000), seed=0).rows
    assert both["AUC, epoch 1"] > random["AUC, epoch 1"] + 0.03
    assert both["best AUC"] > random["best AUC"] + 0.02
    assert machine["best AUC"] > 0.75
