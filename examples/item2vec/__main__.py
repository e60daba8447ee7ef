"""Books as words, readers as sentences: similar books, and analogies, from a version.

item2vec is word2vec's skip-gram over the items that a user took to, in no order (Barkan &
Koenigstein 2016; Mikolov et al. 2013). gensim trains it; the store answers what gensim's
``most_similar`` answers, to any process that has no gensim and no model in memory.
"""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np

import embstore

from ..data import Array, Data, all_similar, co_read, matrix, same_series
from ..report import Report, bars, fresh, main

K = 10
SERIES = "same series@10"


def train(data: Data, seed: int) -> Any:
    """Return gensim's model of each reader's books, as sentences in random order."""
    from gensim.models import Word2Vec

    users, items = data.liked()
    order = np.lexsort((np.random.default_rng(seed).random(len(users)), users))
    words = np.array([str(each) for each in range(data.shape[1])], object)[items[order]]
    ends = np.flatnonzero(np.diff(users[order])) + 1
    sentences = [each.tolist() for each in np.split(words, ends)]
    # One worker: with several, the order of their updates differs from run to run.
    how = {"sg": 1, "vector_size": 64, "window": 10, "alpha": 0.05, "epochs": 3, "min_count": 1}
    return Word2Vec(sentences, workers=1, seed=seed, **how)


def sequels(data: Data) -> tuple[Array, Array]:
    """Return the first and the second book of each series, by the number in the title.

    Where titles have no numbers, as in generated data, it is two books of each series.
    """
    places: dict[str, dict[str, int]] = {}
    for book, (series, title) in enumerate(
        zip(data.column("series"), data.column("title"), strict=True)
    ):
        number = re.search(r"#([\d.]+)", title)
        known = places.setdefault(series, {})
        known.setdefault(number[1] if number else str(len(known) + 1), book)
    both = [(own["1"], own["2"]) for name, own in places.items() if name and {"1", "2"} <= set(own)]
    first, second = np.array(both).T
    return first, second


def triples(data: Data, count: int, seed: int) -> tuple[Array, Array]:
    """Draw analogies: of two series, first and second book of one, then of the other.

    Returns
    -------
    asked : array (count, 3), int64
        Books a, b, c of "a is to b as c is to ...".
    answers : array (count,), int64
        The book that should come.
    """
    first, second = sequels(data)
    rng = np.random.default_rng(seed)
    one = rng.integers(0, len(first), count)
    other = (one + rng.integers(1, len(first), count)) % len(first)  # never the same
    return np.column_stack([first[one], second[one], first[other]]), second[other]


def analogies(version: embstore.Version, asked: Array, k: int = K, **how: Any) -> Array:
    """Return the k books nearest to b - a + c, these three left out: array (n, k)."""
    vectors = version.lookup(asked.ravel()).vectors
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b, c = units.reshape(*asked.shape, -1).swapaxes(0, 1)
    return version.nearest(b - a + c, k=k, exclude=asked.tolist(), **how).ids


def as_gensim(model: Any, version: embstore.Version, asked: Array) -> float:
    """Return the share of gensim's answers, to "like c" and to b - a + c, that are ours too."""
    near = version.similar(asked[:, 2], k=K, exact=True).ids
    found = np.concatenate([near, analogies(version, asked, exact=True)])
    theirs = [model.wv.most_similar(str(c), topn=K) for c in asked[:, 2]]
    theirs += [
        model.wv.most_similar(positive=[str(b), str(c)], negative=[str(a)], topn=K)
        for a, b, c in asked
    ]
    both = [
        {int(word) for word, _ in one} & set(other)
        for one, other in zip(theirs, found.tolist(), strict=True)
    ]
    return sum(map(len, both)) / found.size


def run(store: embstore.Store, data: Data, seed: int) -> Report:
    """Train once, load gensim's model, and ask."""
    start = time.perf_counter()
    model = train(data, seed)
    training = time.perf_counter() - start
    books = fresh(store, "item2vec_books", metric="cosine")
    # gensim's words are texts; as bigint they are the books' ids again.
    version = books.load(model, id_type="bigint", attributes=data.books, promote=True)

    near, known = all_similar(version, data.shape[1], K)
    asked, answers = triples(data, 1000, seed)
    there = known[asked].all(axis=1) & known[answers]
    asked, answers = asked[there], answers[there]
    read = matrix(*data.liked(), data.shape)
    popular = np.argsort(-np.asarray(read.sum(axis=0)).ravel(), kind="stable")[:K]
    rows = [
        _row(name, found, data, asked, answers)
        for name, found in (
            ("most read", np.tile(popular, (data.shape[1], 1))),
            ("readers in common, by cosine", co_read(read, K)[0]),
            ("item2vec: near c", near),
        )
    ]
    solved = analogies(version, asked)
    rows.append({"answer": "item2vec: b - a + c", SERIES: None, **_sequel(solved, answers)})
    start = time.perf_counter()
    store["item2vec_books"].embedding_matrix(range(data.shape[1]))
    fetched = time.perf_counter() - start
    titles = data.column("title")
    return Report(
        rows,
        f"The training of {training:.1f} s is not repeated: any process has all vectors in"
        f" {fetched:.2f} s, without gensim.",
        [
            *(
                f"{titles[a]} : {titles[b]} = {titles[c]} : {titles[best[0]]}"
                for (a, b, c), best in zip(asked[:4], solved, strict=False)
            ),
            f"{as_gensim(model, version, asked[:100]):.1%} of the store's answers are those of"
            " gensim's most_similar",
        ],
        bars(rows, "sequel@10"),
    )


def _row(name: str, near: Array, data: Data, asked: Array, answers: Array) -> dict[str, Any]:
    return {"answer": name, SERIES: same_series(near, data), **_sequel(near[asked[:, 2]], answers)}


def _sequel(found: Array, answers: Array) -> dict[str, float]:
    hit = found == answers[:, None]
    return {"sequel@1": float(hit[:, 0].mean()), "sequel@10": float(hit.any(axis=1).mean())}


if __name__ == "__main__":
    main(__doc__, run, needs=("series",))
