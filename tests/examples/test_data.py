"""What the examples share: nothing that is asked for has been seen, and the measures are right."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embstore import Store
from examples.data import (
    Data,
    all_similar,
    catalogue,
    co_read,
    co_read_pairs,
    generated,
    held_out,
    matrix,
    numbered,
    reader_means,
    same_series,
)
from examples.hidden import Exam, Hidden, hide

seeds = st.integers(0, 1000)


def in_series(names: list[str | None], users: Any = (0,), items: Any = (0,)) -> Data:
    """Books of these series, the last the most popular, and who took to which."""
    nothing, popularity = [None] * len(names), range(len(names))
    books = catalogue(nothing, nothing, names, nothing, nothing, [[]] * len(names), popularity)
    nobody = np.empty(0, np.int64)
    return Data("series", books, nobody, nobody, nobody, (np.array(users), np.array(items)))


@given(st.lists(st.integers(0, 9), min_size=1), st.sampled_from([0.1, 0.2, 0.5]), seeds)
def test_a_share_of_whoever_has_five_is_held_out(who: list[int], share: float, seed: int) -> None:
    users = np.array(who)
    held = held_out(users, share, seed)
    for user in set(who):
        own = held[users == user]
        assert own.sum() == (np.ceil(share * len(own)) if len(own) >= 5 else 0)
    assert (held_out(users, share, seed) == held).all()


def test_what_is_held_out_is_drawn() -> None:
    users = np.repeat(np.arange(1000), 10)
    places = np.flatnonzero(held_out(users)) % 10
    assert np.bincount(places).min() > 120  # of 200
    assert (held_out(users, seed=1) != held_out(users)).mean() > 0.2


@given(st.integers(1, 40), st.integers(1, 5), seeds)
def test_of_hidden_books_half_is_asked_and_few_are_known(count: int, few: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.geometric(0.02, 4000)  # many of some books, hardly any of others
    hidden = hide(items, count, rng, few)
    counts = np.bincount(items)
    assert len(hidden.books) == min(count, (counts >= 4 * few).sum() // 2)
    assert (counts[hidden.books] >= 4 * few).all() and (np.diff(hidden.books) > 0).all()
    assert (hidden.of == np.isin(items, hidden.books)).all()  # all of a hidden book is hidden
    assert not hidden.exam[~hidden.of].any() and not hidden.exam[hidden.few].any()
    assert hidden.of[hidden.few].all() and (np.diff(hidden.few) > 0).all()
    left = np.bincount(items[hidden.of & ~hidden.exam], minlength=len(counts))
    known = np.bincount(items[hidden.few], minlength=len(counts))
    assert (known == np.minimum(left, few)).all()


def test_an_exam_asks_for_hidden_books_alone(store: Store) -> None:
    # Of 40 books 0 to 23 are hidden; reader r has read book r and, but for the last, 39.
    books, readers, rng = np.arange(40), np.arange(24), np.random.default_rng(0)
    users, items = np.append(readers, readers[:-1]), np.append(readers, np.full(23, 39))
    data = in_series(["A", "A", "B", *[None] * 20, "B", "C", *[None] * 15], users, items)
    hidden = Hidden(books[:24], items < 24, items < 24, few=np.empty(0, np.int64))
    exam = Exam(data, hidden, users, items, rng)
    assert exam.asked.tolist() == [0, 1, 2, 23]
    assert (exam.items == exam.users).all()
    assert sorted(exam.users) == list(range(23))  # the last reader is as new as the book

    # A half of the readers are where their books are, the others opposite; 0 is where 1 is, 2 has
    # no vector, and the known books are between 5 and its reader.
    vectors = rng.standard_normal((40, 16))
    vectors[1], vectors[24:] = vectors[0], vectors[5] + vectors[6] / 4
    version = store.create_table("books").load(
        np.delete(vectors, 2, axis=0), ids=np.delete(books, 2), index="none"
    )
    near = np.where(readers[:, None] < 12, 1, -1) * vectors[:24]
    near[5] = vectors[5] + vectors[6] / 3
    assert exam.of("these", version, near) == {
        "vectors": "these",
        "hidden books with one": pytest.approx(23 / 24),
        "same series@10": 2 / 4,
        "held-out reader@10": pytest.approx(11 / 23),
    }
    # The ten most popular are 30 to 39, and of the hidden ones 14 to 23.
    found = exam.of_popular()
    assert found["same series@10"] == 0 and found["held-out reader@10"] == pytest.approx(9 / 23)


def test_books_beside_others_are_of_the_same_readers() -> None:
    users, items = np.array([0, 0, 1, 1, 1, 2, 3]), np.array([0, 1, 0, 1, 2, 2, 3])
    near, cosines = co_read(matrix(users, items, (4, 4)), 2)
    assert near[:2].tolist() == [[1, 2], [0, 2]] and set(near[2]) == {0, 1} and 3 not in near[3]
    np.testing.assert_allclose(cosines[0], [1, 0.5])
    np.testing.assert_allclose(cosines[1:].ravel(), [1, 0.5, 0.5, 0.5, 0, 0])


def test_pairs_are_of_one_reader() -> None:
    users, items = np.array([0, 0, 2, 2, 2, 3]), np.array([5, 6, 1, 2, 3, 6])
    one, other = co_read_pairs(users, items, 60_000, np.random.default_rng(0))
    found = np.zeros((7, 7))
    np.add.at(found, (one, other), 1 / 60_000)
    true = np.zeros((7, 7))
    true[5:, 5:] = 1 / 12
    true[1:4, 1:4] = 1 / 18
    true[6, 6] += 1 / 6
    np.testing.assert_allclose(found, true, atol=0.01)


def test_a_reader_is_the_mean_direction() -> None:
    vectors = np.array([[9.0, 0], [0, 1], [0, 0]])
    found = reader_means(vectors, np.array([0, 0, 2, 3]), np.array([0, 1, 1, 2]), (4, 3))
    np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [0, 0], [0, 1], [0, 0]])


def test_names_are_numbered_from_1() -> None:
    vocabulary, rows = numbered([["b", "a"], [], ["", "c", "b"]])
    assert vocabulary == {"a": 1, "b": 2, "c": 3}
    assert rows.tolist() == [[2, 1, 0], [0, 0, 0], [0, 3, 2]]


def test_series_are_asked_of_books_that_are_not_alone_in_one() -> None:
    data = in_series(["A", None, "B", "A", None, "C", "B"])
    near = np.array([[1, 3], [4, 0], [0, 5], [1, 2], [1, 0], [5, 5], [2, 1]])
    assert same_series(near, data) == 2 / 4  # 0 and 6 have, 2 and 3 have not
    assert same_series(near[:3], in_series(["A", None, "B"])) is None


def test_all_are_asked_of_a_version(store: Store) -> None:
    vectors = np.array([[1, 0], [0, 1], [0.1, 1], [1, 0.2]])
    version = store.create_table("books").load(vectors, ids=[4, 0, 2, 3], index="none")
    near, known = all_similar(version, 5, 1)
    assert near.tolist() == [[2], [0], [0], [4], [3]]
    assert known.tolist() == [True, False, True, True, True]


def test_fewer_readers_are_the_same_ones() -> None:
    data = generated(60, 80)
    few = data.smaller(1 / 4)
    assert few.shape == (20, 60) and few.books is data.books
    for user in range(20):
        had, wished = data.users == 4 * user, data.wanted[0] == 4 * user
        assert (few.items[few.users == user] == data.items[had]).all()
        assert (few.ratings[few.users == user] == data.ratings[had]).all()
        assert (few.wanted[1][few.wanted[0] == user] == data.wanted[1][wished]).all()
