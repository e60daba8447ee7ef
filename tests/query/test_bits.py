"""Tables of bits: what hamming and jaccard give, in Python, in SQL and on the command line."""

import json
from importlib import import_module
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

import embstore
from embstore import Store
from embstore.types import Metric
from tests.fix_data import distances, exact, recall
from tests.fix_store import Command

METRICS = ["hamming", "jaccard"]


def bits(rows: int, dim: int, share: float = 0.3) -> Any:
    found = np.random.default_rng(rows).random((rows, dim)) < share
    found[:, 0] |= ~found.any(axis=1)
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 8, 70, 1001])
def test_distances_are_exact(store: Store, metric: str, dim: int) -> None:
    given = bits(300, dim)
    table = store.create_table("leaves", metric=metric)
    version = table.load(given, ids=[f"ad{i}" for i in range(300)], promote=True)
    assert (version.precision, version.dim) == ("bit", dim)
    keys, back = version.to_numpy()
    assert keys.tolist() == [f"ad{i}" for i in range(300)]
    np.testing.assert_array_equal(back, given)
    found = table.nearest(given[:40], 10, exact=True)
    true = exact(metric, given[:40], given, 10)
    expected = np.take_along_axis(distances(metric, given[:40], given), true, axis=1)
    np.testing.assert_allclose(found.distances, expected, atol=1e-12)
    np.testing.assert_array_equal(
        found.scores, 1 - found.distances if metric == "jaccard" else -found.distances
    )
    vectors = version.lookup(["ad7", "no", "ad3"], missing="zero").vectors
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.stack([given[7], 0 * given[0], given[3]]))


@pytest.mark.parametrize("metric", METRICS)
def test_recall_through_the_index(store: Store, metric: str) -> None:
    centres = bits(60, 400, 0.1)
    rng = np.random.default_rng(0)
    given = centres[rng.integers(0, 60, 3000)] ^ (rng.random((3000, 400)) < 0.03)
    table = store.create_table("leaves", metric=metric)
    version = table.load(given, ids=range(3000), index="hnsw", promote=True)
    true = version.nearest(given[:100], 10, exact=True)
    found = version.nearest(given[:100], 10)
    # Bits tie often: what counts is the distance.
    hits = found.distances <= true.distances[:, -1:]
    assert hits.mean() >= 0.95
    assert recall(found.ids[:, :1], np.arange(100)[:, None]) >= 0.95
    single = table.nearest(given[5], 10)
    np.testing.assert_array_equal(single.distances[0], found.distances[5])
    similar = table.similar([5, 17], 10)
    assert 5 not in similar.ids[0]
    np.testing.assert_array_equal(table.similar([17], 10).ids[0], similar.ids[1])


@pytest.mark.parametrize("metric", METRICS)
def test_sql_python_and_the_live_view_agree(store: Store, metric: str) -> None:
    given, other = bits(4000, 33), bits(3000, 70)
    table = store.create_table("leaves", metric=metric)
    version = table.load(given, ids=range(4000), index="hnsw", promote=True)
    table.load(other, ids=range(3000))  # another dim in the same view
    found = version.nearest(given[7], 5, exact=True)
    text, more = ("".join(map(str, each.astype(int))) for each in (given[7], other[9]))
    order = sql.SQL("ORDER BY embedding {} ").format(sql.SQL(Metric(metric).operator))
    own = sql.SQL("(SELECT embedding FROM emb.leaves WHERE id = 7)")
    with store.connection() as connection:

        def rows(statement: Any) -> list[Any]:
            return connection.execute(statement).fetchall()

        typed = rows(sql.SQL("SELECT * FROM embstore.nearest_bits('leaves', {}, 5)").format(text))
        vector = rows(
            sql.SQL("SELECT * FROM embstore.nearest('leaves', {}, 5)").format(
                json.dumps([*map(int, text)])
            )
        )
        similar = rows("SELECT * FROM embstore.similar('leaves@1', '7', 4)")
        looked = rows("SELECT * FROM embstore.lookup('leaves', '{7,4711}')")
        live = sql.SQL("SELECT id FROM emb.leaves ") + order
        plain = rows(live + own + sql.SQL(", id LIMIT 5"))
        plan = rows(sql.SQL("EXPLAIN ANALYZE ") + live + own + sql.SQL(" LIMIT 5"))
        connection.execute(sql.SQL('PREPARE one ("bit") AS ') + live + sql.SQL("$1 LIMIT 1"))
        assert rows(sql.SQL("EXECUTE one ({})").format(text)) == [(7,)]
        connection.execute("SELECT embstore.promote('leaves@2')")
        assert rows(sql.SQL("EXECUTE one ({})").format(more)) == [(9,)]
    # Bits tie often: at the last place any of the equal ones may stand.
    assert typed == vector
    assert typed[0][0] == "7"
    assert [row[1] for row in typed] == found.distances[0].tolist()
    assert [row[2] for row in typed] == found.scores[0].tolist()
    assert [row[0] for row in plain] == found.ids[0].tolist()
    assert [row[1] for row in similar] == version.similar([7], 4).distances[0].tolist()
    assert [key for key, _ in looked] == ["7", "4711"]
    np.testing.assert_array_equal(looked[0][1].to_numpy(), given[7])
    assert looked[1][1] is None
    lines = [row[0] for row in plan]
    assert any("Index Scan using leaves_v1_hnsw" in line for line in lines)
    assert any("leaves_v2" in line and "never executed" in line for line in lines)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT * FROM embstore.nearest_bits('leaves', B'010')", "4 bits, the query vector has 3"),
        ("SELECT * FROM embstore.nearest_bits('leaves', B'0000')", "nothing in common"),
        ("SELECT * FROM embstore.nearest_bits('leaves', NULL)", "NULL"),
        ("SELECT * FROM embstore.nearest_bits('items', B'0110')", "float32 vectors, not bits"),
        ("SELECT * FROM embstore.nearest('leaves', '[0,1,2,0]')", "other values than 0 and 1"),
        ("SELECT * FROM embstore.nearest('leaves', '[0,1,0]')", "4 bits, the query vector has 3"),
        ("SELECT * FROM embstore.similar('leaves', '99')", "no id '99'"),
    ],
)
def test_bad_sql_calls(store: Store, statement: str, says: str) -> None:
    store.create_table("leaves", metric="jaccard").load(bits(9, 4), ids=range(9), promote=True)
    store.create_table("items").load(np.ones((3, 4)), ids=range(3), promote=True)
    with store.connection() as connection, pytest.raises(psycopg.Error, match=says):
        connection.execute(statement)


BAD: list[tuple[Any, str]] = [
    (lambda t: t.nearest(np.zeros(4)), "query 1 is all 0: it has nothing in common"),
    (lambda t: t.nearest([[0, 1, 1, 0], [0, 1, 0.5, 0]]), "query 2 holds other values than 0 and"),
    (lambda t: t.nearest([0, 1, 0]), "4 dimensions|different bit lengths"),
    (lambda t: t.nearest(np.eye(5)), "4 dimensions|different bit lengths"),
    (lambda t: t.lookup([99], missing="mean"), "bits, which have no mean"),
    (lambda t: t.load(np.eye(4), ids=range(4), precision="float32"), "leave precision float32 out"),
    (lambda t: t.load(np.zeros((1, 4)), ids=[5]), r"row 1 \(id 5\): all bits are 0.*jaccard"),
    (lambda t: t.load([[0.1]], ids=[5]), "a list is loaded only"),
    (lambda t: t.load(np.full((1, 4), 0.3), ids=[5]), r"\(id 5\): value 1 is 0.3, and bits are 0"),
    (lambda t: t.load(np.ones((1, 512_001), bool), ids=[1]), "512001 bits cannot be stored"),
]


@pytest.mark.parametrize(("ask", "says"), BAD, ids=[each[1][:20] for each in BAD])
@pytest.mark.parametrize("live", [True, False], ids=["live", "version"])
def test_what_is_refused(store: Store, ask: Any, says: str, live: bool) -> None:
    table = store.create_table("leaves", metric="jaccard")
    version = table.load(bits(9, 4), ids=range(9), promote=True)
    with pytest.raises(embstore.EmbstoreError, match=says):
        ask(table if live or "load" in ask.__code__.co_names else version)
    assert len(table.nearest(np.ones(4), 3).ids) == 1


@pytest.mark.parametrize("metric", METRICS)
def test_the_first_call_on_what_is_live(store: Store, metric: str) -> None:
    given = bits(5000, 70)
    store.create_table("leaves", metric=metric).load(given, ids=range(5000), promote=True)
    version = store["leaves@1"]
    assert version.index == "hnsw"
    for _ in range(2):
        by_id, by_vector = store.table("leaves"), store.table("leaves")
        for _ in range(2):
            np.testing.assert_array_equal(by_id.similar([7], 5).ids, version.similar([7], 5).ids)
            np.testing.assert_array_equal(
                by_vector.nearest(given[7], 5).ids, version.nearest(given[7], 5).ids
            )


def test_zeros_are_data_under_hamming(store: Store) -> None:
    table = store.create_table("leaves", metric="hamming")
    version = table.load(np.vstack([np.zeros((2, 9)), np.eye(9)]), ids=range(11))
    assert version.nearest(np.zeros(9), 2).ids.tolist() == [[0, 1]]


def test_metric_and_precision_go_together(store: Store) -> None:
    for metric, precision in (("jaccard", "float32"), ("cosine", "bit")):
        with pytest.raises(embstore.InvalidQuery, match="hamming and jaccard go with bit"):
            store.create_table("leaves", metric=metric, precision=precision)
    store.create_table("leaves", metric="hamming", precision="bit")


def test_damage_on_the_way_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits that arrive in other places, though as many of them."""
    fill: Any = import_module("embstore.load.fill")
    original = fill.encode

    def shifted(ids: Any, attributes: Any, columns: Any, stored: Any, dim: int) -> Any:
        return original(ids, attributes, columns, np.roll(stored, 1, axis=1), dim)

    monkeypatch.setattr(fill, "encode", shifted)
    table = store.create_table("leaves", metric="hamming")
    with pytest.raises(embstore.LoadFailed, match="not those that were sent"):
        table.load(bits(300, 64), ids=range(300))
    assert table.versions() == []


def test_export_and_load_again(store: Store) -> None:
    given = bits(100, 13)
    table = store.create_table("leaves", metric="hamming")
    version = table.load(given, ids=range(100))
    assert table.load(version.to_arrow()).checksum == version.checksum
    changed = given.copy()
    changed[50, 12] ^= True
    assert table.load(changed, ids=range(100)).checksum != version.checksum


def test_command_line(cli: Command, tmp_path: Any) -> None:
    np.save(tmp_path / "leaves.npy", [[0, 2], [1, 0], [2, 1]])
    done = cli(
        *("load", "leaves", tmp_path / "leaves.npy", "--ids", "row-number"),
        *("--metric", "hamming", "--promote", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["precision"] == "bit"
    done = cli("nearest", "leaves", "--vector", "[0,1,0,1,0,0]", "-k", "1", "--json")
    assert json.loads(done.stdout) == [{"id": 1, "score": 0.0, "distance": 0.0}]
    done = cli("lookup", "leaves", "2", "--json")
    assert json.loads(done.stdout)[0]["vector"] == [0, 0, 1, 0, 1, 0]
    done = cli("nearest", "leaves", "--vector", "[0,1,2,1,0,0]")
    assert (done.returncode, "other values than 0 and 1" in done.stderr) == (1, True)


def test_repeated_ids_can_be_left_out(store: Store) -> None:
    base = np.random.default_rng(0).integers(0, 2, (300, 37), dtype=np.uint8)
    ids = [*range(298), 5, 7]
    table = store.create_table("leaves", metric="hamming")
    version = table.load(base, ids=ids, on_bad="skip")
    assert (version.rows, version.source["rejected"]) == (298, 2)
    np.testing.assert_array_equal(version.lookup([5, 297]).vectors, base[[5, 297]])
    assert version.checksum == table.load(base[:298], ids=range(298)).checksum
