import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embstore
from embstore import Store
from tests.fix_data import clusters
from tests.fix_store import nothing_is_left


def test_provenance(store: Store) -> None:
    version = store.create_table("items", metric="ip").load(
        clusters(10, 4),
        ids=range(10),
        trainer="gensim.Word2Vec",
        params={"window": np.int64(5), "sizes": np.arange(2)},
        metrics={"auc": 0.75},
    )
    assert (version.number, version.rows, version.dim) == (1, 10, 4)
    assert version.trainer == "gensim.Word2Vec"
    assert version.params == {"window": 5, "sizes": [0, 1]}
    assert version.metrics == {"auc": 0.75}
    assert version.source["rows_per_second"] > 0
    with store.connection() as connection:
        found = connection.execute(
            "SELECT params->>'window', status, rows FROM embstore.versions WHERE version = 1"
        ).fetchone()
    assert found == ("5", "ready", 10)
    with pytest.raises(embstore.InvalidQuery, match="metrics cannot be kept as JSON"):
        store.table("items").load(clusters(1, 4), ids=[1], metrics={"auc": float("nan")})


def test_same_content_has_the_same_checksum(store: Store) -> None:
    vectors = clusters(1000, 4)
    table = store.create_table("items")
    first = table.load(vectors, ids=range(1000), index="none")
    again = table.load(vectors[::-1], ids=list(range(1000))[::-1], index="none")
    back = table.load(first.to_arrow(), index="none")
    other = table.load(vectors + 1, ids=range(1000), index="none")
    assert first.checksum == again.checksum == back.checksum != other.checksum


def test_numbers_are_never_used_again(store: Store) -> None:
    table = store.create_table("items")
    assert table.load(clusters(5, 2), ids=range(5)).number == 1
    with pytest.raises(embstore.BadInput):
        table.load(np.array([[np.nan, 1]]), ids=[1])
    assert table.load(clusters(5, 2), ids=range(5)).number == 3
    store.drop_table("items")
    assert store.create_table("items").load(clusters(5, 2), ids=range(5)).number == 4


def test_several_files_make_one_version(store: Store, tmp_path: Path) -> None:
    vectors = clusters(30, 3)
    for part in range(3):
        rows = slice(10 * part, 10 * part + 10)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].ravel()), 3)
        pq.write_table(
            pa.table({"id": range(30)[rows], "embedding": flat}), tmp_path / f"{part}.parquet"
        )
    paths = sorted(tmp_path.glob("*.parquet"))
    version = store.create_table("items").load(paths)
    np.testing.assert_array_equal(version.lookup(range(30)).vectors, vectors)
    with pytest.raises(embstore.DuplicateId, match=r"0\.parquet row (\d+) and .*0\.parquet row \1"):
        store.table("items").load([paths[0], paths[0]])
    pq.write_table(pa.table({"id": [1], "embedding": [[1.0, 2.0]]}), tmp_path / "z.parquet")
    with pytest.raises(embstore.BadInput, match=r"z\.parquet has other columns than"):
        store.table("items").load([paths[0], tmp_path / "z.parquet"])


def test_side_attributes(store: Store, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"book": ["3", "1", "9"], "title": ["three", "one", "nine"], "year": [3, 1, 9]}),
        tmp_path / "books.parquet",
    )
    table = store.create_table("books", id_type="bigint")
    version = table.load(
        clusters(3, 2), ids=["1", "2", "3"], attributes=str(tmp_path / "books.parquet")
    )
    found = version.lookup([1, 2, 3], show=["title", "year"])
    assert found.attributes["title"].tolist() == ["one", None, "three"]
    assert found.attributes["year"].tolist() == [1, None, 3]
    frame = pa.table({"n": [7], "year": [1]})
    with pytest.raises(embstore.BadInput, match="none of its ids"):
        table.load(clusters(2, 2), ids=[1, 2], attributes=frame)
    twice = pa.table({"id": [1, 1], "year": [1, 2]})
    with pytest.raises(embstore.BadInput, match="id 1 is there more than once"):
        table.load(clusters(2, 2), ids=[1, 2], attributes=twice)
    with pytest.raises(embstore.BadInput, match="'year' would be text, but it is bigint"):
        table.load(clusters(1, 2), ids=[1], attributes=pa.table({"id": [1], "year": ["x"]}))


def test_attributes_may_come_and_go(store: Store) -> None:
    table = store.create_table("items")
    vectors = pa.array([[1.0, 2.0]])
    table.load(pa.table({"id": [1], "v": vectors, "a": ["x"]}), promote=True)
    table.load(pa.table({"id": [1], "v": vectors, "b": [2]}), promote=True)
    with store.connection() as connection:
        cursor = connection.execute("SELECT * FROM emb.items")
        assert [each.name for each in cursor.description or ()] == [
            "id",
            "a",
            "embedding",
            "version",
            "b",
        ]
        row = cursor.fetchone()
        assert row is not None
        assert (row[0], row[1], row[3], row[4]) == (1, None, 2, 2)


def test_precision_id_type_and_metric_are_fixed(store: Store) -> None:
    table = store.create_table("items", precision="float16", id_type="text")
    version = table.load(clusters(5, 2), ids=range(5))
    assert (version.precision, version.id_type) == ("float16", "text")
    assert version.lookup(["3"]).found.all()
    with pytest.raises(embstore.InvalidQuery, match="precision float16, fixed by"):
        table.load(clusters(5, 2), ids=range(5), precision="float32")
    with pytest.raises(embstore.InvalidQuery, match="id type text, fixed by"):
        table.load(clusters(5, 2), ids=range(5), id_type="bigint")
    with pytest.raises(embstore.InvalidQuery, match="'double' is no precision"):
        table.load(clusters(5, 2), ids=range(5), precision="double")


@pytest.mark.parametrize(
    ("dim", "precision"), [(1, "float32"), (2000, "float32"), (4000, "float16"), (1500, "float32")]
)
def test_dims_with_an_index(store: Store, dim: int, precision: str) -> None:
    vectors = np.abs(clusters(20, dim)) + 0.1
    version = store.create_table("items", metric="l2").load(
        vectors, ids=range(20), precision=precision, index="hnsw"
    )
    assert version.nearest(vectors[3], 1).ids.tolist() == [[3]]


def test_one_row_and_the_largest_dim(store: Store) -> None:
    table = store.create_table("items")
    assert table.load(clusters(1, 16_000), ids=[1], index="none").nearest(
        clusters(1, 16_000)
    ).ids.tolist() == [[1]]
    with pytest.raises(embstore.BadInput, match="16001 dimensions cannot be stored"):
        table.load(clusters(1, 16_001), ids=[1], index="none")
    with pytest.raises(
        embstore.InvalidQuery, match=r"2001 dimensions.*precision float16.*index none.*PCA"
    ):
        table.load(clusters(1, 2001), ids=[1], index={"kind": "hnsw", "precision": "float32"})


def vector(*rows: list[float], kind: Any = np.float32) -> Any:
    return np.array(rows, dtype=kind)


GOOD = [1.0, 2.0]
BAD: list[tuple[str, Callable[[], Any], dict[str, Any], str]] = [
    ("NaN", lambda: vector(GOOD, [1, np.nan]), {}, r"row 2 \(id 11\): value 2 is NaN"),
    ("infinity", lambda: vector([np.inf, 1], GOOD), {}, r"row 1 \(id 10\): value 1 is infinity"),
    ("minus infinity", lambda: vector([1, -np.inf], GOOD), {}, "value 2 is -infinity"),
    (
        "beyond float32",
        lambda: vector(GOOD, [1e39, 1], kind=np.float64),
        {},
        r"row 2 .*1e\+39, beyond float32",
    ),
    (
        "beyond float16",
        lambda: vector(GOOD, [70000, 1]),
        {"precision": "float16"},
        "70000, beyond float16",
    ),
    ("zero under cosine", lambda: vector(GOOD, [0, 0]), {}, r"row 2 \(id 11\): all values are 0"),
    ("tiny norm", lambda: vector(GOOD, [1e-25, 0]), {}, "row 2 .*norm is 1e-25"),
    ("huge norm", lambda: vector(GOOD, [1e25, 0]), {}, r"row 2 .*norm is 1e\+25"),
    (
        "id twice",
        lambda: vector(GOOD, GOOD, GOOD),
        {"ids": [1, 2, 1]},
        "row 1 and array row 3|row 1 and row 3",
    ),
    ("null id", lambda: vector(GOOD, GOOD), {"ids": [1, None]}, "row 2: the id is missing"),
    ("empty id", lambda: vector(GOOD, GOOD), {"ids": ["a", ""]}, "row 2: the id is empty"),
    (
        "long id",
        lambda: vector(GOOD, GOOD),
        {"ids": ["a", "x" * 1025]},
        "row 2: the id is 1025 bytes",
    ),
    ("NUL in an id", lambda: vector(GOOD, GOOD), {"ids": ["a", "b\0c"]}, "row 2: .*NUL"),
    (
        "surrogate in an id",
        lambda: vector(GOOD, GOOD),
        {"ids": ["a", "\ud800"]},
        "cannot be ids|UTF-8",
    ),
    ("float ids", lambda: vector(GOOD, GOOD), {"ids": [1.0, 2.0]}, "cannot hold ids"),
    ("bool ids", lambda: vector(GOOD, GOOD), {"ids": [True, False]}, "cannot hold ids"),
    ("mixed ids", lambda: vector(GOOD, GOOD), {"ids": [1, "a"]}, "cannot be ids"),
    (
        "large ids",
        lambda: vector(GOOD, GOOD),
        {"ids": np.array([1, 2**63], np.uint64)},
        "row 2.*beyond bigint",
    ),
    ("too few ids", lambda: vector(GOOD, GOOD), {"ids": [1]}, "1 ids for 2 vectors"),
    ("too many ids", lambda: vector(GOOD), {"ids": [1, 2]}, "2 ids for 1 vectors"),
    ("no ids", lambda: vector(GOOD), {"ids": None}, "give their ids"),
    (
        "words as bigint",
        lambda: vector(GOOD, GOOD),
        {"ids": ["1", "007"], "id_type": "bigint"},
        "row 2: id '007' is no integer",
    ),
    ("no rows", lambda: np.zeros((0, 2), np.float32), {"ids": []}, "no rows"),
    ("one dimension", lambda: np.zeros(3), {"ids": [1, 2, 3]}, r"shape \(3,\)"),
    ("no numbers", lambda: np.array([["a"]]), {"ids": [1]}, "two-dimensional"),
    ("complex", lambda: np.zeros((1, 2), complex), {"ids": [1]}, "two-dimensional"),
    ("an object", lambda: object(), {}, "object cannot be loaded"),
    (
        "ragged mapping",
        lambda: {"a": [1.0, 2.0], "b": [1.0]},
        {"ids": None},
        r"id 'b'\): 1 components",
    ),
    (
        "reserved column",
        lambda: pa.table({"id": [1], "v": [[1.0]], "version": [1]}),
        {"ids": None},
        "'version' cannot become an attribute",
    ),
    (
        "long column",
        lambda: pa.table({"id": [1], "v": [[1.0]], "x" * 64: [1]}),
        {"ids": None},
        "1 to 63 bytes",
    ),
    (
        "binary column",
        lambda: pa.table({"id": [1], "v": [[1.0]], "b": [b"x"]}),
        {"ids": None},
        "'b' cannot become",
    ),
    (
        "NUL in a column",
        lambda: pa.table({"id": [1], "v": [[1.0]], "b": ["\0"]}),
        {"ids": None},
        "column 'b'.*NUL",
    ),
    (
        "large column",
        lambda: pa.table({"id": [1], "v": [[1.0]], "b": pa.array([2**64 - 1], pa.uint64())}),
        {"ids": None},
        "column 'b'",
    ),
    ("bad index", lambda: vector(GOOD), {"ids": [1], "index": "magic"}, "no index kind 'magic'"),
    ("bad alias", lambda: vector(GOOD), {"ids": [1], "promote": "Live!"}, "no alias name"),
]


@pytest.mark.parametrize(
    ("make", "how", "says"), [each[1:] for each in BAD], ids=[each[0] for each in BAD]
)
def test_bad_input_loads_nothing(
    store: Store, make: Callable[[], Any], how: dict[str, Any], says: str
) -> None:
    table = store.create_table("items")
    with pytest.raises(embstore.EmbstoreError, match=says) as caught:
        table.load(make(), **({"ids": [10, 11]} | how))
    assert "\n" not in str(caught.value)
    assert nothing_is_left(store)


def test_a_bad_row_far_into_the_load(store: Store) -> None:
    vectors = clusters(100_000, 16)
    vectors[87_654, 5] = np.nan
    with pytest.raises(embstore.BadInput) as caught:
        store.create_table("items").load(vectors, ids=range(1, 100_001))
    assert (caught.value.row, caught.value.id) == (87_655, 87_655)
    assert nothing_is_left(store)


def test_ordinary_extremes_are_kept(store: Store) -> None:
    """Under l2 and ip, zero, tiny and huge vectors are data like any other."""
    vectors = vector([0, -0.0], [1e-45, 1e-38], [3e38, -3e38])
    version = store.create_table("items", metric="ip").load(vectors, ids=[-(2**63), 0, 2**63 - 1])
    back = version.lookup([-(2**63), 0, 2**63 - 1]).vectors
    np.testing.assert_array_equal(back.view(np.uint32), vectors.view(np.uint32))


def test_norms_at_the_edge_have_a_good_cosine(store: Store) -> None:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((200, 8))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    scales = 10.0 ** rng.uniform(-17.9, 17.9, (200, 1))
    version = store.create_table("items").load(directions * scales, ids=range(200))
    found = version.nearest(directions * scales[::-1], 200, exact=True)
    assert ((found.distances > -1e-6) & (found.distances < 2 + 1e-6)).all()


def test_streams_and_frames(store: Store) -> None:
    import pandas as pd
    import polars as pl

    vectors = clusters(10, 3)
    table = store.create_table("items")
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 3)
    arrow = pa.table({"id": range(10), "embedding": flat})
    sources: list[Any] = [
        arrow,
        arrow.to_reader(max_chunksize=3),
        pl.from_arrow(arrow),
        pd.DataFrame({"id": range(10), "embedding": list(vectors)}),
        pd.DataFrame({"embedding": list(vectors)}, index=pd.Index(range(10), name="book")),
        dict(enumerate(vectors)),
        {"ids": np.arange(10), "factors": vectors},
    ]
    checksums = {table.load(source).checksum for source in sources}
    assert len(checksums) == 1


def test_source_is_recorded(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text("".join(json.dumps({"id": i, "v": [i, 1.5]}) + "\n" for i in range(1, 4)))
    version = store.create_table("items").load(path)
    assert version.source["name"] == str(path)
    assert version.source["format"] == "jsonl"
    assert version.source["bytes"] == path.stat().st_size
