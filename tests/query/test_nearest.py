import numpy as np
import pytest

import embstore
from embstore import Store
from tests.fix_data import clusters, distances, exact, recall

METRICS = ["cosine", "ip", "l2"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_digits_recall(store: Store, metric: str, precision: str) -> None:
    from sklearn.datasets import load_digits

    pixels = load_digits().data.astype(np.float32)
    pixels -= pixels.mean(axis=0)
    # Whole numbers tie too often for an order to be right or wrong.
    pixels += np.random.default_rng(0).normal(0, 0.05, pixels.shape).astype(np.float32)
    version = store.create_table("digits", metric=metric).load(
        pixels, ids=range(len(pixels)), precision=precision, index="hnsw"
    )
    stored = version.to_numpy()[1]
    queries = stored[::20]
    true = exact(metric, queries, stored, 10)
    assert recall(version.nearest(queries, 10).ids, true) >= 0.95
    found = version.nearest(queries, 10, exact=True)
    expected = np.take_along_axis(distances(metric, queries, stored), true, axis=1)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-4, atol=1e-4)
    assert recall(found.ids, true) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_larger_for_nearer(store: Store, metric: str) -> None:
    vectors = clusters(300, 8)
    version = store.create_table("t", metric=metric).load(vectors, ids=range(300))
    found = version.nearest(vectors[0], 5)
    assert (np.diff(found.distances[0]) >= 0).all()
    assert (np.diff(found.scores[0]) <= 0).all()
    row = vectors[found.ids[0, 0]]
    expected = {
        "cosine": row @ vectors[0] / np.linalg.norm(row) / np.linalg.norm(vectors[0]),
        "ip": row @ vectors[0],
        "l2": -np.linalg.norm(row - vectors[0]),
    }[metric]
    assert found.scores[0, 0] == pytest.approx(expected, rel=1e-4)


def test_sql_python_and_the_live_view_agree(store: Store) -> None:
    vectors = clusters(2000, 16)
    table = store.create_table("items", metric="ip")
    version = table.load(vectors, ids=[f"b{i}" for i in range(2000)], index="hnsw", promote=True)
    found = version.nearest(vectors[5], 7)
    live = table.nearest(vectors[5], 7)
    text = "[" + ",".join(map(repr, vectors[5].tolist())) + "]"
    with store.connection() as connection:
        rows = connection.execute(
            "SELECT id, distance, score FROM embstore.nearest('items', %s::vector, 7)", (text,)
        ).fetchall()
        plain = connection.execute(
            "SELECT id FROM emb.items ORDER BY embedding <#> %s::vector LIMIT 7", (text,)
        ).fetchall()
        similar = connection.execute(
            "SELECT id, distance FROM embstore.similar('items@1', 'b5', 7)"
        ).fetchall()
    assert [row[0] for row in rows] == found.ids[0].tolist() == live.ids[0].tolist()
    assert [row[0] for row in plain] == found.ids[0].tolist()
    np.testing.assert_array_equal([row[1] for row in rows], found.distances[0])
    np.testing.assert_array_equal([row[2] for row in rows], found.scores[0])
    assert [row[0] for row in similar] == version.similar(["b5"], 7).ids[0].tolist()
    assert "b5" not in version.similar(["b5"], 7).ids


def test_batches_equal_single_queries(store: Store) -> None:
    vectors = clusters(3000, 12)
    table = store.create_table("items")
    version = table.load(vectors, ids=range(3000), promote=True)
    batch = table.nearest(vectors[:1500], 5, exact=True)
    assert batch.ids.shape == (1500, 5)
    for row in (0, 999, 1000, 1499):
        single = version.nearest(vectors[row], 5, exact=True)
        assert single.ids[0].tolist() == batch.ids[row].tolist()
    ids = [7, 3, 7]
    similar = version.similar(ids, 4)
    assert similar.ids[0].tolist() == similar.ids[2].tolist()
    assert all(key not in row for key, row in zip(ids, similar.ids.tolist(), strict=True))


@pytest.mark.parametrize("k", [1, 40, 41, 100, 101, 1000, 1001, 1999, 2000, 2**31 - 1])
def test_k_is_filled(store: Store, k: int) -> None:
    vectors = clusters(2000, 8)
    version = store.create_table("items").load(vectors, ids=range(2000), index="hnsw")
    found = version.nearest(vectors[:2], k)
    assert found.ids.shape == (2, min(k, 2000))
    assert len(set(found.ids[0].tolist())) == found.ids.shape[1]
    assert version.similar([0], k).ids.shape == (1, min(k, 1999))
    with store.connection() as connection:
        rows = connection.execute(
            "SELECT * FROM embstore.similar('items@1', '0', %s::bigint::int)", (k,)
        ).fetchall()
    assert len(rows) == min(k, 1999)


def test_equal_vectors_do_not_hide_rows(store: Store) -> None:
    """Clusters of equal vectors make an HNSW scan come back short."""
    vectors = np.ones((3000, 4), np.float32)
    vectors[:10] = [-1, 1, 0, 0]
    version = store.create_table("items").load(vectors, ids=range(3000), index="hnsw")
    assert version.nearest(vectors[0], 50).ids.shape == (1, 50)
    found = version.nearest(vectors[0], 10, exact=True)
    assert set(found.ids[0].tolist()) == set(range(10))


def test_settings_do_not_leak(store: Store) -> None:
    version = store.create_table("items").load(clusters(500, 4), ids=range(500), index="hnsw")
    with store.connection() as connection, connection.transaction():
        connection.execute("SET LOCAL hnsw.ef_search = 77")
        connection.execute("SELECT * FROM embstore.similar('items@1', '3', 300)").fetchall()
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("77",)
    version.nearest(clusters(1, 4), 300)
    with store.connection() as connection:
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("100",)


def test_attributes_come_back(store: Store) -> None:
    import pyarrow as pa

    vectors = clusters(100, 4)
    titles = [f"title {i}" if i % 2 else None for i in range(100)]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    source = pa.table({"id": range(100), "title": titles, "year": range(1900, 2000), "v": flat})
    table = store.create_table("items")
    table.load(source, promote=True, ids="id", vectors="v")
    found = table.nearest(vectors[:3], 4, show=["title", "year"])
    for row in range(3):
        for place in range(4):
            key = found.ids[row, place]
            assert found.attributes["title"][row, place] == titles[key]
            assert found.attributes["year"][row, place] == 1900 + key
    with pytest.raises(embstore.InvalidQuery, match=r"'colour'.*title, year"):
        table.nearest(vectors[0], show=["colour"])


BAD = [
    ("k of 0", lambda t: t.nearest(np.ones(4), 0), "k is 0"),
    ("negative k", lambda t: t.nearest(np.ones(4), -1), "k is -1"),
    ("huge k", lambda t: t.nearest(np.ones(4), 2**63), "k is 9223372036854775808"),
    ("k no number", lambda t: t.nearest(np.ones(4), "ten"), "k is 'ten'"),
    ("wrong dim", lambda t: t.nearest(np.ones(5), 3), "4 dimensions|different vector dimensions"),
    ("wrong dims", lambda t: t.nearest(np.ones((2, 5)), 3), "dimensions"),
    ("NaN", lambda t: t.nearest([1, 2, 3, float("nan")]), "query 1 holds NaN"),
    ("infinity", lambda t: t.nearest([[1, 2, 3, 4], [1, 2, 3, float("inf")]]), "query 2 holds"),
    ("overflow", lambda t: t.nearest([1e39, 2, 3, 4]), "infinity"),
    ("zero under cosine", lambda t: t.nearest(np.zeros(4)), "no direction"),
    ("no numbers", lambda t: t.nearest(["a", "b"]), "not an array of numbers"),
    ("ragged", lambda t: t.nearest([[1, 2], [1]]), "not an array of numbers"),
    ("cube", lambda t: t.nearest(np.ones((1, 2, 4))), "shape"),
    ("unknown id", lambda t: t.similar([5, 4711]), "no id 4711"),
    ("text id", lambda t: t.similar(["5"]), "bigint ids"),
    ("null id", lambda t: t.similar([1, None]), "bigint ids"),
    ("float id", lambda t: t.similar([1.5]), "bigint ids"),
    ("large id", lambda t: t.similar([2**64]), "bigint ids"),
    ("one id", lambda t: t.similar("5"), "list or an array"),
]


@pytest.mark.parametrize(("ask", "says"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
@pytest.mark.parametrize("live", [True, False], ids=["live", "version"])
def test_bad_queries(store: Store, ask: object, says: str, live: bool) -> None:
    table = store.create_table("items")
    version = table.load(clusters(50, 4), ids=range(50), promote=True)
    with pytest.raises(embstore.EmbstoreError, match=says):
        ask(table if live else version)  # type: ignore[operator]
    assert len(table.nearest(np.ones(4), 3).ids) == 1  # the connection is as good as before


def test_no_queries_give_no_rows(store: Store) -> None:
    version = store.create_table("items").load(clusters(50, 4), ids=range(50))
    assert version.nearest(np.zeros((0, 4))).ids.shape[0] == 0
    assert version.similar([]).ids.shape[0] == 0


def test_nothing_live(store: Store) -> None:
    table = store.create_table("items")
    with pytest.raises(embstore.NotFound, match="no live version"):
        table.nearest(np.ones(4))
    table.load(clusters(50, 4), ids=range(50))
    for ask in (
        lambda: table.nearest(np.ones(4)),
        lambda: table.similar([3]),
        lambda: table.lookup([3]),
    ):
        with pytest.raises(embstore.NotFound, match="items has no 'live' version"):
            ask()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT * FROM embstore.nearest('items', '[1,2,3]')", "4 dimensions"),
        ("SELECT * FROM embstore.nearest('items', '[0,0,0,0]')", "no direction"),
        ("SELECT * FROM embstore.nearest('items', '[1,2,3,4]', 0)", "k is 0"),
        ("SELECT * FROM embstore.nearest('items', NULL)", "NULL"),
        ("SELECT * FROM embstore.nearest('nothing', '[1,2,3,4]')", "no table 'nothing'"),
        ("SELECT * FROM embstore.nearest('items@9', '[1,2,3,4]')", "no version 9"),
        ("SELECT * FROM embstore.nearest('items@new', '[1,2,3,4]')", "no 'new' version"),
        ("SELECT * FROM embstore.nearest('items@x''y', '[1,2,3,4]')", "no reference"),
        ("SELECT * FROM embstore.similar('items', '99')", "no id '99'"),
        ("SELECT * FROM embstore.similar('items', 'x')", "no id 'x'"),
    ],
)
def test_bad_sql_calls(store: Store, statement: str, says: str) -> None:
    import psycopg

    store.create_table("items").load(clusters(50, 4), ids=range(50), promote=True)
    with store.connection() as connection, pytest.raises(psycopg.Error, match=says):
        connection.execute(statement)
