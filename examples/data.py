"""Who took to which book: goodbooks-10k where it is, else made up with a known structure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

import embstore

Array = NDArray[Any]

# Where goodbooks-10k is as Parquet: books, ratings, to_read and book_tags.
GOODBOOKS = Path(__file__).parents[2] / "shared" / "data" / "goodbooks"


@dataclass(frozen=True)
class Data:
    """Books 0, 1, ..., readers 0, 1, ..., ratings, and what else a reader took to.

    Attributes
    ----------
    name : str
    books : pyarrow.Table
        id, title, author, series, year, decade, language, genre, popularity, tags (a list);
        series, year, decade, language and genre may be null.
    users, items : array (n,), int64
        Of each rating; each pair once, sorted.
    ratings : array (n,), int64
        1 to 5.
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
        return int(max(self.users.max(), self.wanted[0].max())) + 1, len(self.books)

    def liked(self) -> tuple[Array, Array]:
        """Return readers and books that belong together: rated 4 or 5, or to be read."""
        good = self.ratings >= 4
        users = np.concatenate([self.users[good], self.wanted[0]])
        items = np.concatenate([self.items[good], self.wanted[1]])
        key = np.unique(users * len(self.books) + items)
        return key // len(self.books), key % len(self.books)

    def column(self, name: str, other: Any = "") -> list[Any]:
        """Return a column of the books, ``other`` for what is not known."""
        filled: list[Any] = pc.fill_null(self.books[name], other).to_pylist()
        return filled

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


def read(folder: Path | None = None, *, quick: bool = False, seed: int = 0) -> Data:
    """Read goodbooks-10k from a folder, by default from where it lies beside the project.

    Where it is not, data are generated. ``quick`` keeps a twentieth of the readers.
    """
    if folder is None and not GOODBOOKS.exists():
        return generated(400 if quick else 2000, 800 if quick else 4000, seed)
    data = goodbooks(folder or GOODBOOKS)
    return data.smaller(1 / 20) if quick else data


def goodbooks(folder: Path) -> Data:
    """Read goodbooks-10k; the series is in the title, the genre is the first tag that says much."""
    books = pq.read_table(folder / "books.parquet").sort_by("book_id")
    tags = pq.read_table(folder / "book_tags.parquet")
    counts = pc.value_counts(tags["tag"])
    share = counts.field("counts")
    # What is on every book ("to-read") or on hardly any says nothing.
    rare = pc.or_(pc.less(share, 20), pc.greater(share, len(books) // 5))
    tags = tags.filter(pc.is_in(tags["tag"], counts.field("values").filter(pc.invert(rare))))
    best: dict[int, list[str]] = {}
    for book, tag in zip(tags["book_id"].to_pylist(), tags["tag"].to_pylist(), strict=True):
        best.setdefault(book, []).append(tag)  # they come by count, the highest first
    lists = [best.get(book, [])[:20] for book in books["book_id"].to_pylist()]
    series = pc.extract_regex(books["title"], r"\((?P<name>[^()]+?),? #[\d.]+")
    table = pa.table(
        {
            "id": pa.array(range(len(books)), pa.int64()),
            "title": books["title"],
            "author": pc.list_element(pc.split_pattern(books["authors"], ","), 0),
            "series": pc.struct_field(series, "name"),
            "year": books["year"],
            "decade": [
                None if each is None else f"{each // 10 * 10}s"
                for each in books["year"].to_pylist()
            ],
            "language": books["language"],
            "genre": [own[0] if own else None for own in lists],
            "popularity": books["ratings_count"],
            "tags": lists,
        }
    )
    ratings = pq.read_table(folder / "ratings.parquet")
    wanted = pq.read_table(folder / "to_read.parquet")
    users, items = (
        ratings[name].to_numpy().astype(np.int64) - 1 for name in ("user_id", "book_id")
    )
    return Data(
        "goodbooks-10k",
        table,
        users,
        items,
        ratings["rating"].to_numpy().astype(np.int64),
        (_numbers(wanted, "user_id"), _numbers(wanted, "book_id")),
    )


def _numbers(table: pa.Table, name: str) -> Array:
    """Return ids that count from 0; theirs count from 1."""
    return np.asarray(table[name].to_numpy().astype(np.int64) - 1)


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
    year = rng.integers(1950, 2020, books)
    table = pa.table(
        {
            "id": pa.array(range(books), pa.int64()),
            "title": [f"book {i}" for i in range(books)],
            "author": [f"author {i}" for i in author],
            "series": [f"series {i}" for i in series],
            "year": pa.array(year, pa.int16()),
            "decade": [f"{each // 10 * 10}s" for each in year],
            "language": [("eng", "ger", "fre")[genre[i] % 7 % 3] for i in author],
            "genre": [f"genre {genre[i]}" for i in author],
            "popularity": np.maximum(1, (1000 * np.exp(liked)).astype(np.int64)),
            "tags": [[f"genre {genre[i]}", f"tag {i % 40}"] for i in author],
        }
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


def same_series(near: Array, data: Data) -> float:
    """Measure near books: the share of the books in a series that have one of it among theirs.

    Parameters
    ----------
    near : array (books, k)
        The k books nearest to book 0, 1, ...
    data : Data
        A book without a series, or alone in it, does not count.
    """
    _, number, size = np.unique(data.column("series"), return_inverse=True, return_counts=True)
    asked = (np.array(data.column("series")) != "") & (size[number] > 1)
    return float((number[near[asked]] == number[asked, None]).any(axis=1).mean())


def pairs(users: Array, items: Array) -> pa.Table:
    """Return interactions as ``evaluate`` and ``recall`` read them."""
    return pa.table({"user_id": pa.array(users), "item_id": pa.array(items)})
