import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embstore
from embstore import Store
from tests.fix_data import clusters


@pytest.mark.parametrize("text", [False, True], ids=["bigint", "text"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_order_duplicates_and_bits(store: Store, text: bool, precision: str) -> None:
    vectors = clusters(200, 7)
    ids = [f"é{i}" for i in range(200)] if text else list(range(200))
    table = store.create_table("items")
    version = table.load(vectors, ids=ids, precision=precision, promote=True)
    asked = [ids[5], ids[0], ids[5], ids[199]]
    for reads in (table, version):
        found = reads.lookup(asked)
        stored = vectors.astype(np.dtype(precision)).astype(np.float32)
        np.testing.assert_array_equal(found.vectors, stored[[5, 0, 5, 199]])
        assert found.ids == asked
        assert found.found.all()
        assert found.version == 1


def test_missing_policies(store: Store) -> None:
    vectors = clusters(100, 3)
    table = store.create_table("items")
    version = table.load(vectors, ids=range(100), promote=True)
    with pytest.raises(embstore.NotFound, match=r"no id 1000 \(nor 1 more"):
        table.lookup([1, 1000, 1001])
    zero = table.lookup([1, 1000], "zero")
    assert zero.found.tolist() == [True, False]
    assert (zero.vectors[1] == 0).all()
    assert np.isnan(table.lookup([1000, 1], "nan").vectors[0]).all()
    np.testing.assert_allclose(
        version.lookup([1000], "mean").vectors[0], vectors.mean(axis=0), rtol=1e-4, atol=1e-5
    )
    skip = table.lookup([1000, 2, 1001, 3], "skip")
    assert skip.ids == [2, 3]
    np.testing.assert_array_equal(skip.vectors, vectors[[2, 3]])
    with pytest.raises(embstore.InvalidQuery, match="no policy"):
        table.lookup([1], "ignore")
    assert table.lookup([]).vectors.shape == (0, 3)


def test_many_ids_in_one_call(store: Store) -> None:
    vectors = clusters(30_000, 4)
    table = store.create_table("items")
    table.load(vectors, ids=range(30_000), index="none", promote=True)
    order = np.random.default_rng(1).permutation(30_000)
    found = table.lookup(np.concatenate([order, order]))
    np.testing.assert_array_equal(found.vectors, vectors[np.concatenate([order, order])])


def test_attributes(store: Store) -> None:
    import pandas as pd

    frame = pd.DataFrame({"id": ["a", "b"], "embedding": [[1.0, 2.0], [3.0, 4.0]], "year": [1, 2]})
    version = store.create_table("items").load(frame)
    found = version.lookup(["b", "x", "a"], "zero", show=["year"])
    assert found.attributes["year"].tolist() == [2, None, 1]


def test_embedding_matrix(store: Store) -> None:
    vectors = clusters(10, 4)
    version = store.create_table("items").load(vectors, ids=range(10))
    matrix = version.embedding_matrix([3, 77, 4])
    np.testing.assert_array_equal(matrix, [vectors[3], np.zeros(4), vectors[4]])
    drawn = version.embedding_matrix([3, 77], scale=0.1, seed=1)
    assert drawn[1].any()
    with pytest.raises(embstore.InvalidQuery, match="skip"):
        version.embedding_matrix([1], "skip")


def test_sql_lookup(store: Store) -> None:
    store.create_table("items").load(clusters(10, 2), ids=range(10), promote=True)
    with store.connection() as connection:
        rows = connection.execute(
            "SELECT id, embedding IS NULL FROM embstore.lookup('items', '{3,99,1,3}')"
        ).fetchall()
    assert rows == [("3", False), ("99", True), ("1", False), ("3", False)]


def test_whole_version_streams_back(store: Store) -> None:
    vectors = clusters(70_000, 3)
    version = store.create_table("items").load(vectors, ids=range(70_000), index="none")
    ids, back = version.to_numpy()
    np.testing.assert_array_equal(ids, np.arange(70_000))
    np.testing.assert_array_equal(back, vectors)
    assert version.to_arrow().num_rows == 70_000
    assert len(version.to_pandas()) == 70_000


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ids=st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
            min_size=1,
            max_size=200,
        ),
        min_size=1,
        max_size=20,
        unique=True,
    )
)
def test_any_text_is_an_id(store: Store, ids: list[str]) -> None:
    names = {table.name for table in store.tables()}
    table = store.table("items") if "items" in names else store.create_table("items", metric="l2")
    vectors = clusters(len(ids), 2)
    version = table.load(vectors, ids=ids, index="none")
    np.testing.assert_array_equal(version.lookup(ids).vectors, vectors)
    assert sorted(version.to_arrow().column("id").to_pylist()) == sorted(ids)
