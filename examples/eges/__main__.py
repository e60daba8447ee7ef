"""Side information weighted with the item's own vector, and new books by side information alone.

J. Wang et al., "Billion-scale Commodity Embedding for E-commerce Recommendation in Alibaba", KDD
2018. Skip-gram with negative samples on steps of a walk on the graph of co-reading: an item's own
vector alone (BGE), its mean with those of its author, language, decade and tags (GES), or the mean
with weights that are trained for each item (EGES).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

import embstore

from ..data import Array, Data, co_read_pairs, numbered, reader_means
from ..hidden import Exam, hide
from ..report import Report, bars, fresh, main

DIM, BATCH, HIDE = 32, 2048, 500
SIDES = ("author", "language", "decade", "tags")


@dataclass(frozen=True)
class Side:
    """A column of side information: the row of each value, and the rows of each book."""

    vocabulary: dict[str, int]
    rows: Tensor  # (books, most values), 0 where there is none


def side(data: Data, column: str) -> Side:
    """Number the values of a column."""
    lists = [own if isinstance(own, list) else [own] for own in data.column(column)]
    vocabulary, rows = numbered(lists)
    return Side(vocabulary, torch.from_numpy(rows))


class Eges(nn.Module):
    """A vector for each book, side information and context, and weights for their mean."""

    def __init__(self, books: int, sides: dict[str, Side], *, weighted: bool) -> None:
        super().__init__()
        self.known = [each.rows for each in sides.values()]
        self.there = torch.ones(books, 1 + len(sides), dtype=torch.bool)
        for place, rows in enumerate(self.known, 1):
            self.there[:, place] = (rows > 0).any(dim=1)
        self.own = nn.Embedding(books, DIM)
        self.sides = nn.ModuleDict(
            {
                name: nn.EmbeddingBag(len(each.vocabulary) + 1, DIM, mode="mean", padding_idx=0)
                for name, each in sides.items()
            }
        )
        self.weights = nn.Embedding(books, 1 + len(sides))
        self.weights.weight.requires_grad_(weighted)
        self.context = nn.Embedding(books, DIM)
        for name, each in self.named_parameters():
            nn.init.normal_(each, std=0.0 if name == "weights.weight" else 0.3)

    def forward(self, books: Tensor) -> Tensor:
        """Return the vectors of books (n, dim)."""
        rows = [bag(known[books]) for bag, known in zip(self.sides.values(), self.known)]  # noqa: B905
        vectors = torch.stack([self.own(books), *rows], dim=1)
        weights = self.weights(books).masked_fill(~self.there[books], -torch.inf).softmax(dim=1)
        found: Tensor = (weights[:, :, None] * vectors).sum(dim=1)
        return found

    def loss(self, books: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """Return the loss of pairs (n,), (n,) against negative samples (m,), five for each."""
        vectors = self(books)
        right = (vectors * self.context(near)).sum(dim=1)
        wrong = vectors @ self.context(far).T
        return (functional.softplus(-right) + 5 * functional.softplus(wrong).mean(dim=1)).mean()


def train(
    data: Data, users: Array, items: Array, sides: dict[str, Side], seed: int, *, weighted: bool
) -> Eges:
    """Train on interactions, for about four epochs of them."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # with two, each would wait for the other more than it works
    rng = np.random.default_rng(seed)
    model = Eges(len(data.books), sides, weighted=weighted)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], 0.02)
    often = torch.from_numpy(np.bincount(items, minlength=len(data.books)) ** 0.75)
    steps = int(np.clip(4 * len(users) // BATCH, 50, 800))
    for _ in range(steps):
        books, near = (torch.from_numpy(each) for each in co_read_pairs(users, items, BATCH, rng))
        far = torch.multinomial(often, 128, replacement=True)
        optimizer.zero_grad()
        loss: Any = model.loss(books, near, far)
        loss.backward()
        optimizer.step()
    return model


def vectors_of(model: Eges, books: Array) -> Array:
    """Return the trained vectors of books (n, dim)."""
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(books)).numpy())


def load(
    store: embstore.Store, model: Eges, books: Array, sides: dict[str, Side], space: str
) -> embstore.Version:
    """Load the books, and beside them each side information; all of one space go live together."""
    how: dict[str, Any] = {"space": space, "trainer": "EGES", "index": "none"}
    version = store.table("eges_books").load(
        vectors_of(model, books), ids=books, params={"sides": list(sides)}, **how
    )
    loaded = [version]
    for name, each in sides.items():
        table = store.table(f"eges_{name}")
        loaded.append(table.load(model.sides[name], ids=each.vocabulary, **how))
    store.release({each.table: each.number for each in loaded})
    return version


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Ask for hidden books by side information, and for books that the training knows."""
    rng = np.random.default_rng(seed)
    if len(data.users) > 500_000:
        data = data.smaller(1 / 4)
    users, items = data.liked()
    hidden = hide(items, HIDE, rng)
    known = np.setdiff1d(np.unique(items), hidden.books)
    warm = rng.choice(known, min(HIDE, len(known) // 2), replace=False)
    exam = np.isin(items, warm) & (rng.random(len(items)) < 0.2)
    unseen = hidden.of | exam
    exams = [
        Exam(data, replace(hidden, of=unseen), users, items, rng),
        Exam(data, replace(hidden, books=warm, of=unseen, exam=exam), users, items, rng),
    ]
    seen, more = ~unseen, ~(hidden.exam | exam)
    for name in ("books", *SIDES):
        fresh(store, f"eges_{name}")
    sides = {name: side(data, name) for name in SIDES if data.knows(name)}
    new = data.books.take(pa.array(hidden.books))
    rows = [row(exams[0].of_popular(), exams[1].of_popular())]
    seconds: dict[str, float] = {}

    def measure(name: str, chosen: Array, kinds: dict[str, Side], **how: bool) -> None:
        start = time.monotonic()
        model = train(data, users[chosen], items[chosen], kinds, seed, **how)
        seconds["training"] = time.monotonic() - start
        books = np.unique(items[chosen])
        version = load(store, model, books, kinds, f"{name}-{seed}")
        means = reader_means(
            vectors_of(model, np.arange(len(data.books))), users[chosen], items[chosen], data.shape
        )
        if chosen is seen:
            start = time.monotonic()
            cold(version, new, model, rng)
            seconds["cold start"] = time.monotonic() - start
        rows.append(row(*(exam.of(name, version, means) for exam in exams)))

    measure("BGE: no side information, new books at random", seen, {}, weighted=False)
    measure("GES: new books by side information", seen, sides, weighted=False)
    measure("EGES: new books by side information", seen, sides, weighted=True)
    measure("EGES: trained with the new books", more, sides, weighted=True)
    return Report(
        rows,
        f"{len(new)} new books got their vectors in {seconds['cold start']:.2f} s from tables that"
        f" were there; the training that knows them took {seconds['training']:.0f} s.",
        [f"{data.shape[0]:,} readers. {exams[0]}"],
        bars(rows, "new: held-out reader@10"),
    )


def cold(version: embstore.Version, new: pa.Table, model: Eges, rng: np.random.Generator) -> None:
    """Give new books the weighted mean of what is known of them; without such, chance."""
    if not len(model.sides):
        version.coldstart(new, lambda rows, _: rng.standard_normal((len(rows), DIM)))
        return
    trained = model.weights.weight.detach().numpy()[version.to_numpy()[0]].mean(axis=0)
    version.coldstart(
        new,
        "side_information",
        tables={name: f"eges_{name}" for name in model.sides},
        weights=dict(zip(model.sides, trained[1:].tolist(), strict=True)),
    )


def row(new: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Join what both exams say about one version."""
    found = {"vectors": new["vectors"]}
    for kind, of in (("new", new), ("known", known)):
        found |= {f"{kind}: {name}": value for name, value in of.items() if "@" in name}
    return found


if __name__ == "__main__":
    main(__doc__, run, needs=("tags",))
