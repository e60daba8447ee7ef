"""A network that never saw a book gives it a vector that its series and readers are near."""

from embstore import Store
from examples.data import generated
from examples.pinsage.__main__ import run


def test_unseen_books(store: Store) -> None:
    popular, chance, _, alone, joined, _ = run(store, generated(300, 400), 0).rows
    for row in (alone, joined):
        assert row["hidden books with one"] == 1
        assert row["same series@10"] > 0.8 > 0.3 > chance["same series@10"]
        assert row["held-out reader@10"] > popular["held-out reader@10"] + 0.08
