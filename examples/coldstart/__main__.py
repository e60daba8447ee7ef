"""Hide books from the training, give them vectors each way of a cold start, and see how good.

python coldstart.py [FOLDER] [--hide 500] [--seed 0] [--quick]

FOLDER holds goodbooks-10k as books.parquet, ratings.parquet, to_read.parquet and
book_tags.parquet; without it the data are generated. The store is $EMBSTORE_URL, else the embedded
one; its tables coldstart_* are made anew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.sparse import csr_array, diags_array
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge

import embstore

DIM, FEW, K, TESTS = 64, 5, 10, 20_000


@dataclass
class Data:
    """Books 0, 1, ... and who took to which."""

    books: pa.Table  # id, title, author, series, year, popularity, genre, tags
    users: np.ndarray[Any, Any]  # of each interaction
    items: np.ndarray[Any, Any]


def goodbooks(folder: Path) -> Data:
    """Ratings of 4 and 5 and to-read pairs; the series is in the title, the genre the first tag."""
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
    ratings = pq.read_table(folder / "ratings.parquet", filters=[("rating", ">=", 4)])
    wanted = pq.read_table(folder / "to_read.parquet")
    pairs = pa.concat_tables([ratings.select(wanted.column_names), wanted])
    keys = ["user_id", "book_id"]
    # In one order, from which all that is random is drawn.
    pairs = pairs.group_by(keys).aggregate([]).sort_by([(each, "ascending") for each in keys])
    table = {
        "id": pa.array(range(len(books))),
        "title": books["title"],
        "author": pc.list_element(pc.split_pattern(books["authors"], ","), 0),
        "series": pc.struct_field(series, "name"),
        "year": books["year"],
        "popularity": books["ratings_count"],
        "genre": [own[0] if own else None for own in lists],
        "tags": lists,
    }
    # Their ids count from 1.
    return Data(pa.table(table), pairs["user_id"].to_numpy(), pairs["book_id"].to_numpy() - 1)


def generated(seed: int) -> Data:
    """2,000 books by 300 authors, in series, and 4,000 readers with a taste."""
    rng = np.random.default_rng(seed)
    genre = rng.integers(0, 20, 300)
    author = rng.integers(0, 300, 2000)
    series = author * 3 + rng.integers(0, 3, 2000)
    tastes = rng.standard_normal((20, 16))
    authors = tastes[genre] + 0.7 * rng.standard_normal((300, 16))
    stories = authors[np.arange(900) // 3] + 0.7 * rng.standard_normal((900, 16))
    books = stories[series] + 0.3 * rng.standard_normal((2000, 16))
    liked = np.log(rng.pareto(1.5, 2000) + 0.1)
    readers = tastes[rng.integers(0, 20, 4000)] + rng.standard_normal((4000, 16))
    drawn = readers @ books.T / 4 + liked + rng.gumbel(size=(4000, 2000))
    items = np.argpartition(-drawn, 40, axis=1)[:, :40].ravel()
    table = {
        "id": range(2000),
        "title": [f"book {i}" for i in range(2000)],
        "author": [f"author {i}" for i in author],
        "series": [f"series {i}" for i in series],
        "year": rng.integers(1950, 2020, 2000),
        "popularity": np.exp(liked).round(3),
        "genre": [f"genre {genre[i]}" for i in author],
        "tags": [[f"genre {genre[i]}", f"tag {i % 40}"] for i in author],
    }
    return Data(pa.table(table), np.repeat(np.arange(4000), 40), items)


@dataclass
class Training:
    """A truncated SVD of the books x readers matrix, both sides in one space."""

    svd: TruncatedSVD
    items: np.ndarray[Any, Any]
    users: np.ndarray[Any, Any]
    scale: np.ndarray[Any, Any]  # of each reader: who reads all says little


def matrix(data: Data, chosen: Any, scale: Any = None) -> tuple[Any, Any]:
    """Return the books x readers matrix of the chosen interactions, scaled by both degrees."""
    shape = (len(data.books), int(data.users.max()) + 1)
    seen = csr_array(
        (np.ones(len(data.users[chosen])), (data.items[chosen], data.users[chosen])), shape
    )
    if scale is None:
        scale = 1 / np.sqrt(np.maximum(seen.sum(axis=0), 1))
    rows = 1 / np.sqrt(np.maximum(seen.sum(axis=1), 1))
    return diags_array(rows) @ seen @ diags_array(scale), scale


def train(data: Data, chosen: Any) -> Training:
    """Train on the chosen interactions."""
    seen, scale = matrix(data, chosen)
    svd = TruncatedSVD(DIM, n_iter=3, random_state=0)
    items = svd.fit_transform(seen)
    return Training(svd, items, svd.components_.T, scale)


def means(vectors: Any, names: list[list[str]]) -> tuple[list[str], Any]:
    """Return each name, and the mean direction of the books that have it."""
    flat = pa.array([each for own in names for each in own]).dictionary_encode()
    rows = np.repeat(np.arange(len(names)), [len(own) for own in names])
    shape = (len(flat.dictionary), len(names))
    holds = csr_array((np.ones(len(rows)), (np.asarray(flat.indices), rows)), shape)
    sums = holds @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return flat.dictionary.to_pylist(), sums / np.linalg.norm(sums, axis=1, keepdims=True)


def fresh(store: embstore.Store, name: str) -> embstore.Table:
    """Return an empty table."""
    if name in {each.name for each in store.tables()}:
        store.drop_table(name)
    return store.create_table(name)


@dataclass
class Hidden:
    """The books that no training of the cold start has seen; interactions by their numbers."""

    books: np.ndarray[Any, Any]
    all: np.ndarray[Any, Any]  # whether an interaction is of one
    exam: np.ndarray[Any, Any]  # half of those
    few: np.ndarray[Any, Any]  # some of the other half, that are known


def hide(data: Data, count: int, rng: np.random.Generator) -> Hidden:
    """Hide some of the books that have enough interactions to be asked about."""
    enough = np.flatnonzero(np.bincount(data.items, minlength=len(data.books)) >= 4 * FEW)
    books = np.sort(rng.choice(enough, min(count, len(enough) // 2), replace=False))
    of_hidden = np.isin(data.items, books)
    exam = of_hidden & (rng.random(len(data.items)) < 0.5)
    rest = [np.flatnonzero((data.items == book) & ~exam) for book in books]
    few = [rng.choice(own, min(FEW, len(own)), replace=False) for own in rest]
    return Hidden(books, of_hidden, exam, np.concatenate(few))


class Exam:
    """The two questions to a version: does it know the series, and the readers held out?"""

    def __init__(self, data: Data, hidden: Hidden, tests: Any) -> None:
        self.series = np.array(pc.fill_null(data.books["series"], "").to_pylist(), dtype=object)
        several = {name for name, count in Counter(self.series).items() if name and count > 1}
        self.hidden = hidden.books
        self.asked = np.array([book for book in hidden.books if self.series[book] in several])
        self.users, self.items = data.users[tests], data.items[tests]

    def of(self, version: embstore.Version, users: Any) -> tuple[float | None, float, float]:
        """Return the share of hidden books with a vector, and both hit rates."""
        with tempfile.TemporaryDirectory() as folder:
            replica = version.replica(folder, index="none")
            there = replica.lookup(self.hidden, "zero").found
            asked = self.asked[np.isin(self.asked, self.hidden[there])]
            near = replica.similar(asked, K).ids
            readers, which = np.unique(self.users, return_inverse=True)
            found = replica.nearest(users[readers], K, where={"id": self.hidden}).ids
        # A book without a vector is a miss.
        same = (self.series[near] == self.series[asked][:, None]).any(axis=1)
        hits = (found[which] == self.items[:, None]).any(axis=1)
        return float(there.mean()), float(same.sum() / len(self.asked)), float(hits.mean())

    def of_popular(self, popularity: Any) -> tuple[float | None, float, float]:
        """Return the hit rates of the most popular books, whoever asks."""
        best = np.argsort(-popularity, kind="stable")
        near = np.stack([best[best != book][:K] for book in self.asked])
        same = (self.series[near] == self.series[self.asked][:, None]).any(axis=1)
        top = best[np.isin(best, self.hidden)][:K]
        return None, float(same.mean()), float(np.isin(self.items, top).mean())


def regression(known: pa.Table, vectors: Any) -> Any:
    """Return a function that predicts vectors from tags, by ridge regression."""
    lists = known["tags"].to_pylist()
    place = {tag: i for i, tag in enumerate(sorted({tag for own in lists for tag in own}))}

    def features(tags: list[list[str]]) -> Any:
        pairs = [(i, place[tag]) for i, own in enumerate(tags) for tag in own if tag in place]
        return csr_array((np.ones(len(pairs)), np.array(pairs).T), (len(tags), len(place)))

    model = Ridge(alpha=5, solver="sparse_cg", tol=1e-2)
    model.fit(features(lists), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return lambda rows, version: model.predict(features(rows["tags"].to_pylist()))


def load_beside(
    store: embstore.Store, training: Training, known: pa.Table, vectors: Any, space: str
) -> None:
    """Load the readers, the authors and the tags of the training's space."""
    reading = np.linalg.norm(training.users, axis=1) > 1e-12
    fresh(store, "coldstart_users").load(
        training.users[reading],
        ids=np.flatnonzero(reading),
        index="none",
        space=space,
        promote=True,
    )
    names = {
        "authors": [[each] for each in known["author"].to_pylist()],
        "tags": known["tags"].to_pylist(),
    }
    for name, lists in names.items():
        ids, directions = means(vectors, lists)
        table = fresh(store, f"coldstart_{name}")
        table.load(directions, ids=ids, index="none", space=space, promote=True)


def rows(books: pa.Table, vectors: Any) -> pa.Table:
    """Return books with their vectors, those that have one."""
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    there = np.linalg.norm(vectors, axis=1) > 1e-12
    return books.append_column("embedding", flat).filter(pa.array(there))


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--hide", type=int, default=500, help="how many books")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the readers")
    asked = parser.parse_args()
    start, rng = time.monotonic(), np.random.default_rng(asked.seed)
    data = goodbooks(asked.folder) if asked.folder else generated(asked.seed)
    if asked.quick:
        kept = data.users % 20 == 0
        data.users, data.items = data.users[kept] // 20, data.items[kept]

    hidden = hide(data, asked.hide, rng)
    cold, whole = train(data, ~hidden.all), train(data, ~hidden.exam)
    # Readers of hidden books alone are as new as these.
    reading = np.linalg.norm(cold.users, axis=1) > 1e-12
    tests = np.flatnonzero(hidden.exam & reading[data.users])
    exam = Exam(data, hidden, rng.choice(tests, min(TESTS, len(tests)), replace=False))

    known, new = rows(data.books, cold.items), data.books.take(pa.array(hidden.books))
    vectors = cold.items[known["id"].to_numpy()]
    few = {"item": data.items[hidden.few], "user": data.users[hidden.few]}
    features, _ = matrix(data, hidden.few, cold.scale)
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "random": (lambda rows, version: rng.standard_normal((len(rows), DIM)), {}),
        "mean_of_neighbours: author, year": (
            "mean_of_neighbours",
            {"match": ["author"], "near": {"year": 20}, "k": 3},
        ),
        "side_information: author, tags": (
            "side_information",
            {"tables": {"author": "coldstart_authors", "tags": "coldstart_tags"}},
        ),
        "a function: ridge regression on tags": (regression(known, vectors), {}),
        f"transform of {FEW} interactions": (
            "transform",
            {"model": cold.svd, "X": features[hidden.books]},
        ),
        f"fold_in of {FEW} interactions": (
            "fold_in",
            {"interactions": few, "other": "coldstart_users", "reg": 0.1, "alpha": 100.0}
            | {"columns": ["item", "user"]},
        ),
    }
    measured = {"popularity": exam.of_popular(data.books["popularity"].to_numpy())}
    with embstore.connect() as store:
        space = f"coldstart-{asked.seed}"
        load_beside(store, cold, known, vectors, space)
        items = fresh(store, "coldstart_items")
        for name, (method, how) in ways.items():
            version = items.load(known, index="none", space=space, promote=True)
            done = version.coldstart(new, method, **how)
            measured[name] = exam.of(version, cold.users)
            if method == "mean_of_neighbours":
                # Whose author is new: the mean of its genre in those years.
                left = new.filter(pc.is_in(new["id"], pa.array(done.without)))
                version.coldstart(left, method, match=["genre"], near={"year": 20}, k=20)
                measured[f"{name}; else genre, year"] = exam.of(version, cold.users)
        trained = items.load(rows(data.books, whole.items), index="none")
        measured["trained with all but the exam"] = exam.of(trained, whole.users)

    print(f"{len(hidden.books)} of {len(data.books):,} books hidden, seed {asked.seed}\n")
    print(f"| vectors | hidden books with one | same series@{K} | held-out reader@{K} |")
    print("| --- | --- | --- | --- |")
    for name, (share, series, reader) in measured.items():
        covered = "" if share is None else f"{share:.3f}"
        print(f"| {name} | {covered} | {series:.3f} | {reader:.3f} |")
    print(
        f"\n{len(exam.asked)} hidden books have others of their series;"
        f" {len(exam.users):,} interactions held out; {time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
