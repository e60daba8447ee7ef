"""A model trained on last week's vectors, scored on this week's: as they are, and aligned.

Two matrix factorizations of the same readers and books, each of four fifths of the ratings, are
loaded as two versions. A logistic regression is trained on the vectors of the first, and scored on
those of the second; then on the same vectors, rotated by embstore onto the first.

    python aligned.py [FOLDER]

FOLDER holds ratings.parquet and book_tags.parquet of goodbooks; without it, data are made up.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

import embstore

Array = NDArray[Any]
DIM = 32


@dataclass(frozen=True)
class Data:
    """Who read what, and which book is of which genre.

    Attributes
    ----------
    users, items : array (n,), int64
        The reader and the book of each rating; both from 0.
    genres : mapping of name to array (books,), bool
    """

    users: Array
    items: Array
    genres: dict[str, Array]


def goodbooks(folder: Path) -> Data:
    """Read the ratings; a book is of a genre if that tag is not rare beside its most common one."""
    ratings = pq.read_table(folder / "ratings.parquet", columns=["user_id", "book_id"])
    users, items = (each.to_numpy().astype(np.int64) - 1 for each in ratings.columns)
    tags = pq.read_table(folder / "book_tags.parquet")
    books, counts = tags["book_id"].to_numpy() - 1, tags["count"].to_numpy()
    most = np.zeros(items.max() + 1, np.int64)
    np.maximum.at(most, books, counts)
    genres = {}
    for name in ("fantasy", "romance", "classics", "young-adult"):
        of = pc.equal(tags["tag"], name).to_numpy()
        genres[name] = np.zeros(len(most), bool)
        genres[name][books[of & (counts > 0.05 * most[books])]] = True
    return Data(users, items, genres)


def made_up(readers: int = 3000, books: int = 1000, kinds: int = 30) -> Data:
    """Invent readers who like some kinds of books."""
    rng, ratings = np.random.default_rng(0), 50 * readers
    kind = rng.integers(0, kinds, books)
    taste = rng.dirichlet(np.full(kinds, 0.1), readers)
    popular = rng.pareto(1.5, books) + 0.1
    users = rng.integers(0, readers, ratings)
    chosen = (taste.cumsum(axis=1)[users] > rng.random((ratings, 1))).argmax(axis=1)
    items = np.empty(ratings, np.int64)
    for each in range(kinds):
        own, of = np.flatnonzero(kind == each), np.flatnonzero(chosen == each)
        items[of] = rng.choice(own, len(of), p=popular[own] / popular[own].sum())
    return Data(users, items, {f"kinds {at} to {at + 4}": kind // 5 == at // 5 for at in (0, 5)})


def factorize(data: Data, of: Array, seed: int) -> tuple[Array, Array]:
    """Return vectors of all readers and all books, from some of the ratings."""
    shape = data.users.max() + 1, data.items.max() + 1
    ones = np.ones(int(of.sum()), np.float32)
    matrix = csr_matrix((ones, (data.users[of], data.items[of])), shape)
    # Who has read much, and what many have read, would else be all there is to see.
    rows, columns = (np.maximum(np.asarray(matrix.sum(axis)).ravel(), 1) for axis in (1, 0))
    matrix = diags(rows**-0.5) @ matrix @ diags(columns**-0.5)
    svd = TruncatedSVD(DIM, random_state=seed)
    scale = np.sqrt(svd.fit(matrix).singular_values_)
    return (matrix @ svd.components_.T / scale, svd.components_.T * scale)


def load(store: embstore.Store, week: str, vectors: tuple[Array, Array]) -> dict[str, str]:
    """Load readers and books as a version of each table; returns the references."""
    known = {table.name for table in store.tables()}
    found = {}
    for name, values in zip(("readers", "books"), vectors, strict=True):
        table = store.table(name) if name in known else store.create_table(name, metric="cosine")
        ids = np.arange(len(values))
        version = table.load(values, ids=ids, space=week, trainer="SVD", zero="keep", index="none")
        found[name] = version.ref
    return found


def reading(store: embstore.Store, refs: dict[str, str], users: Array, items: Array) -> Array:
    """Return the features of a reader and a book: both vectors, and their product."""
    found = store.features({refs["readers"]: users, refs["books"]: items})
    reader, book = (found.vectors[:, each] for each in found.columns.values())
    return np.hstack([reader, book, reader * book])


def model() -> Any:
    """Return the model that is trained once and scored thrice."""
    return make_pipeline(Normalizer(), StandardScaler(), LogisticRegression(max_iter=1000))


def run(store: embstore.Store, data: Data) -> dict[str, list[float]]:
    """Train on last week, score on last week, this week, and this week aligned.

    Returns
    -------
    mapping of task to three AUCs
    """
    rng = np.random.default_rng(0)
    count = len(data.users)
    weeks = rng.random(count) < 0.8, rng.random(count) < 0.8
    old = load(store, "week-7", factorize(data, weeks[0], seed=7))
    new = load(store, "week-8", factorize(data, weeks[1], seed=8))
    books, readers = store.align([new["books"], new["readers"]], to=old["books"], index="none")
    aligned = {"books": books.ref, "readers": readers.ref}
    fit = books.source["aligned"]
    print(
        f"{books.ref} is {fit['from']} rotated onto {fit['to']}: residual {fit['residual']:.2f},"
        f" {fit['before']:.2f} without"
    )
    kept = store.compare(old["books"], new["books"]).overlap
    assert kept is not None
    print(f"of 10 neighbours of a book {10 * kept.mean:.1f} are the same, aligned or not\n")

    scores = {}
    ids = np.arange(len(next(iter(data.genres.values()))))
    train = rng.random(len(ids)) < 0.5
    for name, genre in data.genres.items():
        fitted = model().fit(store[old["books"]].lookup(ids[train]).vectors, genre[train])
        scores[name] = [
            auc(fitted, store[refs["books"]].lookup(ids[~train]).vectors, genre[~train])
            for refs in (old, new, aligned)
        ]
    # Readings that neither week has seen, beside as many that were not, of equally popular books.
    unseen = rng.permutation(np.flatnonzero(~weeks[0] & ~weeks[1]))[:30_000]
    users = np.tile(data.users[unseen], 2)
    items = np.concatenate([data.items[unseen], data.items[rng.permutation(unseen)]])
    read = np.repeat([True, False], len(unseen))
    train = rng.random(len(read)) < 0.5
    fitted = model().fit(reading(store, old, users[train], items[train]), read[train])
    scores["will read"] = [
        auc(fitted, reading(store, refs, users[~train], items[~train]), read[~train])
        for refs in (old, new, aligned)
    ]
    return scores


def auc(fitted: Any, features: Array, truth: Array) -> float:
    """Return the area under the ROC curve."""
    return float(roc_auc_score(truth, fitted.predict_proba(features)[:, 1]))


def main(folder: str | None = None) -> None:
    """Run it on a folder, or on what is made up."""
    data = made_up() if folder is None else goodbooks(Path(folder))
    with embstore.connect() as store:
        scores = run(store, data)
    print("AUC of a model of week 7   on week 7   on week 8   on week 8, aligned")
    for name, (own, raw, turned) in scores.items():
        print(f"{name:<26}{own:>10.3f}{raw:>12.3f}{turned:>21.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
