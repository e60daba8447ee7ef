"""Who took to which book, made up with a known structure, and what several examples compute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

import embstore

Array = NDArray[Any]


@dataclass(frozen=True)
class Data:
    """Books 0, 1, ..., readers 0, 1, ..., ratings, and what else a reader took to.

    Attributes
    ----------
    name : str
    books : pyarrow.Table
        id, title, author, series, year, decade, language, genre, popularity, tags (a list);
        all but id, title, popularity and tags may be null.
    users, items : array (n,), int64
        Of each rating; each pair once, sorted.
    ratings : array (n,)
        Of 5.
    wanted : tuple of two arrays (m,), int64
        Readers and books on their to-read lists.
    """

    name: str
    books: pa.Table
    users: Array
    items: Array
    ratings: Array
    wanted: tuple[Array, Array]

    @property
    def shape(self) -> tuple[int, int]:
        """The number of readers, and of books."""
        return int(np.concatenate([self.users, self.wanted[0]]).max()) + 1, len(self.books)

    def liked(self) -> tuple[Array, Array]:
        """Return readers and books that belong together: rated 4 or 5, or to be read."""
        good = self.ratings >= 4
        users = np.concatenate([self.users[good], self.wanted[0]])
        items = np.concatenate([self.items[good], self.wanted[1]])
        key = np.unique(users * len(self.books) + items)
        return key // len(self.books), key % len(self.books)

    def knows(self, name: str) -> bool:
        """Return whether a column of the books, or ``rating``, tells one from another."""
        if name == "rating":
            return len(np.unique(self.ratings >= 4)) > 1
        return len(set(map(str, self.column(name, None)))) > 1

    def column(self, name: str, other: Any = "") -> list[Any]:
        """Return a column of the books, ``other`` for what is not known."""
        found: list[Any] = self.books[name].to_pylist()
        return [other if each is None else each for each in found]

    def smaller(self, share: float) -> Data:
        """Keep some of the readers; all books stay."""
        step = round(1 / share)
        rated, wanted = self.users % step == 0, self.wanted[0] % step == 0
        return replace(
            self,
            users=self.users[rated] // step,
            items=self.items[rated],
            ratings=self.ratings[rated],
            wanted=(self.wanted[0][wanted] // step, self.wanted[1][wanted]),
        )


def catalogue(
    title: Any, author: Any, series: Any, year: Any, language: Any, tags: Any, popularity: Any
) -> pa.Table:
    """Return the table of books 0, 1, ...; the decade is the year's, the genre the first tag."""
    decades = [None if each is None else f"{each // 10 * 10}s" for each in year]
    return pa.table(
        {
            "id": pa.array(range(len(title)), pa.int64()),
            "title": title,
            "author": author,
            "series": series,
            "year": pa.array(year, pa.int16()),
            "decade": pa.array(decades, pa.string()),
            "language": language,
            "genre": pa.array([own[0] if own else None for own in tags], pa.string()),
            "popularity": popularity,
            "tags": pa.array(tags, pa.list_(pa.string())),
        }
    )


def generated(books: int = 2000, readers: int = 4000, seed: int = 0) -> Data:
    """Make up books by authors, in series, and readers with a taste for some genres."""
    rng = np.random.default_rng(seed)
    authors, genres, dim = books // 7, 20, 16
    genre = rng.integers(0, genres, authors)
    author = rng.integers(0, authors, books)
    series = author * 3 + rng.integers(0, 3, books)
    tastes = rng.standard_normal((genres, dim))
    styles = tastes[genre] + 0.7 * rng.standard_normal((authors, dim))
    stories = styles[np.arange(3 * authors) // 3] + 0.7 * rng.standard_normal((3 * authors, dim))
    content = stories[series] + 0.3 * rng.standard_normal((books, dim))
    liked = np.log(rng.pareto(1.5, books) + 0.1)
    own = tastes[rng.integers(0, genres, readers)] + rng.standard_normal((readers, dim))
    fit = own @ content.T / 4
    each = min(40, books // 5)
    chosen = fit + liked + rng.gumbel(size=fit.shape)
    items = np.sort(np.argpartition(-chosen, each, axis=1)[:, :each], axis=1).ravel()
    users = np.repeat(np.arange(readers), each)
    joy = fit[users, items] + rng.normal(0, 0.5, len(users))
    rating = np.searchsorted(np.quantile(joy, [0.05, 0.15, 0.35, 0.7]), joy) + 1
    rated = rng.random(len(users)) < 0.6
    table = catalogue(
        [f"book {i}" for i in range(books)],
        author=[f"author {i}" for i in author],
        series=[f"series {i}" for i in series],
        year=rng.integers(1950, 2020, books).tolist(),
        language=[("eng", "ger", "fre")[genre[i] % 7 % 3] for i in author],
        tags=[[f"genre {genre[i]}", f"tag {i % 40}"] for i in author],
        popularity=np.maximum(1, (1000 * np.exp(liked)).astype(np.int64)),
    )
    return Data(
        "generated",
        table,
        users[rated],
        items[rated],
        rating[rated],
        (users[~rated], items[~rated]),
    )


def held_out(users: Array, share: float = 0.2, seed: int = 0) -> Array:
    """Choose a share of each reader's interactions for the test, of readers who have five or more.

    Returns
    -------
    array (n,), bool
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(users)), users))
    counts = np.bincount(users)
    starts = np.cumsum(counts) - counts
    place = np.empty(len(users), np.int64)
    place[order] = np.arange(len(users)) - np.repeat(starts, counts)
    most = np.where(counts >= 5, np.ceil(share * counts), 0)
    return np.asarray(place < most[users])


def numbered(lists: list[list[str]]) -> tuple[dict[str, int], Array]:
    """Number the names in lists from 1, as a bag of embeddings takes them.

    Returns
    -------
    mapping of name to number
    array (n, length of the longest), int64
        The numbers of each list, then 0.
    """
    names = sorted({name for own in lists for name in own if name})
    vocabulary = {name: row for row, name in enumerate(names, 1)}
    rows = np.zeros((len(lists), max(map(len, lists))), np.int64)
    for row, own in zip(rows, lists, strict=True):
        row[: len(own)] = [vocabulary.get(name, 0) for name in own]
    return vocabulary, rows


def matrix(users: Array, items: Array, shape: tuple[int, int], values: Any = None) -> csr_matrix:
    """Return the readers x books matrix of ones, or of ``values``."""
    filled = np.ones(len(users), np.float32) if values is None else values
    return csr_matrix((filled, (users, items)), shape)


def co_read_pairs(
    users: Array, items: Array, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw pairs of books of one reader: steps of a random walk on the graph of co-reading.

    Interactions are sorted by reader, as ``liked`` gives them.

    Returns
    -------
    array (count,), array (count,)
    """
    counts = np.bincount(users)
    starts = np.cumsum(counts) - counts
    at = rng.integers(0, len(users), count)
    of = users[at]
    return items[at], items[starts[of] + (rng.random(count) * counts[of]).astype(np.int64)]


def reader_means(vectors: Array, users: Array, items: Array, shape: tuple[int, int]) -> Array:
    """Return to each reader the mean direction of their books (readers, dim); zero without any."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    sums = matrix(users, items, shape) @ (vectors / np.maximum(norms, 1e-12))
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))


def skip_gram(lists: list[list[str]], dim: int, seed: int) -> Any:
    """Return gensim's skip-gram of each reader's books, as words in the order given."""
    from gensim.models import Word2Vec

    return Word2Vec(
        lists,
        vector_size=dim,
        sg=1,
        window=15,
        min_count=1,
        sample=0,
        alpha=0.05,
        epochs=int(np.clip(500_000 // sum(map(len, lists)), 5, 15)),  # of few readers more
        workers=1,
        seed=seed,
    )


def co_read(read: csr_matrix, k: int) -> tuple[Array, Array]:
    """Find the k books that share the most readers with each book, by cosine.

    Readers in common are divided by the root of both books' readers, so that what everybody has
    read is not beside everything.

    Parameters
    ----------
    read : sparse matrix (readers, books) of ones

    Returns
    -------
    two arrays (books, k)
        The books, best first, and the cosines: 0 where no reader is in common.
    """
    by_book = read.T.tocsr()
    scale = (1 / np.sqrt(np.maximum(np.diff(by_book.indptr), 1))).astype(np.float32)
    found, cosines = [], []
    for start in range(0, len(scale), 1000):  # all pairs at once would be half a gigabyte
        some = np.arange(start, min(start + 1000, len(scale)))
        common = (by_book[some] @ read).toarray() * scale[some, None] * scale
        common[np.arange(len(some)), some] = -1  # a book is not beside itself
        best = np.argpartition(-common, k, axis=1)[:, :k]
        own = np.take_along_axis(common, best, axis=1)
        order = np.argsort(-own, axis=1, kind="stable")
        found.append(np.take_along_axis(best, order, axis=1))
        cosines.append(np.take_along_axis(own, order, axis=1))
    return np.concatenate(found), np.concatenate(cosines)


def all_similar(version: embstore.Version, books: int, k: int) -> tuple[Array, Array]:
    """Ask a version for the k nearest of every book.

    Returns
    -------
    near : array (books, k), int64
        A book without a vector gets book 0, k times.
    known : array (books,), bool
        Which have one.
    """
    known = version.lookup(np.arange(books), missing="zero").found
    near = np.zeros((books, k), np.int64)
    near[known] = version.similar(np.flatnonzero(known), k=k).ids
    return near, known


def same_series(near: Array, data: Data) -> float | None:
    """Measure near books: the share of the books in a series that have one of it among theirs.

    Parameters
    ----------
    near : array (books, k)
        The k books nearest to book 0, 1, ...
    data : Data
        A book without a series, or alone in it, does not count.

    Returns
    -------
    float or None
        None where no two books are of one series.
    """
    _, number, size = np.unique(data.column("series"), return_inverse=True, return_counts=True)
    asked = (np.array(data.column("series")) != "") & (size[number] > 1)
    if not asked.any():
        return None
    return float((number[near[asked]] == number[asked, None]).any(axis=1).mean())


def pairs(users: Array, items: Array) -> pa.Table:
    """Return interactions as ``evaluate`` and ``recall`` read them."""
    return pa.table({"user_id": pa.array(users), "item_id": pa.array(items)})
