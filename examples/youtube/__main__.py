"""YouTube's recall: a softmax over all books, whose two sides become versions.

A network reads what a reader has read and says what they read next: the mean of the books'
embeddings, hidden layers, and a softmax over all books (Covington, Adams & Sargin 2016). Its logits
are inner products. So the output weights, biases folded in, are the books' vectors; the last hidden
layer, with a 1 beside, is the reader's; and the k largest logits are a search in the store.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import nn

import embstore

from ..data import Array, Data, held_out, matrix, pairs
from ..report import Report, bars, fresh, main

K, BATCH, EPOCHS = 10, 256, 12
READERS, BOOKS = "youtube_readers", "youtube_books"
# One reader of so many is not there when the network is trained.
LATE = 20


class Network(nn.Module):
    """Books that were read -> embeddings, averaged -> hidden layers -> a logit for every book."""

    def __init__(self, books: int, dim: int = 32) -> None:
        super().__init__()
        self.read = nn.EmbeddingBag(books, dim, mode="mean")
        self.hidden = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.output = nn.Linear(dim, books)

    def reader(self, read: csr_matrix) -> torch.Tensor:
        """Return the last hidden layer (readers, dim) for a matrix (readers, books)."""
        books, starts = (torch.from_numpy(x.astype(np.int64)) for x in (read.indices, read.indptr))
        found: torch.Tensor = self.hidden(self.read(books, starts[:-1]))
        return found

    def forward(self, read: csr_matrix) -> torch.Tensor:
        """Return the logits (readers, books)."""
        found: torch.Tensor = self.output(self.reader(read))
        return found


def train(read: csr_matrix, seed: int) -> tuple[Network, float]:
    """Let the network guess half of what each reader has read from the other half.

    Returns
    -------
    Network
    float
        The last epoch's cross-entropy.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # with two, each would wait for the other more than it works
    rng = np.random.default_rng(seed)
    network = Network(read.shape[1])
    # It begins by recommending what is popular. A constant in all biases changes no answer, but
    # it would turn all vectors to one side, where an index of inner products finds little.
    popular = torch.from_numpy(np.log1p(np.asarray(read.sum(axis=0)).ravel()))
    network.output.bias.data = popular - popular.mean()
    learning = torch.optim.Adam(network.parameters(), lr=0.005)
    loss = 0.0
    for _ in range(EPOCHS):
        order, loss = rng.permutation(read.shape[0]), 0.0
        for start in range(0, len(order), BATCH):
            given = read[order[start : start + BATCH]]
            half = rng.random(given.nnz) < 0.5
            who, what = given.nonzero()
            who, what = torch.from_numpy(who[half]).long(), torch.from_numpy(what[half]).long()
            given.data[half] = 0
            given.eliminate_zeros()
            logits = network(given)
            # Of each hidden book; every reader weighs the same, however much they have read.
            entropy = logits.logsumexp(dim=1)[who] - logits[who, what]
            error = (entropy / who.bincount()[who]).sum() / given.shape[0]
            learning.zero_grad()
            error.backward()
            learning.step()
            loss += error.item() * given.shape[0] / len(order)
    return network, loss


def hidden(network: Network, read: csr_matrix) -> Array:
    """Return readers' vectors (readers, dim), as numpy."""
    with torch.no_grad():
        return network.reader(read).numpy()


def load(
    store: embstore.Store, network: Network, read: csr_matrix, readers: Array, how: dict[str, Any]
) -> None:
    """Load both sides of the softmax, and make them live together."""
    users, books = (fresh(store, each, metric="ip") for each in (READERS, BOOKS))
    vectors = hidden(network, read[readers])
    who = users.load(vectors, ids=readers, bias="fold", biases=1, trainer="Network", **how)
    # The layer's own biases are folded in: [w, b] . [h, 1] is the logit.
    what = books.load(network, vectors="output", ids="row-number", bias="fold", index="hnsw", **how)
    store.release({READERS: who.number, BOOKS: what.number})


def on_line(
    network: Network, replica: embstore.Replica, read: csr_matrix, readers: Array
) -> tuple[float, float]:
    """Return the median milliseconds of one new reader: the network's, and the replica's."""
    times = []
    for reader in readers:
        start = time.perf_counter()
        vector = np.append(hidden(network, read[reader]), 1)
        computed = time.perf_counter()
        replica.nearest(vector, k=K, exclude=[read[reader].indices])
        times.append((computed - start, time.perf_counter() - computed))
    network_s, replica_s = np.median(times, axis=0)
    return 1000 * float(network_s), 1000 * float(replica_s)


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Train, release, recall for all in a night, and for who comes by day."""
    if data.shape[0] > 30_000:
        data = data.smaller(1 / 2)
    users, items = data.liked()
    test = held_out(users, seed=seed)
    read = matrix(users[~test], items[~test], data.shape)
    known = np.diff(read.indptr) > 0
    late = known & (np.arange(data.shape[0]) % LATE == 0)
    readers = np.flatnonzero(known & ~late)
    start = time.perf_counter()
    network, loss = train(read[readers], seed)
    training = time.perf_counter() - start
    how = {"space": f"network {seed}", "params": {"epochs": EPOCHS}, "metrics": {"loss": loss}}
    load(store, network, read, readers, how)

    history = pairs(users[~test], items[~test])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        recall = store.recall(READERS, BOOKS, k=K, exclude=history, cache_dir=folder)
        recall.to_table("youtube_recs")
        night = time.perf_counter() - start

        replica = store[BOOKS].replica(folder)
        new = np.flatnonzero(late)
        ms = on_line(network, replica, read, new[:200])
        # What was computed on line can join the version, until the next training.
        store[READERS].append(hidden(network, read[new]), ids=new, bias="fold", biases=1)
        rows = []
        for who, some in (("readers", ~late[users]), ("new readers", late[users])):
            asked = pairs(users[test & some], items[test & some])
            asking: dict[str, Any] = {"users": READERS, "history": history, "k": K, "sample": 5000}
            exact = store.evaluate(BOOKS, asked, cache_dir=folder, **asking)
            index = store.evaluate(BOOKS, asked, exact=False, **asking)
            rows += [
                _row(f"{who}: popularity", exact.popularity),
                _row(f"{who}: exact", exact.results[0]),
                _row(f"{who}: HNSW", index.results[0]),
            ]
    return Report(
        rows,
        f"A night's {K} books for {len(readers):,} readers took {night:.1f} s, the table in SQL"
        f" included; a new reader takes {ms[0]:.2f} ms in the network and {ms[1]:.2f} ms in the"
        f" replica, where a training takes {training:.0f} s.",
        [
            f"Cross-entropy {loss:.2f} after {EPOCHS} epochs; guessing blindly has"
            f" {np.log(data.shape[1]):.2f}.",
        ],
        bars(rows, HIT),
    )


HIT = f"hit rate@{K}"


def _row(name: str, found: Any) -> dict[str, Any]:
    hit = found.measures[f"hit_rate@{K}"]
    return {
        "recall": name,
        HIT: hit.value,
        "95%": f"{hit.low:.3f} to {hit.high:.3f}",
        f"recall@{K}": found.measures[f"recall@{K}"].value,
        f"coverage@{K}": found.measures[f"coverage@{K}"].value,
    }


if __name__ == "__main__":
    main(__doc__, run)
