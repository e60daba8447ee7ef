"""PCA against learned embeddings: five models on the same recall, each a version of both sides.

PCA and a truncated SVD of who has read what (PureSVD: Cremonesi, Koren & Turrin 2010), a
factorization machine over reader and book (Rendle 2010, trained by BPR: Rendle et al. 2009),
item2vec (Barkan & Koenigstein 2016) and two towers with sampled softmax (Yi et al. 2019). All are
asked by inner product, what a reader has read left out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from implicit.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA, TruncatedSVD
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

import embstore

from ..data import Data, held_out, matrix, pairs, reader_means, skip_gram
from ..report import Report, bars, fresh, main

DIM, K = 32, 10
BOOKS, READERS = "pca_books", "pca_readers"
# What ``load`` takes of the books, and of the readers.
Loads = tuple[dict[str, Any], dict[str, Any]]


def pca(read: csr_matrix, seed: int) -> Loads:
    """Fit PCA; the mean that it takes from the matrix is folded in again, as a bias is."""
    model = PCA(DIM, svd_solver="arpack", random_state=seed).fit(read)
    books = {"vector": model.components_.T, "bias": model.mean_}
    told = {"trainer": "sklearn.PCA", "bias": "fold"}
    return {"source": books, "vectors": "vector", **told}, {
        "source": model.transform(read),
        "biases": 1,
        **told,
    }


def svd(read: csr_matrix, seed: int) -> Loads:
    """Fit a truncated SVD: its components are the books, what it transforms the readers."""
    model = TruncatedSVD(DIM, random_state=seed).fit(read)
    return {"source": model}, {"source": model, "X": read}


def fm(read: csr_matrix, seed: int) -> Loads:
    """Train a factorization machine of two fields; the books' biases are its last column."""
    with threadpool_limits(1, "blas"):  # it has threads of its own
        model = BayesianPersonalizedRanking(
            DIM - 1, iterations=60, learning_rate=0.05, num_threads=1, random_state=seed
        )
        model.fit(read, show_progress=False)
    told = {"source": model, "bias": "fold"}
    return {"vectors": "item_factors", **told}, {"vectors": "user_factors", **told}


def item2vec(read: csr_matrix, seed: int) -> Loads:
    """Train skip-gram on each reader's books; a reader is the mean of their books' directions."""
    rng = np.random.default_rng(seed)
    lists = [list(map(str, rng.permutation(own))) for own in np.split(read.indices, read.indptr)]
    model = skip_gram(lists, DIM, seed)
    books = np.zeros((read.shape[1], DIM), np.float32)
    books[np.array(model.wv.index_to_key, int)] = model.wv.get_normed_vectors()
    users, items = read.nonzero()
    readers = reader_means(books, users, items, read.shape)
    return {"source": books, "trainer": "gensim.Word2Vec"}, {"source": readers}


class Towers(nn.Module):
    """The mean of what a reader has read, and a book, each through layers of its own."""

    def __init__(self, books: int) -> None:
        super().__init__()
        self.read, self.book = nn.Embedding(books, DIM), nn.Embedding(books, DIM)
        self.reader = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.ReLU(), nn.Linear(2 * DIM, DIM))
        for each in (self.read, self.book):
            nn.init.normal_(each.weight, std=0.1)

    def forward(self, means: Tensor, books: Tensor) -> Tensor:
        """Return the logits of readers (n, dim) with books (m,): (n, m)."""
        logits: Tensor = self.reader(means) @ self.book(books).T
        return logits


def two_towers(read: csr_matrix, seed: int) -> Loads:
    """Train two towers: of a batch's books, which is this reader's?"""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    model = Towers(read.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    users, items = read.nonzero()
    counts = np.diff(read.indptr)
    often = torch.from_numpy(np.log(np.maximum(np.bincount(items, minlength=read.shape[1]), 1)))
    for _ in range(int(np.clip(len(users) // 400, 60, 500))):
        at = rng.integers(0, len(users), 1024)
        of, book = users[at], torch.from_numpy(items[at]).long()
        # Twenty of the reader's books at random, without the one that is asked for.
        others = read.indptr[of, None] + rng.random((len(at), 20)) * counts[of, None]
        given = torch.from_numpy(read.indices[others.astype(np.int64)]).long()
        there = (given != book[:, None]).float()[:, :, None]
        means = (model.read(given) * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
        # A book is as often among the wrong ones as it is read; the softmax is told so.
        logits = model(means, book) - often[book]
        logits.masked_fill_((book[:, None] == book).fill_diagonal_(False), -torch.inf)
        loss: Any = functional.cross_entropy(logits, torch.arange(len(at)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        known = torch.from_numpy(read @ model.read.weight.numpy() / np.maximum(counts, 1)[:, None])
        readers = model.reader(known.float()).numpy()
    return {"source": model, "vectors": "book"}, {"source": readers, "trainer": "Towers"}


MODELS: dict[str, Callable[[csr_matrix, int], Loads]] = {
    "PCA": pca,
    "truncated SVD": svd,
    "FM": fm,
    "item2vec": item2vec,
    "two towers": two_towers,
}


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Train each, load both sides, and ask all versions for what was held out."""
    if data.shape[0] > 30_000:
        data = data.smaller(1 / 4)
    users, items = data.liked()
    test = held_out(users, seed=seed)
    read = matrix(users[~test], items[~test], data.shape)
    books, readers = (fresh(store, name, metric="ip") for name in (BOOKS, READERS))
    how: dict[str, Any] = {"ids": "row-number", "zero": "keep", "index": "none"}
    built, versions = [], []
    for name, train in MODELS.items():
        start = time.perf_counter()
        sides = train(read, seed)
        built.append(time.perf_counter() - start)
        for table, side in zip((books, readers), sides, strict=True):
            loaded = table.load(**how, **side, space=f"{name} {seed}")
            versions += [loaded] if table is books else []
    history, asked = pairs(users[~test], items[~test]), pairs(users[test], items[test])
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = store.evaluate(
            [each.ref for each in versions],
            asked,
            users=READERS,
            history=history,
            k=K,
            sample=5000,
            seed=seed,
            cache_dir=folder,
        )
    asking = time.perf_counter() - start
    best = max(range(len(versions)), key=lambda of: hit(found.results[of]))
    versions[best].promote(message="the best hit rate")
    rows = [row("popularity", found.popularity, None, None)]
    measured = zip(MODELS, found.results, versions, built, strict=True)
    rows += [row(name, result, of.dim, seconds) for name, result, of, seconds in measured]
    return Report(
        rows,
        f"Ten versions were trained once, in {sum(built):.0f} s, and asked in one call of"
        f" {asking:.1f} s; their figures stay with them, and {list(MODELS)[best]} is live.",
        [f"{data.shape[0]:,} readers; {found.users:,} asked for {found.pairs:,} books held out."],
        bars(rows, f"hit rate@{K}"),
    )


def hit(result: Any) -> float:
    """Return a version's hit rate."""
    return float(result.measures[f"hit_rate@{K}"].value)


def row(name: str, result: Any, dim: int | None, seconds: float | None) -> dict[str, Any]:
    """Return a row of the table."""
    interval = result.measures[f"hit_rate@{K}"]
    return {
        "model": name,
        f"hit rate@{K}": hit(result),
        "95%": f"{interval.low:.3f} to {interval.high:.3f}",
        f"coverage@{K}": result.measures[f"coverage@{K}"].value,
        f"novelty@{K}": result.measures[f"novelty@{K}"].value,
        "dims": dim,
        "build, s": seconds,
    }


if __name__ == "__main__":
    main(__doc__, run)
