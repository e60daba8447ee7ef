"""Random walks over the graph of books that share readers, as versions of one table.

DeepWalk (Perozzi, Al-Rfou & Skiena 2014) walks at random and lets word2vec read the walks as
sentences; node2vec (Grover & Leskovec 2016) makes returning (p) and going far (q) more or less
likely. Here all walkers take each step at once, in numpy; gensim trains.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import roc_auc_score

import embstore

from ..data import Array, Data, all_similar, co_read, matrix, same_series
from ..report import Report, bars, fresh, main

K, DIM = 10, 64
SERIES, LINKS = "same series@10", "held-out edges, AUC"
WALKS: Mapping[str, Mapping[str, float]] = {
    "DeepWalk": {"p": 1, "q": 1},
    "node2vec, far": {"p": 1, "q": 0.25},
    "node2vec, near": {"p": 1, "q": 4},
}


@dataclass(frozen=True)
class Edges:
    """A graph, and edges that were taken out of it.

    Attributes
    ----------
    graph : sparse matrix (books, books)
        What is left, symmetric, with weights.
    validation, test : array (2, n), int64
        Pairs of books, the first half edges that were taken out, the second half none.
    """

    graph: csr_matrix
    validation: Array
    test: Array


def edges(data: Data, seed: int) -> Edges:
    """Join each book to the 20 that share the most readers with it; take out a tenth, twice."""
    near, cosines = co_read(matrix(*data.liked(), data.shape), 20)
    books = len(near)
    pairs = np.sort(np.stack([np.repeat(np.arange(books), 20), near.ravel()]), axis=0)
    key, first = np.unique(pairs[0] * books + pairs[1], return_index=True)
    weights = cosines.ravel()[first]
    key, weights = key[weights > 0], weights[weights > 0]
    ends = np.stack([key // books, key % books])
    rng = np.random.default_rng(seed)
    part = rng.choice(3, len(key), p=[0.8, 0.1, 0.1])
    left = coo_matrix((weights[part == 0], ends[:, part == 0]), (books, books)).tocsr()
    out = []
    for each in (1, 2):
        taken = ends[:, part == each]
        # As many pairs of the same ends, so of books with as many neighbours, that are no edges.
        others = np.sort(np.stack([taken[0], rng.permutation(taken[1])]), axis=0)
        none = ~np.isin(others[0] * books + others[1], key) & (others[0] != others[1])
        out.append(np.concatenate([taken[:, none], others[:, none]], axis=1))
    return Edges((left + left.T).tocsr(), *out)


class Walker:
    """Walks over a graph: many at once, each edge as likely as it is heavy.

    Parameters
    ----------
    graph : sparse matrix (n, n), symmetric
    p, q : float
        What makes it second order: from a to b, the next c weighs 1/p if it is a, 1 if it is a
        neighbour of a, and else 1/q. 1 and 1 are DeepWalk.
    """

    def __init__(self, graph: csr_matrix, p: float, q: float, seed: int) -> None:
        graph.sort_indices()
        self.starts, self.ends = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
        self.upto = np.concatenate([[0], np.cumsum(graph.data, dtype=np.float64)])
        self.size = len(self.starts) - 1
        self.keys = np.repeat(np.arange(self.size), np.diff(self.starts)) * self.size + self.ends
        self.p, self.q, self.rng = p, q, np.random.default_rng(seed)

    def walk(self, count: int, length: int) -> Array:
        """Return walks of ``length`` books, ``count`` from each that has a neighbour."""
        some = np.flatnonzero(np.diff(self.starts))
        paths = np.empty((length, count * len(some)), np.int64)
        paths[0] = self.rng.permutation(np.repeat(some, count))
        paths[1] = self.step(paths[0])
        for at in range(2, length):
            paths[at] = self.step_from(paths[at - 2], paths[at - 1])
        return paths.T

    def step(self, at: Array) -> Array:
        """Follow an edge of each."""
        low, high = self.upto[self.starts[at]], self.upto[self.starts[at + 1]]
        drawn = low + self.rng.random(len(at)) * (high - low)
        edge = np.searchsorted(self.upto, drawn, side="right") - 1
        edge = np.clip(edge, self.starts[at], self.starts[at + 1] - 1)  # rounding
        return np.asarray(self.ends[edge])

    def step_from(self, before: Array, at: Array) -> Array:
        """Follow an edge of each, knowing where it came from: by rejection, as few are refused."""
        to = self.step(at)
        if self.p == self.q == 1:
            return to
        most = max(1 / self.p, 1, 1 / self.q)
        open_ = np.arange(len(at))
        while len(open_):
            back, on = before[open_], to[open_]
            weight = np.where(self.joined(back, on), 1, 1 / self.q)
            weight[back == on] = 1 / self.p
            open_ = open_[self.rng.random(len(open_)) * most > weight]
            to[open_] = self.step(at[open_])
        return to

    def joined(self, one: Array, other: Array) -> Array:
        """Return which pairs are edges."""
        wanted = one * self.size + other
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.asarray(self.keys[place] == wanted)


def skip_gram(paths: Array, books: int, seed: int) -> Any:
    """Return gensim's model of the walks."""
    from gensim.models import Word2Vec

    words = np.array([str(each) for each in range(books)], object)
    how = {"sg": 1, "vector_size": DIM, "window": 5, "epochs": 1, "min_count": 1, "alpha": 0.05}
    return Word2Vec(words[paths].tolist(), workers=1, seed=seed, **how)


def spectral(graph: csr_matrix, seed: int) -> Mapping[int, Array]:
    """Return a baseline's vectors: a truncated SVD of the graph, degrees divided out."""
    some = np.flatnonzero(np.diff(graph.indptr))
    scale = 1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel()[some])
    normalised = graph[some][:, some].multiply(scale[:, None]).multiply(scale).tocsr()
    vectors = TruncatedSVD(DIM, random_state=seed).fit_transform(normalised)
    return dict(zip(some.tolist(), vectors, strict=True))


def in_common(graph: csr_matrix, pairs: Array) -> tuple[Array, Array]:
    """Return the other baseline: by neighbours in common the nearest of each, and of the pairs."""
    ones = graph.astype(bool).astype(np.float32)
    left, right = ones[pairs[0]], ones[pairs[1]]
    shared = np.asarray(left.multiply(right).sum(axis=1)).ravel()
    sizes = np.sqrt(np.diff(left.indptr) * np.diff(right.indptr))
    return co_read(ones, K)[0], shared / np.maximum(sizes, 1)


def linked(version: embstore.Version, pairs: Array) -> float:
    """Return the AUC of telling edges from none by the cosine of both ends' vectors."""
    left, right = (version.lookup(each, missing="zero").vectors for each in pairs)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return auc((left * right).sum(axis=1) / np.maximum(norms, 1e-9))


def auc(scores: Array) -> float:
    """Return the AUC where the first half is true."""
    return float(roc_auc_score(np.arange(len(scores)) < len(scores) // 2, scores))


def load(store: embstore.Store, data: Data, graph: csr_matrix, seed: int) -> dict[str, str]:
    """Load the SVD and each way of walking as a version; returns the references by name."""
    books = fresh(store, "graph_walks_books", metric="cosine", id_type="bigint")
    svd = spectral(graph, seed)
    found = {"SVD of the graph": books.load(svd, trainer="sklearn.TruncatedSVD").ref}
    for name, how in WALKS.items():
        start = time.perf_counter()
        paths = Walker(graph, **how, seed=seed).walk(count=6, length=30)
        model = skip_gram(paths, data.shape[1], seed)
        seconds = time.perf_counter() - start
        # gensim's own parameters are kept by themselves; these say how the walks were made.
        version = books.load(
            model,
            trainer=name.partition(",")[0],
            params={**how, "walks": 6, "length": 30},
            metrics={"seconds": seconds},
            attributes=data.books,
        )
        found[name] = version.ref
    return found


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Load the vectors, measure each version, and promote the best."""
    found = edges(data, seed)
    size = data.shape[1]
    refs = load(store, data, found.graph, seed)
    near, scores = in_common(found.graph, found.test)
    rows = [_row("neighbours in common", same_series(near, data), auc(scores))]
    for name, ref in refs.items():
        near, _ = all_similar(store[ref], size, K)
        rows.append(_row(name, same_series(near, data), linked(store[ref], found.test)))

    # Which is to be live is chosen by other edges than those of the table.
    best = max(refs, key=lambda each: linked(store[refs[each]], found.validation))
    store.promote(refs["DeepWalk"])
    start = time.perf_counter()
    store.promote(refs[best], message="joins the validation edges best")
    moved = time.perf_counter() - start
    live = store["graph_walks_books"]
    overlap = store.compare(refs["node2vec, far"], refs["node2vec, near"], k=K).overlap
    assert overlap is not None
    trained = np.mean([store[refs[name]].metrics["seconds"] for name in WALKS])
    return Report(
        rows,
        f"To walk and train takes {trained:.0f} s; all ways stay as versions, so that going from"
        f" one to another takes {1000 * moved:.0f} ms.",
        [
            f"{found.graph.nnz // 2:,} edges of {size:,} books to learn from,"
            f" {found.test.shape[1] // 2:,} to test",
            f"live is {live.ref}, {best}, by its AUC on other edges than those of the table",
            f"of {K} books near one, {K * overlap.mean:.1f} are the same for far and near walks",
        ],
        bars(rows, LINKS),
    )


def _row(name: str, series: float | None, edge: float) -> dict[str, Any]:
    return {"vectors": name, SERIES: series, LINKS: edge}


if __name__ == "__main__":
    main(__doc__, run)
