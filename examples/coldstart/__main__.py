"""Hide books from the training, give them vectors each way of a cold start, and see how good.

The ways are of Airbnb (Grbovic & Cheng, KDD 2018), EGES (Wang et al., KDD 2018), folding-in (Berry
et al., SIAM Review 1995; Hu, Koren & Volinsky, ICDM 2008) and a regression on what is known.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array, diags_array
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge

import embstore

from ..data import Array, Data, matrix
from ..hidden import Exam, hide
from ..report import Report, bars, fresh, main

DIM, FEW, HIDE = 64, 5, 500


@dataclass(frozen=True)
class Training:
    """A truncated SVD of the books x readers matrix, both sides in one space."""

    svd: TruncatedSVD
    items: Array
    users: Array
    scale: Array  # of each reader: who reads all says little


def scaled(items: Array, users: Array, data: Data, scale: Any = None) -> tuple[Any, Array]:
    """Return the books x readers matrix, scaled by both degrees, and the scale of the readers."""
    seen = matrix(items, users, data.shape[::-1])
    degrees = [np.maximum(np.ravel(seen.sum(axis)), 1) ** -0.5 for axis in (1, 0)]
    scale = degrees[1] if scale is None else scale
    return diags_array(degrees[0]) @ seen @ diags_array(scale), scale


def train(items: Array, users: Array, data: Data) -> Training:
    """Train on interactions."""
    seen, scale = scaled(items, users, data)
    svd = TruncatedSVD(DIM, n_iter=3, random_state=0)
    vectors = svd.fit_transform(seen)
    return Training(svd, vectors, svd.components_.T, scale)


def means(vectors: Array, names: list[list[str]]) -> tuple[list[str], Array]:
    """Return each name, and the mean direction of the books that have it."""
    flat = pa.array([each for own in names for each in own]).dictionary_encode()
    rows = np.repeat(np.arange(len(names)), [len(own) for own in names])
    holds = matrix(np.asarray(flat.indices), rows, (len(flat.dictionary), len(names)))
    sums = holds @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return flat.dictionary.to_pylist(), sums / np.linalg.norm(sums, axis=1, keepdims=True)


def regression(known: pa.Table, vectors: Array) -> Any:
    """Return a function that predicts vectors from tags, by ridge regression."""
    lists = known["tags"].to_pylist()
    place = {tag: i for i, tag in enumerate(sorted({tag for own in lists for tag in own}))}

    def features(tags: list[list[str]]) -> csr_array:
        pairs = [(i, place[tag]) for i, own in enumerate(tags) for tag in own if tag in place]
        rows, columns = np.array(pairs).T
        return matrix(rows, columns, (len(tags), len(place)))

    model = Ridge(alpha=5, solver="sparse_cg", tol=1e-2)
    model.fit(features(lists), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return lambda rows, version: model.predict(features(rows["tags"].to_pylist()))


def load_beside(store: embstore.Store, cold: Training, known: pa.Table, space: str) -> None:
    """Load the readers, the authors and the tags of the training's space."""
    readers = fresh(store, "coldstart_users")
    readers.load(cold.users, ids="row-number", zero="keep", index="none", space=space, promote=True)
    lists = {
        "authors": [[each] for each in known["author"].to_pylist()],
        "tags": known["tags"].to_pylist(),
    }
    for name, own in lists.items():
        ids, directions = means(cold.items[known["id"].to_numpy()], own)
        table = fresh(store, f"coldstart_{name}")
        table.load(directions, ids=ids, index="none", space=space, promote=True)


def with_vectors(books: pa.Table, vectors: Array) -> pa.Table:
    """Return books with their vectors, those that have one."""
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    there = np.linalg.norm(vectors, axis=1) > 1e-12
    return books.append_column("embedding", flat).filter(pa.array(there))


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Ask the exam of each way's vectors, and of those that a training with all else gives."""
    rng = np.random.default_rng(seed)
    users, items = data.liked()
    hidden = hide(items, HIDE, rng, FEW)
    exam = Exam(data, hidden, users, items, rng)
    cold = train(items[~hidden.of], users[~hidden.of], data)
    start = time.monotonic()
    whole = train(items[~hidden.exam], users[~hidden.exam], data)
    training = time.monotonic() - start

    known, new = with_vectors(data.books, cold.items), data.books.take(pa.array(hidden.books))
    few = {"item": items[hidden.few], "user": users[hidden.few]}
    features, _ = scaled(few["item"], few["user"], data, cold.scale)
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
        "a function: ridge regression on tags": (
            regression(known, cold.items[known["id"].to_numpy()]),
            {},
        ),
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
    rows, space, seconds = [exam.of_popular()], f"coldstart-{seed}", []
    load_beside(store, cold, known, space)
    books = fresh(store, "coldstart_items")
    for name, (method, how) in ways.items():
        version = books.load(known, index="none", space=space, promote=True)
        start = time.monotonic()
        done = version.coldstart(new, method, **how)
        seconds.append(time.monotonic() - start)
        rows.append(exam.of(name, version, cold.users))
        if method == "mean_of_neighbours":
            # Whose author is new: the mean of its genre in those years.
            left = new.filter(pc.is_in(new["id"], pa.array(done.without)))
            version.coldstart(left, method, match=["genre"], near={"year": 20}, k=20)
            rows.append(exam.of(f"{name}; else genre, year", version, cold.users))
    trained = books.load(with_vectors(data.books, whole.items), index="none")
    rows.append(exam.of("trained with all but the exam", trained, whole.users))
    return Report(
        rows,
        f"A cold start made and appended {len(new)} vectors in {min(seconds):.2f} to"
        f" {max(seconds):.2f} s; the training that would give them took {training:.1f} s, and all"
        f" {len(known):,} vectors would change with it.",
        [str(exam)],
        bars(rows, "held-out reader@10"),
    )


if __name__ == "__main__":
    main(__doc__, run, needs=("author", "genre", "year", "tags"))
