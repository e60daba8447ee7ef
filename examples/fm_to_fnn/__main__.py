"""A network that begins where a factorization machine ended: FM to FNN.

Zhang, Du and Wang, Deep Learning over Multi-field Categorical Data, 2016.

A factorization machine learns a vector and a weight for each value of each field. An embedding
layer begins with them, and layers on top learn on: against the same network with random vectors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor, nn

import embstore
from embstore.torch import pretrained
from examples.data import Data, held_out
from examples.fields import Fields, Moment, factorization_machine, fields, fit, lines, load_machine
from examples.report import Report, fresh, main

NAMES = ("author", "genre")
RANK, ITERATIONS, EPOCHS = 8, 60, 3
RATE = 1e-3
WIDTH = RANK + 1  # a value's vector, and its weight in the linear part
STEM = "fm_to_fnn"


class FNN(nn.Module):
    """Vectors and weights of all fields side by side, two layers of tanh, one logit."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.upper = nn.Sequential(
            nn.Linear(WIDTH * len(layers), 64),
            nn.Tanh(),
            nn.Dropout(0.2),
            nn.Linear(64, 32),
            nn.Tanh(),
            nn.Linear(32, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """From codes (n, fields) to logits (n,)."""
        found = [layer(codes[:, place]) for place, layer in enumerate(self.layers.values())]
        return self.upper(torch.cat(found, dim=1))[:, 0]  # type: ignore[no-any-return]


def random_layers(both: Fields) -> dict[str, nn.Module]:
    """Return a layer per field as a training from nothing has them."""
    layers = {name: nn.Embedding(size, WIDTH) for name, size in both.sizes.items()}
    for layer in layers.values():
        nn.init.normal_(layer.weight, std=0.05)
    return dict(layers)


def machine_layers(store: embstore.Store, both: Fields) -> dict[str, nn.Module]:
    """Return a layer per field with what the machine knows; zeros for ids it has not seen."""
    versions = store.at_once(*(f"{STEM}_{name}" for name in both.vocabularies))
    return {
        name: pretrained(version, ids, freeze=False)
        for version, (name, ids) in zip(versions, both.vocabularies.items(), strict=True)
    }


def vectors_only(stored: Mapping[str, Any], both: Fields) -> dict[str, nn.Module]:
    """Return the machine's vectors beside random weights."""
    layers: dict[str, Any] = random_layers(both)
    for name, layer in layers.items():
        layer.weight.data[:, :RANK] = stored[name].weight.data[:, :RANK]
    return layers


def row(start: str, moments: list[Moment]) -> dict[str, Any]:
    """Return one training's row of the table."""
    aucs = {each.epoch: each.auc for each in moments}
    best = max(moments, key=lambda each: each.auc)
    return {
        "start": start,
        **{f"AUC, epoch {epoch:g}": aucs[epoch] for epoch in (0.25, 0.5, 1, 2, 3)},
        "best AUC": best.auc,
        "log loss then": best.loss,
    }


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Train a machine, load it, and train the network from random and from its vectors."""
    if len(data.users) > 300_000:
        data = data.smaller(1 / 4)
    both = fields(data, *NAMES)
    hidden = held_out(data.users, seed=seed)
    seen, test = both[~hidden], both[hidden]
    for name in both.vocabularies:
        fresh(store, f"{STEM}_{name}", metric="ip")

    start = time.perf_counter()
    machine = factorization_machine(seen, RANK, ITERATIONS, seed)
    fitting = time.perf_counter() - start
    chance = machine.predict_proba(test.one_hot())
    auc, loss = float(roc_auc_score(test.good, chance)), float(log_loss(test.good, chance))
    start = time.perf_counter()
    loaded = load_machine(store, STEM, machine, seen, space=f"machine {seed}", metrics={"auc": auc})
    store.release({f"{STEM}_{name}": version.number for name, version in loaded.items()})
    loading = time.perf_counter() - start

    torch.manual_seed(seed)
    start = time.perf_counter()
    stored = machine_layers(store, both)
    reading = time.perf_counter() - start
    trainings = {}
    for name, layers in (
        ("random", random_layers(both)),
        ("vectors of the FM", vectors_only(stored, both)),
        ("vectors and weights of the FM", stored),
    ):
        torch.manual_seed(seed)
        trainings[name] = fit(FNN(layers), seen, test, epochs=EPOCHS, seed=seed, rate=RATE)

    rows = [row(name, moments) for name, moments in trainings.items()]
    itself = {"start": "the FM itself", "best AUC": auc, "log loss then": loss}
    rows.append({**dict.fromkeys(rows[0]), **itself})
    epoch = next(each for each in trainings["random"] if each.epoch == 1)
    ahead = trainings["vectors and weights of the FM"]
    sooner = next(each for each in ahead if each.auc >= epoch.auc or each.epoch == EPOCHS)
    count = sum(version.rows for version in loaded.values())
    return Report(
        rows,
        f"Where the network is after an epoch from random vectors ({epoch.seconds:.1f} s), it is"
        f" after {sooner.epoch:g} from the store's ({sooner.seconds + reading:.1f} s with their"
        f" lookup); the machine's {fitting:.0f} s of training and {loading:.1f} s of loading are"
        " spent once for whatever begins with it.",
        [
            f"{len(both.good):,} ratings of {len(np.unique(data.users)):,} readers;"
            f" {count:,} vectors of {WIDTH} dims"
        ],
        lines(trainings),
    )


if __name__ == "__main__":
    main(__doc__, run, needs=("rating",))
