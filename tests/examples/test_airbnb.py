"""Similarities help the ranker, and a new book with a vector made of its like is ranked well."""

import re

import numpy as np
import pytest

from embstore import Store
from examples.airbnb.__main__ import quality, run, searches, similarity
from examples.data import generated


def test_similarities_rank(store: Store) -> None:
    data = generated(300, 400)
    report = run(store, data, 0)
    plain, chance, kind, author, trained = report.rows
    assert chance["AUC"] > plain["AUC"] + 0.03 and plain["AUC"] > 0.57
    assert kind["new books: AUC"] > chance["new books: AUC"] + 0.1
    assert author["new books: AUC"] > chance["new books: AUC"] + 0.15
    assert trained["new books: AUC"] > chance["new books: AUC"] + 0.15
    assert author["same series@10"] > 0.3 > chance["same series@10"]
    books = data.books.to_pylist()
    one, *similar = (books[int(each)] for each in re.findall(r"book (\d+)", report.notes[1]))
    assert len({each["author"] for each in similar}) == len(similar) == 3
    assert all(each["language"] == one["language"] for each in similar)
    assert all(each["year"] >= 2000 for each in similar)


def test_a_search_shows_others_of_the_kind_that_are_new_to_the_reader() -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 90)
    users, items = np.repeat(np.arange(30), 4), rng.integers(0, 90, 120)
    taken = users * 90 + items
    readers, shown = searches(users, items, taken, np.arange(90), kind, rng)
    assert (readers == users[:, None]).all() and (shown[:, 0] == items).all()
    assert (kind[shown] == kind[items][:, None]).all()
    assert not np.isin(readers * 90 + shown, taken)[:, 1:].any()


def test_the_quality_of_searches() -> None:
    scores, shown = np.array([[5, 4, 3], [5, 6, 5]]), np.array([[0, 1, 2], [3, 4, 5]])
    places = 1, np.log2(2 + 1.5)  # one before it, one beside it
    assert quality(scores, shown) == pytest.approx((1 - 1.5 / 4, np.mean(np.divide(1, places))))
    # The book that is wanted, drawn again, is not one of the others.
    assert quality(scores[1:], np.array([[3, 3, 5]]))[0] == 0.5


def test_similarities_are_to_what_was_taken_and_to_what_was_skipped(store: Store) -> None:
    refs = {}
    for name, vectors in (
        ("books", [[0, 2], [3, 0]]),
        ("liked", [[1, 0], [0, 1]]),
        ("skipped", [[0, 1], [0, 0]]),
    ):
        table = store.create_table(name)
        loaded = table.load(np.array(vectors, float), ids="row-number", zero="keep", index="none")
        refs[name] = loaded.ref
    found = similarity(store, refs, (np.array([[0, 0], [1, 1]]), np.array([[0, 1], [0, 1]])))
    np.testing.assert_allclose(found, [[[0, 1], [1, 0]], [[1, 0], [0, 0]]], atol=1e-6)
