"""Similarities help the ranker, and a new book with a vector made of its like is ranked well."""

from embstore import Store
from examples.airbnb.__main__ import run
from examples.data import generated


def test_similarities_rank(store: Store) -> None:
    rows = run(store, generated(300, 400), 0).rows
    plain, chance, *_, author, _ = rows
    assert chance["AUC"] > plain["AUC"] + 0.05
    assert author["new books: AUC"] > chance["new books: AUC"] + 0.05
    assert author["same series@10"] > 0.3 > chance["same series@10"]
