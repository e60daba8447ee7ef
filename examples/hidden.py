"""Books that a training never saw, and two questions to the vectors that they got otherwise."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

import embstore

from .data import Array, Data

K, TESTS = 10, 20_000


@dataclass(frozen=True)
class Hidden:
    """Books that are hidden, and which interactions are theirs.

    Attributes
    ----------
    books : array (h,), int64
    of : array (n,), bool
        Whether an interaction is with one of them: no training of a cold start has seen it.
    exam : array (n,), bool
        Half of those, which nobody has seen.
    few : array (m,), int64
        The numbers of some of the other half, that are known when the book is added.
    """

    books: Array
    of: Array
    exam: Array
    few: Array


def hide(items: Array, count: int, rng: np.random.Generator, few: int = 5) -> Hidden:
    """Hide some of the books that have enough interactions to be asked about."""
    enough = np.flatnonzero(np.bincount(items) >= 4 * few)
    if len(enough) < 4 * K:
        raise embstore.BadInput(
            f"{len(enough)} items have {4 * few} interactions or more: to hide half of them and ask"
            f" for {K}, {4 * K} are needed"
        )
    books = np.sort(rng.choice(enough, min(count, len(enough) // 2), replace=False))
    of = np.isin(items, books)
    exam = of & (rng.random(len(items)) < 0.5)
    known = np.flatnonzero(of & ~exam)
    order = rng.permutation(known)
    order = order[np.argsort(items[order], kind="stable")]
    starts = np.searchsorted(items[order], items[order])
    return Hidden(books, of, exam, np.sort(order[np.arange(len(order)) - starts < few]))


class Exam:
    """The two questions: are books of the same series near, and do its readers find the book?

    ``same series@10`` is the share of the hidden books with others of their series in the catalogue
    of which one is among the ten nearest of all books; None where there are none.
    ``held-out reader@10`` is the share of the exam's interactions whose book is among the reader's
    ten nearest of the hidden ones. A book without a vector is a miss.
    """

    def __init__(
        self, data: Data, hidden: Hidden, users: Array, items: Array, rng: np.random.Generator
    ) -> None:
        """Take readers and books (n,) of all interactions; those of the exam are asked about."""
        self.series = np.array(data.column("series"), dtype=object)
        self.popularity = np.array(data.column("popularity", 0))
        several = {name for name, count in Counter(self.series).items() if name and count > 1}
        self.hidden = hidden.books
        asked = [book for book in hidden.books if self.series[book] in several]
        self.asked = np.array(asked, np.int64)
        # Readers of hidden books alone are as new as these.
        reading = np.zeros(data.shape[0], bool)
        reading[users[~hidden.of]] = True
        tests = np.flatnonzero(hidden.exam & reading[users])
        tests = rng.choice(tests, min(TESTS, len(tests)), replace=False)
        self.users, self.items = users[tests], items[tests]

    def __str__(self) -> str:
        return (
            f"{len(self.hidden)} books hidden, {len(self.asked)} of which have others of their"
            f" series; {len(self.items):,} of their interactions held out."
        )

    def of(self, name: str, version: embstore.Version, readers: Array) -> dict[str, Any]:
        """Return a row of the table, given vectors (readers, dim) of all readers.

        A replica answers: it compares every row, thousands of queries in a second.
        """
        with tempfile.TemporaryDirectory() as folder:
            replica = version.replica(folder, index="none")
            there = replica.lookup(self.hidden, "zero").found
            asked = self.asked[np.isin(self.asked, self.hidden[there])]
            near = replica.similar(asked, K).ids
            who, which = np.unique(self.users, return_inverse=True)
            found = replica.nearest(readers[who], K, where={"id": self.hidden}).ids
        hits = (found[which] == self.items[:, None]).any(axis=1)
        return self._row(name, there.mean(), self._same(near, asked), hits.mean())

    def of_popular(self) -> dict[str, Any]:
        """Return the row of the most popular books, whoever asks."""
        best = np.argsort(-self.popularity, kind="stable")
        near = np.array([best[best != book][:K] for book in self.asked])
        top = best[np.isin(best, self.hidden)][:K]
        hits = np.isin(self.items, top)
        return self._row("popularity", None, self._same(near, self.asked), hits.mean())

    def _same(self, near: Array, asked: Array) -> float | None:
        if not len(self.asked):
            return None
        same = (self.series[near] == self.series[asked][:, None]).any(axis=1)
        return float(same.sum() / len(self.asked))

    def _row(self, name: str, *measured: Any) -> dict[str, Any]:
        names = "hidden books with one", f"same series@{K}", f"held-out reader@{K}"
        values = (None if each is None else float(each) for each in measured)
        return {"vectors": name, **dict(zip(names, values, strict=True))}
