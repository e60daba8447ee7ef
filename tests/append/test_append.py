"""New ids join a ready version, and nothing that was there changes."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embstore
from embstore import BadInput, DimensionMismatch, DuplicateId, InvalidQuery, NotFound, Store
from tests.fix_data import clusters, exact
from tests.fix_store import Command, Server

BASE, NEW = clusters(3500, 8), clusters(200, 8, seed=7)


def rows(ids: Any, vectors: Any, **columns: Any) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(vectors).ravel()), 8)
    return pa.table({"id": ids, **columns, "embedding": flat})


def test_new_ids_join(store: Store, tmp_path: Path) -> None:
    table = store.create_table("items")
    years = list(range(3500))
    v = table.load(rows(range(3500), BASE, year=years), promote=True, index="hnsw")
    held = store["items@1"]
    before = v.checksum
    done = v.append(rows(range(4000, 4100), NEW[:100], year=[2020] * 100), message="new today")
    assert (done.ref, done.append, done.rows, done.origin) == ("items@1", 1, 100, "given")
    assert (v.rows, v.appended, done.total) == (3600, 100, 3600)
    assert v.append(rows(range(4100, 4200), NEW[100:])).append == 2
    # In its index, its live view and its filters.
    everything = np.concatenate([BASE, NEW])
    known = np.array([*range(3500), *range(4000, 4200)])
    found = table.nearest(NEW, 5, show=["origin", "year"])
    overlap = [
        set(a) & set(b)
        for a, b in zip(
            found.ids.tolist(),
            known[exact("cosine", NEW, everything, 5)].tolist(),
            strict=True,
        )
    ]
    assert sum(map(len, overlap)) > 0.95 * NEW.shape[0] * 5
    near = v.nearest(NEW[:1], 3, where={"origin": "trained"}, show=["appended_at"])
    assert max(near.ids[0]) < 3500 and set(near.attributes["appended_at"][0]) == {None}
    np.testing.assert_array_equal(held.lookup(range(3500)).vectors, BASE)
    np.testing.assert_array_equal(table.lookup(range(4000, 4200)).vectors, NEW)
    assert v.lookup([4000, 4100], show=["year"]).attributes["year"].tolist() == [2020, None]
    # The catalog says what joined, and when.
    first, second = v.appends()
    assert (first.append, first.rows, first.message) == (1, 100, "new today")
    assert first.appended_at < second.appended_at and second.checksum == v.checksum != before
    with store.connection() as connection:
        seen = connection.execute(
            "SELECT appended_at, count(*) FROM emb.items GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert seen == [(first.appended_at, 100), (second.appended_at, 100), (None, 3500)]
    # Loaded again it is the same content, and takes new rows again.
    again = store.create_table("copy").load(v.to_arrow())
    assert again.checksum == v.checksum
    assert again.append(rows([9000], NEW[:1])).append == 1
    assert again.appends()[0].appended_at > second.appended_at


def test_texts_bits_and_halves(store: Store) -> None:
    halves = store.create_table("halves", id_type="text", precision="float16", metric="l2")
    v = halves.load(BASE[:50], ids=[f"a{i}" for i in range(50)])
    v.append({f"b{i}": NEW[i] for i in range(5)}, origin="fold_in")
    np.testing.assert_array_equal(
        v.lookup(["b3"]).vectors, NEW[3:4].astype(np.float16).astype(np.float32)
    )
    assert v.checksum == halves.load(v.to_arrow()).checksum
    bits = store.create_table("leaves", metric="hamming")
    w = bits.load((BASE[:50] > 0).astype(np.uint8), ids=range(50))
    w.append((NEW[:5] > 0).astype(np.uint8), ids=range(100, 105))
    assert w.nearest((NEW[2] > 0).astype(np.uint8), 1, exact=True).distances[0, 0] == 0
    assert w.checksum == bits.load(w.to_arrow()).checksum


def test_what_cannot_join(store: Store, tmp_path: Path) -> None:
    table = store.create_table("items")
    v = table.load(rows(range(100), BASE[:100], year=range(100)))
    before = (v.rows, v.checksum)
    with pytest.raises(DuplicateId, match=r"Table row 2 \(id 7\): items@1 has this id") as told:
        v.append(rows([200, 7, 8], NEW[:3]))
    assert (told.value.id, told.value.row) == (7, 2)
    with pytest.raises(DuplicateId, match=r"row 3 \(id 200\): the id is there twice"):
        v.append(rows([200, 201, 200], NEW[:3]))
    with pytest.raises(DimensionMismatch, match="4 dimensions, and items@1 has 8"):
        v.append(NEW[:2, :4], ids=[200, 201])
    with pytest.raises(BadInput, match=r"row 2 \(id 201\): value 3 is NaN"):
        bad = NEW[:2].copy()
        bad[1, 2] = np.nan
        v.append(bad, ids=[200, 201])
    with pytest.raises(BadInput, match="'titel': items@1 has no such attribute, it has year"):
        v.append(rows([200], NEW[:1], titel=["x"]))
    with pytest.raises(BadInput, match="'year': it would be text, and in items@1 it is bigint"):
        v.append(rows([200], NEW[:1], year=["x"]))
    with pytest.raises(BadInput, match="'origin': an append writes it itself"):
        v.append(rows([200], NEW[:1], origin=["x"]))
    with pytest.raises(InvalidQuery, match="'guessed' is no origin"):
        v.append(rows([200], NEW[:1]), origin="guessed")
    v = store["items@1"]
    assert (v.rows, v.checksum, v.appends()) == (*before, [])
    # What is left out is counted and listed.
    told_of: list[str] = []
    listed = tmp_path / "rejects.csv"
    done = v.append(
        rows([200, 7, 200, 201], NEW[:4]), on_bad="skip", rejects=listed, warn=told_of.append
    )
    assert (done.rows, done.rejected, v.rows) == (2, 2, 102)
    assert "2 of 4 rows rejected" in told_of[0]
    assert [each.split(",")[1:3] for each in listed.read_text().splitlines()[1:]] == [
        ["2", "7"],
        ["3", "200"],
    ]
    np.testing.assert_array_equal(v.lookup([200]).vectors, NEW[:1])
    nothing = v.append(rows([7], NEW[:1]), on_bad="skip")
    assert (nothing.append, nothing.rows, len(v.appends())) == (None, 0, 1)
    # Neither do columns of the name that mean something else.
    other = store.create_table("other")
    w = other.load(rows(range(10), BASE[:10], origin=["France"] * 10))
    with pytest.raises(InvalidQuery, match="its attribute 'origin' holds 'France'"):
        w.append(rows([200], NEW[:1]))
    x = other.load(BASE[:10], ids=range(10))
    other.drop(1)
    x.append(rows([200], NEW[:1]))
    third = store.create_table("third")
    third.load(rows(range(10), BASE[:10], appended_at=range(10)))
    y = third.load(BASE[:10], ids=range(10))
    with pytest.raises(InvalidQuery, match="'appended_at' of third is bigint"):
        y.append(rows([200], NEW[:1]))
    # Nor a version that is not ready.
    table.load(BASE[:10], ids=range(10))
    table.drop(1)
    with pytest.raises(NotFound, match="items@1 is retired"):
        v.append(rows([300], NEW[:1]))


def test_beside_readers_and_each_other(store: Store) -> None:
    """Four appends at once take turns; readers see each whole, and wait for none."""
    table = store.create_table("items")
    table.load(rows(range(3500), BASE), promote=True, index="hnsw")
    over = threading.Event()
    failures: list[BaseException] = []
    counts: set[int] = set()

    def read() -> None:
        try:
            with psycopg.connect(store.url, autocommit=True) as connection:
                while not over.is_set():
                    row = connection.execute("SELECT count(*) FROM emb.items").fetchone()
                    assert row is not None
                    counts.add(row[0])
                    assert len(table.nearest(BASE[5], 10, show=()).ids[0]) == 10
                    assert table.lookup([5]).vectors.tobytes() == BASE[5].tobytes()
        except BaseException as error:
            failures.append(error)

    def write(number: int) -> None:
        try:
            ids = range(10_000 + 50 * number, 10_050 + 50 * number)
            store["items@1"].append(rows(ids, NEW[50 * number :][:50]))
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for each in (*readers, *writers):
        each.start()
    for each in writers:
        each.join()
    v = store["items@1"]
    v.append(rows([20_000], NEW[:1]))
    v.create_index("hnsw")
    over.set()
    for each in readers:
        each.join()
    assert not failures
    assert counts <= {3500, 3550, 3600, 3650, 3700, 3701}
    assert [each.append for each in v.appends()] == [1, 2, 3, 4, 5]
    moments = [each.appended_at for each in v.appends()]
    assert moments == sorted(set(moments))
    assert v.checksum == store.create_table("copy").load(v.to_arrow()).checksum


APPENDER = """
import sys, numpy as np, pyarrow as pa, embstore
vectors = np.random.default_rng(0).standard_normal((20000, 8), dtype="f4")
flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
table = pa.table({"id": range(10000, 30000), "embedding": flat})
def batches():
    for batch in table.to_batches(max_chunksize=500):
        yield batch
        print("sent", flush=True)
with embstore.connect(sys.argv[1]) as store:
    print("connected", flush=True)
    store["items@1"].append(pa.RecordBatchReader.from_batches(table.schema, batches()))
    print("done", flush=True)
"""


@pytest.mark.parametrize("after", ["connected", "1", "20", "done"])
def test_killed(store: Store, after: str) -> None:
    table = store.create_table("items")
    v = table.load(BASE[:100], ids=range(100), promote=True)
    command = [sys.executable, "-c", APPENDER, store.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as appender:
        assert appender.stdout is not None
        sent = 0
        for line in appender.stdout:
            sent += line == "sent\n"
            if line.strip() == after or str(sent) == after:
                break
        appender.kill()
        whole = after == "done"
    while True:
        with store.connection() as connection:
            busy = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            ).fetchone()
        if busy == (0,):
            break
        time.sleep(0.02)
    now = store["items@1"]
    assert now.rows == (20_100 if whole else 100)
    assert len(now.appends()) == whole and (now.checksum != v.checksum) == whole
    assert len(now.to_numpy()[0]) == now.rows
    assert now.append(rows([10_000 + 20_000 * whole], NEW[:1])).total == now.rows


def test_roles(pg: Server, database: str, store: Store) -> None:
    """A loader that owns nothing appends to what another loader made."""
    store.create_table("items").load(BASE[:50], ids=range(50), promote=True)
    with store.connection() as connection:
        connection.execute("CREATE ROLE appender LOGIN IN ROLE embstore_loader")
        connection.execute("CREATE ROLE watcher LOGIN IN ROLE embstore_reader")
    try:
        url = pg.url(database).replace("embstore@", "appender@")
        with embstore.connect(url) as loader:
            assert loader["items@1"].append(rows([100], NEW[:1])).rows == 1
            assert loader["items@1"].appends()[0].appended_by == "appender"
        with embstore.connect(url.replace("appender@", "watcher@")) as reader:
            assert reader.table("items").lookup([100], show=["origin"]).attributes["origin"] == [
                "given"
            ]
            with pytest.raises(embstore.DatabaseFailed, match="embstore_loader"):
                reader["items@1"].append(rows([101], NEW[:1]))
    finally:
        with store.connection() as connection:
            connection.execute("DROP ROLE appender, watcher")


def test_command(store: Store, cli: Command, tmp_path: Path) -> None:
    store.create_table("items").load(BASE[:50], ids=range(50), promote=True)
    pq.write_table(rows(range(48, 52), NEW[:4]), tmp_path / "new.parquet")
    refused = cli("append", "items", tmp_path / "new.parquet")
    assert refused.returncode == 1 and "new.parquet row 1 (id 48): items@1 has" in refused.stderr
    command = ("append", "items", tmp_path / "new.parquet", "--on-bad", "skip", "--json")
    done = json.loads(cli(*command, "-m", "today", "--origin", "fold_in").stdout)
    assert (done["rows"], done["rejected"], done["total"], done["append"]) == (2, 2, 52, 1)
    shown = json.loads(cli("show", "items", "--json").stdout)
    assert (shown["appended"], shown["rows"]) == (2, 52)
    assert [(each["rows"], each["message"]) for each in shown["appends"]] == [(2, "today")]


def test_aligned(store: Store) -> None:
    """What joins a version that was rotated is rotated too, or said to be."""
    table = store.create_table("items")
    table.load(BASE[:200], ids=range(200), promote=True)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    v = table.load(BASE[:200] @ turn, ids=range(200), align_to="live")
    with pytest.raises(InvalidQuery, match=r"items@2 was aligned to items@1 by a rotation: say"):
        v.append(NEW[:1] @ turn, ids=[300])
    v.append(NEW[:2] @ turn, ids=[300, 301], rotate=True)
    v.append(NEW[2:3], ids=[302], rotate=False)
    np.testing.assert_allclose(v.lookup([300, 301, 302]).vectors, NEW[:3], atol=1e-5)
    with pytest.raises(InvalidQuery, match="through no rotation"):
        store["items@1"].append(NEW[:1], ids=[300], rotate=True)
    done = v.coldstart(pa.table({"id": [400]}), "transform", model=_Turned(turn), X=NEW[5:6])
    assert done.rows == 1
    np.testing.assert_allclose(v.lookup([400]).vectors, NEW[5:6], atol=1e-5)


class _Turned:
    def __init__(self, turn: Any) -> None:
        self._turn = turn

    def transform(self, rows: Any) -> Any:
        return rows @ self._turn
