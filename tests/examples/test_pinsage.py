"""A network that never saw a book gives it a vector that its series and readers are near."""

from typing import Any

import numpy as np
import pytest
import torch

import examples.pinsage.__main__ as example
from embstore import Store
from examples.data import co_read_pairs, generated, matrix
from examples.hidden import hide
from examples.pinsage.__main__ import Graph, PinSage, content, train, vectors_of, visited


def test_unseen_books(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = generated(300, 400)
    users, items = data.liked()
    hidden = hide(items, example.HIDE, np.random.default_rng(0))
    asked, unseen = hidden.exam, []

    def trained(graph: Graph, users: Any, items: Any, seed: int) -> PinSage:
        unseen.append(not np.isin(items, hidden.books).any())
        return train(graph, users, items, seed)

    def watched(starts: Any, read: Any, rng: np.random.Generator) -> Any:
        assert not starts[items[asked], users[asked]].any()
        assert not read[users[asked], items[asked]].any()
        return visited(starts, read, rng)

    monkeypatch.setattr(example, "visited", watched)
    monkeypatch.setattr(example, "train", trained)
    popular, chance, _, alone, joined, _ = example.run(store, data, 0).rows
    assert unseen == [True, False]
    for row in (alone, joined):
        assert row["hidden books with one"] == 1
        assert row["same series@10"] > 0.8 > 0.3 > chance["same series@10"]
        assert row["held-out reader@10"] > popular["held-out reader@10"] + 0.05
    measured = [name for name in alone if "@" in name]
    assert [alone[name] for name in measured] != [joined[name] for name in measured]


def test_neighbours_are_what_walks_by_readers_visit_most() -> None:
    # Book 0 shares two readers with 1 and one with 2; nobody has read 3; walks lead to all but 4.
    users, items = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 1, 0, 1, 0, 2, 2, 4])
    starts = matrix(items, users, (5, 4))
    read = matrix(users[:-1], items[:-1], (4, 5))
    near, weights = visited(starts, read, np.random.default_rng(0))
    assert near[0, :2].tolist() == [1, 2] and near[1, 0] == 0 and near[4, 0] == 2
    np.testing.assert_allclose(weights[0], [2 / 3, 1 / 3, *[0] * 6], atol=0.25)
    assert weights[0, 0] > weights[0, 1] > 0 and (weights[3] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), [1, 1, 1, 0, 1])


def test_books_of_a_reader_get_near_and_neighbours_count() -> None:
    data = generated(300, 200)
    users, items = data.liked()
    read, rng = matrix(users, items, data.shape), np.random.default_rng(0)
    near, weights = visited(read.T.tocsr(), read, rng)
    tensors = (content(data, 0), near, weights.astype(np.float32))
    graph = Graph(*(torch.from_numpy(each) for each in tensors))
    one, other = co_read_pairs(users, items, 20_000, rng)

    def nearer(model: PinSage) -> float:
        vectors = vectors_of(model, graph)
        right, wrong = vectors[one] * vectors[other], vectors[one] * vectors[rng.permutation(other)]
        return float((right - wrong).sum(axis=1).mean())

    torch.manual_seed(0)
    model = train(graph, users, items, seed=0)
    assert nearer(model) > 1.3 * nearer(PinSage()) > 0
    alone = vectors_of(model, Graph(graph.features, graph.near, 0 * graph.weights))
    turned = Graph(graph.features, graph.near.flip(0), graph.weights.flip(0))
    for vectors in (alone, vectors_of(model, turned)):
        assert np.linalg.norm(vectors - vectors_of(model, graph), axis=1).mean() > 0.05
