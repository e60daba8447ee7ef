"""A graph network over what is known of books and their neighbours; vectors for unseen books.

R. Ying et al., "Graph Convolutional Neural Networks for Web-Scale Recommender Systems" (PinSage),
KDD 2018, after W. Hamilton, R. Ying and J. Leskovec, "Inductive Representation Learning on Large
Graphs" (GraphSAGE), NeurIPS 2017. Neighbours are what random walks visit most, weighted by their
visits; the loss is a margin between books of one reader and others. No book has a parameter of its
own, so the network works on books that come later: their vectors are appended to the live version.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from torch import Tensor, nn
from torch.nn import functional

import embstore

from ..data import Array, Data, co_read_pairs, matrix, numbered, reader_means
from ..hidden import Exam, hide
from ..report import Report, bars, fresh, main

DIM, HIDE, WALKS, NEIGHBOURS, BATCH, MARGIN = 64, 500, 60, 8, 4096, 0.8


@dataclass(frozen=True)
class Graph:
    """What is known of each book, and whom walks from it visit most.

    Attributes
    ----------
    features : Tensor (books, dim), float
    near : Tensor (books, 8), int64
    weights : Tensor (books, 8), float
        The shares of the visits; 0 for those that are not there.
    """

    features: Tensor
    near: Tensor
    weights: Tensor


def step(graph: csr_matrix, nodes: Array, rng: np.random.Generator) -> Array:
    """Go from each node to a neighbour at random; -1 where there is none."""
    counts = np.diff(graph.indptr)[nodes]
    at = graph.indptr[nodes] + (rng.random(len(nodes)) * counts).astype(np.int64)
    there = (counts > 0) & (nodes >= 0)
    return np.where(there, graph.indices[np.where(there, at, 0)], -1)


def visited(starts: csr_matrix, read: csr_matrix, rng: np.random.Generator) -> tuple[Array, Array]:
    """Walk from each book to a reader, and on to one of their books; keep those visited most.

    Parameters
    ----------
    starts : sparse matrix (books, readers)
        Who is known to have read a book.
    read : sparse matrix (readers, books)
        Where walks lead to.
    """
    books = starts.shape[0]
    at = np.repeat(np.arange(books), WALKS)
    to = step(read, step(starts, at, rng), rng)
    pairs, visits = np.unique((at * books + to)[(to >= 0) & (to != at)], return_counts=True)
    order = np.lexsort((-visits, pairs // books))
    book, other = np.divmod(pairs[order], books)
    rank = np.arange(len(book)) - np.searchsorted(book, book)
    kept = rank < NEIGHBOURS
    near, weights = np.zeros((books, NEIGHBOURS), np.int64), np.zeros((books, NEIGHBOURS))
    near[book[kept], rank[kept]] = other[kept]
    weights[book[kept], rank[kept]] = visits[order][kept]
    return near, weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)


class Convolution(nn.Module):
    """One layer: a book's vector with the weighted mean of its neighbours'."""

    def __init__(self) -> None:
        super().__init__()
        self.neighbour, self.both = nn.Linear(DIM, DIM), nn.Linear(2 * DIM, DIM)

    def forward(self, vectors: Tensor, graph: Graph) -> Tensor:
        """Return vectors (books, dim) of length 1."""
        near = functional.relu(self.neighbour(vectors))[graph.near]
        mean = (graph.weights[:, :, None] * near).sum(dim=1)
        both = self.both(torch.cat([vectors, mean], dim=1))
        return functional.normalize(functional.leaky_relu(both), dim=1)


class PinSage(nn.Module):
    """Two convolutions over features that are given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Convolution(), Convolution()])
        self.out = nn.Linear(DIM, DIM)

    def forward(self, graph: Graph) -> Tensor:
        """Return vectors of all books (books, dim), of length 1."""
        vectors = graph.features
        for layer in self.layers:
            vectors = layer(vectors, graph)
        return functional.normalize(graph.features + self.out(vectors), dim=1)


def train(graph: Graph, users: Array, items: Array, seed: int) -> PinSage:
    """Train on pairs of books of one reader, the whole graph in each step."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # with two, each would wait for the other more than it works
    rng = np.random.default_rng(seed)
    model = PinSage()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    often = torch.from_numpy(np.bincount(items, minlength=len(graph.near)) ** 0.75)
    for _ in range(int(np.clip(len(users) // 4000, 40, 100))):
        books, near = (torch.from_numpy(each) for each in co_read_pairs(users, items, BATCH, rng))
        far = torch.multinomial(often, 128, replacement=True)
        vectors = model(graph)
        right = (vectors[books] * vectors[near]).sum(dim=1, keepdim=True)
        loss: Any = functional.relu(vectors[books] @ vectors[far].T - right + MARGIN).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def vectors_of(model: PinSage, graph: Graph) -> Array:
    """Return the vectors of all books (books, dim)."""
    with torch.no_grad():
        return np.asarray(model(graph).numpy())


def content(data: Data, seed: int) -> Array:
    """Return what a publisher says of books as vectors of length 1; readers' tags come later."""
    names = ("genre", "author", "decade", "language")
    columns = [[f"{name} {value}" for value in data.column(name)] for name in names]
    lists = [list(own) for own in zip(*columns, strict=True)]
    vocabulary, numbers = numbered(lists)
    rows = np.repeat(np.arange(len(lists)), (numbers > 0).sum(axis=1))
    counts = matrix(rows, numbers[numbers > 0], (len(lists), len(vocabulary) + 1))
    svd = make_pipeline(TfidfTransformer(), TruncatedSVD(DIM, random_state=seed), Normalizer())
    return np.asarray(svd.fit_transform(counts).astype(np.float32))


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Give unseen books vectors, of features and of what the first five readers have read."""
    rng = np.random.default_rng(seed)
    if len(data.users) > 500_000:
        data = data.smaller(1 / 4)
    users, items = data.liked()
    hidden = hide(items, HIDE, rng)
    exam = Exam(data, hidden, users, items, rng)
    features = content(data, seed)

    def graph(starts: Array, walked: Array) -> Graph:
        """Walk from books by some interactions, and on by others."""
        read = matrix(users[walked], items[walked], data.shape)
        by_book = matrix(items[starts], users[starts], data.shape[::-1])
        near, weights = visited(by_book, read, rng)
        tensors = (torch.from_numpy(each) for each in (features, near, weights.astype(np.float32)))
        return Graph(*tensors)

    seen, more, few = ~hidden.of, ~hidden.exam, ~hidden.of
    few[hidden.few] = True
    known, whole = graph(seen, seen), graph(more, more)
    model = train(known, users[seen], items[seen], seed)
    start = time.monotonic()
    late = train(whole, users[more], items[more], seed)
    training = time.monotonic() - start

    start = time.monotonic()
    alone, joined = vectors_of(model, known), vectors_of(model, graph(few, seen))
    computing = time.monotonic() - start
    table = fresh(store, "pinsage_books")
    old = np.setdiff1d(np.arange(len(data.books)), hidden.books)
    rows, appending = [exam.of_popular()], 0.0

    def measure(name: str, vectors: Array, new: Array, chosen: Array) -> None:
        """Load the known books' vectors as a version, append the new ones', and ask both."""
        nonlocal appending
        version = table.load(vectors[old], ids=old, trainer="torch", index="none", promote=True)
        start = time.monotonic()
        table.live.append(new[hidden.books], ids=hidden.books, message="unseen by the network")
        appending = time.monotonic() - start
        means = reader_means(vectors, users[chosen], items[chosen], data.shape)
        rows.append(exam.of(name, store[version.ref], means))

    by_late = vectors_of(late, whole)
    measure("random", alone, rng.standard_normal(alone.shape), seen)
    measure("features alone: SVD of tf-idf", features, features, seen)
    measure("PinSage: features, no neighbours", alone, alone, seen)
    measure("PinSage: features, neighbours by 5 readers", alone, joined, seen)
    measure("PinSage: trained with all but the exam", by_late, by_late, more)
    return Report(
        rows,
        f"The network computed the vectors of {len(hidden.books)} unseen books, and all others, in"
        f" {computing:.1f} s, and the live version took them in in {appending:.2f} s; training it"
        f" anew took {training:.0f} s.",
        [f"{data.shape[0]:,} readers. {exam}"],
        bars(rows, "held-out reader@10"),
    )


if __name__ == "__main__":
    main(__doc__, run, needs=("genre", "author"))
