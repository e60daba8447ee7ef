"""Ratings as one-hot fields, and a network's training on them: will the rating be 4 or 5?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.metrics import log_loss, roc_auc_score

import embstore

from .data import Array, Data

BATCH = 1024


@dataclass(frozen=True)
class Fields:
    """What is known of each rating, a value per field, and what is to be predicted.

    Attributes
    ----------
    vocabularies : dict of field to list of ids
        Each value that a field can have; row i of its embedding layer is of ``vocabulary[i]``.
    codes : array (n, fields), int64
        The place of each rating's values in the vocabularies.
    good : array (n,), float32
        1 for a rating of 4 or 5.
    """

    vocabularies: dict[str, list[Any]]
    codes: Array
    good: Array

    def __getitem__(self, rows: Array) -> Fields:
        return Fields(self.vocabularies, self.codes[rows], self.good[rows])

    @property
    def sizes(self) -> dict[str, int]:
        """How many values each field can have."""
        return {name: len(each) for name, each in self.vocabularies.items()}

    def seen(self) -> dict[str, dict[Any, int]]:
        """Return of each field the ids that occur, each with its row: what a training knows."""
        return {
            name: {ids[code]: int(code) for code in np.unique(self.codes[:, place])}
            for place, (name, ids) in enumerate(self.vocabularies.items())
        }

    def one_hot(self) -> csr_matrix:
        """Return the matrix (n, sum of sizes), a one per field."""
        sizes = list(self.sizes.values())
        columns = self.codes + (np.cumsum(sizes) - sizes)
        rows = np.repeat(np.arange(len(columns)), len(sizes))
        return csr_matrix(
            (np.ones(columns.size), (rows, columns.ravel())), (len(columns), sum(sizes))
        )


def fields(data: Data, *names: str, crossed: Sequence[tuple[str, str]] = ()) -> Fields:
    """Return reader and book of each rating, and columns of the book, alone and two crossed.

    A column in which nothing is known of any book is left out.
    """
    users, items = data.shape
    vocabularies: dict[str, list[Any]] = {"reader": list(range(users)), "book": list(range(items))}
    codes = [data.users, data.items]
    names = tuple(name for name in names if data.knows(name))
    columns = {name: data.column(name, "unknown") for name in names}
    for pair in crossed:
        if not set(pair) <= set(names):
            continue
        both = zip(*(data.column(name, "unknown") for name in pair), strict=True)
        columns["_".join(pair)] = [f"{one}, {other}" for one, other in both]
    for name, column in columns.items():
        values, places = np.unique(column, return_inverse=True)
        vocabularies[name] = values.tolist()
        codes.append(places[data.items])
    good = (data.ratings >= 4).astype(np.float32)
    return Fields(vocabularies, np.stack(codes, axis=1), good)


def numbers(data: Data, both: Fields, past: Array) -> dict[str, Array]:
    """Return of each rating what a model without ids may know.

    Returns
    -------
    dict of name to array (n,), float64
        The book's year and popularity; of each field's value how many ratings it has in the past,
        and the share of good ones; NaN where nothing is known.
    """
    found = {}
    if data.knows("year"):
        found["year"] = data.books["year"].to_numpy().astype(float)[data.items]
    found["popularity"] = np.log(data.column("popularity", 1))[data.items]
    for (name, size), codes in zip(both.sizes.items(), both.codes.T, strict=True):
        counts = np.bincount(codes[past], minlength=size).astype(float)
        good = np.bincount(codes[past], both.good[past], minlength=size)
        share = np.divide(good, counts, out=np.full(size, np.nan), where=counts > 0)
        found |= {f"{name} count": counts[codes], f"{name} share": share[codes]}
    return found


@dataclass(frozen=True)
class Moment:
    """How good a network is at one moment of its training.

    Attributes
    ----------
    epoch, seconds : float
        So far; without what the checks took.
    auc, loss : float
        On ratings that are held out; the log loss in nats.
    """

    epoch: float
    seconds: float
    auc: float
    loss: float


def fit(
    network: Any, seen: Fields, held: Fields, *, epochs: int, seed: int, rate: float = 3e-3
) -> list[Moment]:
    """Train a network with Adam, and look at it before, and four times an epoch.

    Parameters
    ----------
    network : torch.nn.Module
        From codes (n, fields) to logits (n,).
    seen, held : Fields
        What it is trained and checked on.
    """
    import torch

    torch.set_num_threads(1)  # the matrices are small: a second thread costs more than it gives
    rng, spent = np.random.default_rng(seed), 0.0
    codes, good = torch.from_numpy(seen.codes), torch.from_numpy(seen.good)
    # The decay keeps the vectors of who has rated little near zero.
    steps = torch.optim.Adam(network.parameters(), rate, weight_decay=1e-4)
    moments = [_moment(network, held, 0, spent)]
    for epoch in range(epochs):
        for quarter, part in enumerate(np.array_split(rng.permutation(len(codes)), 4)):
            start = time.perf_counter()
            for at in range(0, len(part), BATCH):
                rows = part[at : at + BATCH]
                steps.zero_grad()
                loss: Any = torch.nn.functional.binary_cross_entropy_with_logits(
                    network(codes[rows]), good[rows]
                )
                loss.backward()
                steps.step()
            spent += time.perf_counter() - start
            moments.append(_moment(network, held, epoch + (quarter + 1) / 4, spent))
    return moments


def lines(trainings: Mapping[str, Sequence[Moment]]) -> Callable[[Any], None]:
    """Draw the AUC of trainings over their epochs."""

    def draw(axes: Any) -> None:
        for name, moments in trainings.items():
            style = "--" if name.endswith(("cold", "random")) else "-"
            axes.plot(
                [each.epoch for each in moments],
                [each.auc for each in moments],
                style,
                label=name,
            )
        axes.set_xlabel("epochs")
        axes.set_ylabel("AUC")
        axes.legend()

    return draw


def _moment(network: Any, held: Fields, epoch: float, seconds: float) -> Moment:
    import torch

    network.eval()
    with torch.no_grad():
        chance = torch.sigmoid(network(torch.from_numpy(held.codes))).numpy().astype(float)
    network.train()
    auc = float(roc_auc_score(held.good, chance))
    return Moment(epoch, seconds, auc, float(log_loss(held.good, chance)))


def factorization_machine(seen: Fields, rank: int, iterations: int, seed: int) -> Any:
    """Return a factorization machine of myFM fitted to fields (a probit one, by Gibbs sampling)."""
    from myfm import MyFMGibbsClassifier

    machine = MyFMGibbsClassifier(rank=rank, random_seed=seed)
    # Each field has its own variance: of readers there are more than of genres.
    groups = list(seen.sizes.values())
    return machine.fit(seen.one_hot(), seen.good, n_iter=iterations, group_shapes=groups)


def load_machine(
    store: embstore.Store,
    stem: str,
    machine: Any,
    seen: Fields,
    space: str,
    metrics: dict[str, float] | None = None,
) -> dict[str, embstore.Version]:
    """Load a machine's vectors and biases, [v, w], a version of ``stem_FIELD`` for each field.

    Its features are the columns of ``one_hot``; those of ids that have no rating are left out.
    """
    starts = np.cumsum([0, *seen.sizes.values()])
    return {
        name: store.table(f"{stem}_{name}").load(
            machine,
            ids={each: int(start) + row for each, row in ids.items()},
            bias="fold",
            space=space,
            metrics=metrics,
            index="none",  # they are looked up, never searched
        )
        for start, (name, ids) in zip(starts, seen.seen().items(), strict=False)
    }
