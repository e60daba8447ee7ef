import numpy as np
from scipy.sparse import csr_matrix

import embstore
from examples.data import co_read, generated, matrix
from examples.graph_walks.__main__ import Walker, edges, linked, run


def test_walks_find_series_and_edges_and_each_way_is_a_version(store: embstore.Store) -> None:
    data = generated(600, 1000)
    report = run(store, data, seed=1)
    common, _, *walks = report.rows
    for row in walks:
        assert row["same series@10"] > common["same series@10"] - 0.05
    assert min(row["held-out edges, AUC"] for row in report.rows) > 0.85
    assert len({row["held-out edges, AUC"] for row in walks}) == 3
    kept = store.table("graph_walks_books").versions()
    assert [each.params.get("q") for each in kept if each.trainer == "node2vec"] == [0.25, 4]
    assert store["graph_walks_books"].ref in report.notes[1]
    pairs = edges(data, seed=1).validation
    assert store["graph_walks_books"].ref == max(kept, key=lambda each: linked(each, pairs)).ref


def test_edges_that_are_asked_are_not_in_the_graph() -> None:
    data = generated(200, 300)
    found = edges(data, seed=0)
    near, _ = co_read(matrix(*data.liked(), data.shape), 20)
    every = {frozenset((book, each)) for book, own in enumerate(near.tolist()) for each in own}
    parts = [set(map(frozenset, np.stack(found.graph.nonzero(), axis=1).tolist()))]
    for asked in (found.validation, found.test):
        pairs = [frozenset(each) for each in asked.T.tolist()]
        half = len(pairs) // 2
        assert half > 50 and not every & set(pairs[half:]) and min(map(len, pairs)) == 2
        parts.append(set(pairs[:half]))
    assert sum(map(len, parts)) == len(set.union(*parts))  # in one of three
    assert set.union(*parts) <= every


def test_the_second_order_walk_weighs_the_next_step_by_p_and_q() -> None:
    # 0 and 1 are joined, 2 to both, 3 to 1 only: from 0 to 1, then back, to 2 or to 3.
    graph = np.array([[0, 1, 1, 0], [1, 0, 1, 2], [1, 1, 0, 0], [0, 2, 0, 0]], float)
    walker = Walker(csr_matrix(graph), p=2, q=0.5, seed=0)
    count = 60_000
    to = walker.step_from(np.zeros(count, np.int64), np.ones(count, np.int64))
    weights = np.array([1 / 2, 0, 1, 2 / 0.5])
    np.testing.assert_allclose(
        np.bincount(to, minlength=4) / count, weights / weights.sum(), atol=0.01
    )
