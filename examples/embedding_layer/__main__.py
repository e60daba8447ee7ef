"""An embedding layer that outlives its training: Deep Crossing and Wide & Deep, week after week.

Shan et al., Deep Crossing: Web-Scale Modeling without Manually Crafted Combinatorial Features,
2016; Cheng et al., Wide & Deep Learning for Recommender Systems, 2016.

Both networks turn one-hot fields into dense vectors and predict whether a rating will be 4 or 5.
Last week's training ends in the store, a version per field. This week there are more ratings: one
training starts from random vectors, the other from last week's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import embstore
from embstore.torch import pretrained
from examples.data import Data, held_out
from examples.fields import Fields, Moment, fields, fit, lines
from examples.report import Report, fresh, main

NAMES = ("author", "series", "decade", "language", "genre")
DIM, SCALE = 8, 0.05
EPOCHS = 3


class DeepCrossing(nn.Module):
    """The fields' vectors side by side, two residual units, one logit."""

    width, crossed = DIM, ()

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        width = DIM * len(layers)
        self.units = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width)) for _ in range(2)
        )
        self.drop = nn.Dropout(0.5)
        self.score = nn.Linear(width, 1)

    def forward(self, codes: Tensor) -> Tensor:
        """From codes (n, fields) to logits (n,)."""
        stacked = self.drop(looked_up(self.layers, codes).flatten(1))
        for unit in self.units:
            stacked = torch.relu(stacked + unit(stacked))
        return self.score(stacked)[:, 0]  # type: ignore[no-any-return]


class WideDeep(nn.Module):
    """A linear model beside a network; a layer's last component is the weight in the linear one."""

    width, crossed = DIM + 1, (("genre", "decade"),)

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.deep = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(DIM * len(layers), 64),
            nn.ReLU(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """From codes (n, fields) to logits (n,)."""
        vectors = looked_up(self.layers, codes)
        wide, deep = vectors[:, :, DIM].sum(1), vectors[:, :, :DIM].flatten(1)
        return wide + self.deep(deep)[:, 0]  # type: ignore[no-any-return]


def looked_up(layers: nn.ModuleDict, codes: Tensor) -> Tensor:
    """From codes (n, fields) to vectors (n, fields, width)."""
    found = [layer(codes[:, place]) for place, layer in enumerate(layers.values())]
    return torch.stack(found, dim=1)


Network = type[DeepCrossing] | type[WideDeep]
NETWORKS: dict[str, Network] = {"Deep Crossing": DeepCrossing, "Wide & Deep": WideDeep}


def random_layers(week: Fields, width: int) -> Mapping[str, nn.Module]:
    """Return a layer per field as a training from nothing has them."""
    layers = {name: nn.Embedding(size, width) for name, size in week.sizes.items()}
    for layer in layers.values():
        nn.init.normal_(layer.weight, std=SCALE)
    return layers


def stored_layers(
    store: embstore.Store, tables: Mapping[str, str], week: Fields
) -> Mapping[str, nn.Module]:
    """Return a layer per field with the vectors that are live; ids that are new get random ones."""
    versions = store.at_once(*tables.values())  # of one release, whatever is released meanwhile
    vocabularies = week.vocabularies.values()
    return {
        name: pretrained(version, ids, freeze=False, scale=SCALE)
        for name, version, ids in zip(tables, versions, vocabularies, strict=True)
    }


def save(store: embstore.Store, tables: Mapping[str, str], network: nn.Module, week: Fields) -> int:
    """Load each layer as a version of its table, and release them together; returns their rows."""
    versions = {
        table: store.table(table).load(
            network,
            vectors=f"layers.{name}",
            ids=week.seen()[name],  # the rows of ids that had no rating yet are left out
            space="last week",
            index="none",  # they are looked up, never searched
        )
        for name, table in tables.items()
    }
    store.release({table: version.number for table, version in versions.items()})
    return sum(version.rows for version in versions.values())


def share(network: nn.Module) -> tuple[int, int]:
    """Return how many parameters are in embedding layers, and how many there are."""
    layers = [each for each in network.modules() if isinstance(each, nn.Embedding)]
    return sum(each.weight.numel() for each in layers), sum(
        each.numel() for each in network.parameters()
    )


def textbook() -> nn.Module:
    """Return 100,000 ids to 32 dims, five layers of 32 and 10 outputs; without memory for it."""
    with torch.device("meta"):
        between = [nn.Linear(32, 32, bias=False) for _ in range(4)]
        return nn.Sequential(nn.Embedding(100_000, 32), *between, nn.Linear(32, 10, bias=False))


@dataclass(frozen=True)
class Weeks:
    """Two weeks of one network.

    Attributes
    ----------
    live : float
        The AUC of last week's training.
    trainings : dict
        What this week's were like, by how they started: ``cold`` or ``warm``.
    rows, loading, reading : int, float
        How many vectors went into the store, and the seconds that this and the lookup took.
    share : tuple of two int
    """

    live: float
    trainings: dict[str, list[Moment]]
    rows: int
    loading: float
    reading: float
    share: tuple[int, int]


def two_weeks(store: embstore.Store, data: Data, name: str, seed: int) -> Weeks:
    """Train a network last week, and this week from nothing and from the store."""
    kind = NETWORKS[name]
    both = fields(data, *NAMES, crossed=kind.crossed)
    hidden = held_out(data.users, seed=seed)
    test, this_week = both[hidden], both[~hidden]
    last_week = this_week[np.random.default_rng(seed).random(len(this_week.good)) < 0.8]
    stem = f"embedding_layer_{name.lower().replace(' & ', '_').replace(' ', '_')}"
    tables = {field: f"{stem}_{field}" for field in both.vocabularies}
    for table in tables.values():
        fresh(store, table, metric="ip")

    torch.manual_seed(seed)
    network = kind(random_layers(last_week, kind.width))
    before = fit(network, last_week, test, epochs=EPOCHS, seed=seed)
    start = time.perf_counter()
    rows = save(store, tables, network, last_week)
    loading, start = time.perf_counter() - start, time.perf_counter()
    stored = stored_layers(store, tables, this_week)
    reading = time.perf_counter() - start

    trainings = {}
    for way, layers in (("cold", random_layers(this_week, kind.width)), ("warm", stored)):
        torch.manual_seed(seed + 1)  # the layers above begin the same
        trainings[way] = fit(kind(layers), this_week, test, epochs=EPOCHS, seed=seed + 1)
    return Weeks(before[-1].auc, trainings, rows, loading, reading, share(network))


def row(weeks: Weeks, name: str, way: str) -> dict[str, Any]:
    """Return one training's row of the table."""
    moments = weeks.trainings[way]
    best = max(moments, key=lambda each: each.auc)
    got = next((each for each in moments if each.auc >= weeks.live), None)
    return {
        "training": f"{name}, {way}",
        "last week's AUC": weeks.live,
        "epochs to it": got and got.epoch,
        "seconds to it": got and got.seconds + (weeks.reading if way == "warm" else 0),
        "AUC after an epoch": next(each.auc for each in moments if each.epoch == 1),
        "best AUC": best.auc,
        "log loss then": best.loss,
    }


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Train both networks for two weeks, from nothing and from the store."""
    if len(data.users) > 300_000:
        data = data.smaller(1 / 4)
    notes = [f"{len(data.ratings):,} ratings of {len(np.unique(data.users)):,} readers"]
    rows, saved = [], []
    curves: dict[str, list[Moment]] = {}
    for name in NETWORKS:
        weeks = two_weeks(store, data, name, seed)
        notes.append(f"{name}: {told(weeks.share)}")
        cold, warm = (row(weeks, name, way) for way in weeks.trainings)
        rows += [cold, warm]
        sooner = (cold["epochs to it"] or EPOCHS) - (warm["epochs to it"] or EPOCHS)
        saved.append(
            f"{sooner:.2f} epochs of {name} ({weeks.rows:,} vectors: {weeks.loading:.1f} s to load,"
            f" {weeks.reading:.2f} s to look up)"
        )
        curves |= {f"{name}, {way}": each for way, each in weeks.trainings.items()}
    notes.append(f"the network of the textbook: {told(share(textbook()))}")
    return Report(
        rows,
        f"Until it was as good as last week's, a start from the store saved {' and '.join(saved)}.",
        notes,
        lines(curves),
    )


def told(share: tuple[int, int]) -> str:
    """Return the share of the parameters in a sentence."""
    inside, all_of_them = share
    return (
        f"{inside:,} of {all_of_them:,} parameters, {inside / all_of_them:.2%}, are in embedding"
        " layers"
    )


if __name__ == "__main__":
    main(__doc__, run, needs=("rating",))
