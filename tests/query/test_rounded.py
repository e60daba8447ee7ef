"""Indexes on less than the vectors: candidates are ranked by the full ones, whatever is asked."""

import numpy as np
import pytest

from embstore import Store
from tests.fix_data import clusters, exact, recall

VECTORS = clusters(5000, 32)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("kind", ["hnsw", "ivfflat"])
def test_float16_for_queries_of_any_length(store: Store, metric: str, kind: str) -> None:
    table = store.create_table("t", metric=metric)
    version = table.load(
        VECTORS, ids=range(5000), index={"kind": kind, "precision": "float16"}, promote=True
    )
    # Lists begin at random: all of them are read, so that every run finds the same.
    search = {"probes": 10} if kind == "ivfflat" else None
    for scale in (1.0, 1e-12, 1e6):
        queries = (VECTORS[:40] * scale).astype(np.float32)
        found = version.nearest(queries, 10, search=search)
        full = version.nearest(queries, 10, exact=True)
        if metric != "l2":
            assert recall(found.ids, exact(metric, queries, VECTORS, 10)) >= 0.95, scale
        close = np.isclose(found.distances, full.distances, rtol=1e-5)
        assert close.mean() >= 0.95, scale
        live = np.concatenate(
            [table.nearest(query, 10, search=search).ids for query in queries[:5]]
        )
        np.testing.assert_array_equal(live, found.ids[:5])
    paged = [version.nearest(VECTORS[0], 10, offset=at).ids[0] for at in (0, 10, 20)]
    assert len(set(np.concatenate(paged).tolist())) == 30


def test_what_is_live_moves_between_kinds_of_index(store: Store) -> None:
    table = store.create_table("t", metric="l2")
    for index in ("hnsw", {"kind": "hnsw", "precision": "bit"}, "none", "ivfflat"):
        table.load(VECTORS, ids=range(5000), index=index)
    for _ in range(2):
        for number in (1, 2, 3, 4):
            table[number].promote()
            for query in VECTORS[:3]:
                found = table.nearest(query, 10)
                assert found.version == number
                np.testing.assert_array_equal(found.ids, table[number].nearest(query, 10).ids)
                assert table.similar([5], 3).ids.shape == (1, 3)


def test_zero_vectors_do_not_crowd_out_the_others(store: Store) -> None:
    vectors = np.zeros((5000, 16), np.float32)
    vectors[::500] = clusters(10, 16)
    for name, index in (("a", {"kind": "hnsw", "precision": "bit"}), ("b", "hnsw"), ("c", "none")):
        version = store.create_table(name).load(vectors, ids=range(5000), zero="keep", index=index)
        found = version.nearest(vectors[0], 20)
        assert sorted(found.ids[0].tolist()) == list(range(0, 5000, 500)), name
        assert found.counts.tolist() == [10] and found.short.all()
        assert version.similar([0], 20).counts.tolist() == [9]
