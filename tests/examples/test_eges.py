"""Side information gives new books vectors that find their series and their readers."""

from embstore import Store
from examples.data import generated
from examples.eges.__main__ import run


def test_new_books_by_side_information(store: Store) -> None:
    popular, items_alone, *_, weighted, trained = run(store, generated(300, 300), 0).rows
    assert weighted["new: same series@10"] > 0.8 > 0.3 > items_alone["new: same series@10"]
    assert weighted["new: held-out reader@10"] > popular["new: held-out reader@10"] + 0.05
    assert weighted["new: held-out reader@10"] > trained["new: held-out reader@10"] - 0.05
    # What is known helps books that have readers as well.
    assert weighted["known: same series@10"] > items_alone["known: same series@10"] + 0.1
