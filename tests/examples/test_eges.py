"""Side information gives new books vectors that find their series and their readers."""

import numpy as np
import torch

from embstore import Store
from examples.data import generated
from examples.eges.__main__ import Eges, cold, load, run, side


def test_new_books_by_side_information(store: Store) -> None:
    popular, items_alone, even, weighted, trained = run(store, generated(300, 300), 0).rows
    assert weighted["new: same series@10"] > 0.8 > 0.3 > items_alone["new: same series@10"]
    assert weighted["new: held-out reader@10"] > popular["new: held-out reader@10"] + 0.05
    assert weighted["new: held-out reader@10"] > trained["new: held-out reader@10"] - 0.05
    # What is known helps books that have readers as well.
    assert weighted["known: same series@10"] > items_alone["known: same series@10"] + 0.1
    assert weighted["known: held-out reader@10"] > 0.2  # by chance 0.1
    measured = [name for name in even if "@" in name]
    assert [even[name] for name in measured] != [weighted[name] for name in measured]


def test_new_books_get_the_weights_that_were_trained(store: Store) -> None:
    data, rng = generated(60, 60), np.random.default_rng(0)
    sides = {name: side(data, name) for name in ("author", "tags")}
    model = Eges(60, sides, weighted=True)
    model.weights.weight.data[:] = torch.tensor([5.0, 0.0, np.log(3)])  # own, author, tags
    for name in ("books", *sides):
        store.create_table(f"eges_{name}", metric="ip")
    version = load(store, model, np.arange(50), sides, "a training")
    cold(version, data.books.slice(50), model, rng)
    author, tags = (model.sides[name](each.rows[50:]) for name, each in sides.items())
    np.testing.assert_allclose(
        version.lookup(range(50, 60)).vectors, (author / 4 + tags * 3 / 4).detach(), atol=1e-6
    )
