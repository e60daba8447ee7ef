"""Books as listings: similar ones under filters, features for a ranker, vectors for new ones.

M. Grbovic and H. Cheng, "Real-time Personalization using Embeddings for Search Ranking at Airbnb",
KDD 2018: skip-gram over what a user clicked; a new listing is the mean of the three nearest ones of
its type and price; how similar a candidate is to what the user clicked, and to what was skipped,
goes into the ranker. Here a reader's books are the session, the first tag is the type, the decade
the price bucket, the year the place.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
from gensim.models import Word2Vec
from lightgbm import LGBMRanker

import embstore

from ..data import Array, Data, held_out, reader_means, skip_gram
from ..hidden import Exam, hide
from ..report import Report, bars, fresh, main

DIM, HIDE, SHOWN, SEARCHES = 32, 500, 10, 5000


def train(users: Array, items: Array, seed: int) -> Word2Vec:
    """Train skip-gram on each reader's books, in random order: the data have no times."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(users)), users))
    ends = np.flatnonzero(np.diff(users[order])) + 1
    sessions = [list(map(str, own)) for own in np.split(items[order], ends)]
    return skip_gram(sessions, DIM, seed)


def load(store: embstore.Store, data: Data, model: Word2Vec, space: str) -> embstore.Version:
    """Load the listings, with the attributes that filters and new listings need."""
    return store.table("airbnb_books").load(
        model, id_type="bigint", attributes=data.books.drop_columns("tags"), space=space
    )


def searches(
    users: Array, items: Array, taken: Array, pool: Array, kind: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Show readers the book that they took to, first, and others of its kind, new to them.

    Parameters
    ----------
    users, items : array (n,)
        Of each search.
    taken : array
        Pairs that are not drawn, as reader * number of books + book.
    pool : array
        Books to draw from: as often as they are there, and so by popularity.
    kind : array (books,)

    Returns
    -------
    array (n, 10), array (n, 10)
        The readers, and the books shown.
    """
    readers, shown = (np.repeat(each[:, None], SHOWN, axis=1) for each in (users, items))
    pool = pool[np.argsort(kind[pool], kind="stable")]
    low, high = (np.searchsorted(kind[pool], kind[shown], side) for side in ("left", "right"))
    again = np.ones(shown.shape, bool)
    for _ in range(20):
        again &= np.isin(readers * len(kind) + shown, taken)
        again[:, 0] = False
        shown[again] = pool[(low + rng.random(shown.shape) * (high - low)).astype(int)[again]]
    return readers, shown


def similarity(store: embstore.Store, refs: dict[str, str], search: tuple[Array, Array]) -> Array:
    """Return how similar each book is to what its reader took to, and skipped (n, 10, 2)."""
    users, books = (each.ravel() for each in search)
    ids = {refs["liked"]: users, refs["skipped"]: users, refs["books"]: books}
    found = store.features(ids, missing="zero")  # all three at one moment
    parts = [found.vectors[:, found.columns[ref]] for ref in ids]
    liked, skipped, book = (
        each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in parts
    )
    cosines = np.column_stack([(liked * book).sum(axis=1), (skipped * book).sum(axis=1)])
    return cosines.reshape(*search[0].shape, 2)


def quality(scores: Array, shown: Array) -> tuple[float, float]:
    """Return the AUC and the NDCG of searches (n, 10) whose first book is the one wanted."""
    others = shown[:, 1:] != shown[:, :1]
    above = np.where(others, scores[:, 1:] > scores[:, :1], 0)
    equal = np.where(others, scores[:, 1:] == scores[:, :1], 0)
    worse = (above + equal / 2).sum(axis=1)
    auc = 1 - worse.sum() / others.sum()
    return float(auc), float((1 / np.log2(2 + worse)).mean())


def fit(features: Array, seed: int) -> Any:
    """Train a ranker on searches (n, 10, features) whose first book is the one wanted."""
    # More like what the reader took to is never worse, also where few such books were seen.
    monotone = [0, 0, 0, 1, 0][: features.shape[2]]
    ranker = LGBMRanker(
        n_estimators=60,
        num_leaves=15,
        monotone_constraints=monotone,
        random_state=seed,
        n_jobs=1,
        verbose=-1,
    )
    wanted = np.zeros(features.shape[:2], int)
    wanted[:, 0] = 1
    x = features.reshape(-1, features.shape[2])
    return ranker.fit(x, wanted.ravel(), group=[SHOWN] * len(features))


def score(ranker: Any, features: Array) -> Array:
    """Score the books of searches (n, 10, features)."""
    found = ranker.predict(features.reshape(-1, features.shape[2]))
    return np.asarray(found).reshape(features.shape[:2])


def release(
    store: embstore.Store, data: Data, version: embstore.Version, liked: Any, skipped: Any
) -> dict[str, str]:
    """Load what each reader took to, and skipped, beside the listings; all go live together."""
    loaded = {"books": version}
    books = version.lookup(np.arange(len(data.books)), missing="zero").vectors
    for name, (users, items) in (("liked", liked), ("skipped", skipped)):
        loaded[name] = store.table(f"airbnb_{name}").load(
            reader_means(books, users, items, data.shape),
            ids="row-number",
            zero="keep",
            index="none",
            space=version.space,
        )
    store.release({each.table: each.number for each in loaded.values()})
    return {name: each.ref for name, each in loaded.items()}


def similar(version: embstore.Version, data: Data) -> str:
    """Return the listings that are similar to the most read one, under filters."""
    titles, popularity = data.column("title"), np.array(data.column("popularity", 0))
    ids = version.to_numpy()[0]
    book = int(ids[popularity[ids].argmax()])
    where = {"language": data.column("language")[book], "year": {">=": 2000}}
    found = version.similar([book], k=3, where=where, per_group="author")
    names = "; ".join(titles[each] for each in found.ids[0])
    return f"Similar to {titles[book]}, in its language, since 2000, one of an author: {names}."


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Rank searches with and without similarities, in the catalogue and among new books."""
    rng = np.random.default_rng(seed)
    if len(data.users) > 500_000:
        data = data.smaller(1 / 4)
    users, items = data.liked()
    hidden, held = hide(items, HIDE, rng), held_out(users, 0.2, seed)
    exam = Exam(data, hidden, users, items, rng)
    for name in ("books", "liked", "skipped"):
        fresh(store, f"airbnb_{name}")
    bad = (data.ratings <= 3) & ~np.isin(data.items, hidden.books)
    skipped = data.users[bad], data.items[bad]
    seen, more = ~hidden.of & ~held, ~hidden.exam & ~held
    model = train(users[seen], items[seen], seed)
    start = time.monotonic()
    late = train(users[more], items[more], seed)
    training = time.monotonic() - start

    # The ranker learns from the searches of some readers, and is asked about those of others.
    old, learn = held & ~hidden.of, users % 2 == 0
    types = np.unique(data.column("genre"), return_inverse=True)[1]
    asked = {
        "learn": (old & learn, items[seen], types),
        "all": (old & ~learn, items[seen], types),
        "new": (hidden.exam & ~learn, items[hidden.exam], np.zeros_like(types)),
    }
    rounds = {}
    taken = [of * len(types) + what for of, what in ((users, items), (data.users, data.items))]
    for name, (which, pool, kind) in asked.items():
        wanted = rng.permutation(np.flatnonzero(which))[:SEARCHES]
        rounds[name] = searches(
            users[wanted], items[wanted], np.concatenate(taken), pool, kind, rng
        )
    reads = np.bincount(items[seen], minlength=len(types))
    joy = np.bincount(skipped[1], minlength=len(types)) / np.maximum(reads, 1)
    plain = np.column_stack([reads, joy, np.array(data.column("year", 0))])

    def features(search: tuple[Array, Array], refs: dict[str, str] | None) -> Array:
        known = plain[search[1]]
        return np.dstack([known, similarity(store, refs, search)]) if refs else known

    rows: list[dict[str, Any]] = []

    def measure(name: str, ranker: Any, refs: dict[str, str] | None, row: dict[str, Any]) -> None:
        found: dict[str, Any] = {"ranker": name}
        for of, prefix in (("all", ""), ("new", "new books: ")):
            scores = score(ranker, features(rounds[of], refs))
            auc, ndcg = quality(scores, rounds[of][1])
            found |= {f"{prefix}AUC": auc, f"{prefix}NDCG": ndcg}
        found["have a vector"] = row.get("hidden books with one")
        found["same series@10"] = row.get("same series@10")
        rows.append(found)

    measure("popularity, ratings, year", fit(features(rounds["learn"], None), seed), None, {})
    new = data.books.take(pa.array(hidden.books))
    place = {"match": ["genre", "decade"], "near": {"year": 10}, "k": 3}
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "at random": (lambda rows, version: rng.standard_normal((len(rows), DIM)), {}),
        "mean of 3: tag, decade": ("mean_of_neighbours", place),
        "mean of 3: author": (
            "mean_of_neighbours",
            place | {"match": ["author"], "near": {"year": 20}},
        ),
    }
    ranker, seconds = None, 0.0
    for name, (way, how) in ways.items():
        version = load(store, data, model, f"airbnb-{seed}")
        refs = release(store, data, version, (users[seen], items[seen]), skipped)
        ranker = ranker or fit(features(rounds["learn"], refs), seed)
        start = time.monotonic()
        version.coldstart(new, way, **how)
        seconds = time.monotonic() - start
        row = exam.of(name, version, store[refs["liked"]].to_numpy()[1])
        measure(f"and similarities, new books {name}", ranker, refs, row)
    note = similar(version, data)
    version = load(store, data, late, f"airbnb-late-{seed}")
    refs = release(store, data, version, (users[more], items[more]), skipped)
    row = exam.of("trained", version, store[refs["liked"]].to_numpy()[1])
    measure("and similarities, new books trained", ranker, refs, row)
    return Report(
        rows,
        f"{len(new)} new listings were made and appended in {seconds:.1f} s, where a training"
        f" takes {training:.0f} s; one ranker reads all of these versions.",
        [f"{data.shape[0]:,} readers. {exam}", note],
        bars(rows, "new books: NDCG"),
    )


if __name__ == "__main__":
    main(__doc__, run, needs=("genre", "author", "year", "language"))
