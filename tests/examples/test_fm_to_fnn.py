"""FNN: what a factorization machine has learned is a better start than random vectors."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import embstore
from examples.data import generated, held_out
from examples.fields import fields
from examples.fm_to_fnn.__main__ import NAMES, RANK, STEM, run


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated")  # of myFM
def test_a_start_from_the_machine_is_ahead(store: embstore.Store) -> None:
    data = generated(300, 1000)
    random, vectors, both, machine = run(store, data, seed=0).rows
    assert both["AUC, epoch 1"] > random["AUC, epoch 1"] + 0.03
    assert both["best AUC"] > random["best AUC"] + 0.02
    assert machine["best AUC"] > 0.75
    assert len({row["AUC, epoch 1"] for row in (random, vectors, both)}) == 3

    # The store has all that the machine knows: weights and products of vectors are its score.
    told = fields(data, *NAMES)[held_out(data.users)]
    found = np.stack(
        [
            store[f"{STEM}_{name}"].lookup(np.array(ids)[codes], missing="zero").vectors
            for (name, ids), codes in zip(told.vocabularies.items(), told.codes.T, strict=True)
        ]
    )
    v, w = found[:, :, :RANK], found[:, :, RANK]
    score = w.sum(axis=0) + ((v.sum(axis=0) ** 2 - (v**2).sum(axis=0)) / 2).sum(axis=1)
    assert abs(roc_auc_score(told.good, score) - machine["best AUC"]) < 0.02
