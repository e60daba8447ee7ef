"""Promote under readers: no query fails, comes back short, or sees two versions."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

import embstore
from embstore import Store
from embstore.release import live
from tests.fix_data import clusters

ROWS = 2000


def stamped(dim: int, stamp: int) -> pa.Table:
    """Vectors beside which each row says which version it is of."""
    vectors = clusters(ROWS, dim, seed=stamp)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    return pa.table({"id": range(ROWS), "stamp": [stamp] * ROWS, "embedding": flat})


NEAR = (
    "SELECT id, stamp, version FROM emb.items"
    " ORDER BY embedding <=> (SELECT embedding FROM emb.items WHERE id = 7) LIMIT 10"
)


def check(rows: list[Any], count: int = 10) -> int:
    assert len(rows) == count, rows
    stamps = {(row[-2], row[-1]) for row in rows}
    assert len(stamps) == 1, stamps
    ((stamp, version),) = stamps
    assert stamp == version
    return int(version)


def test_promote_under_eight_readers(store: Store) -> None:
    table = store.create_table("items")
    for version, dim in enumerate((16, 24, 16), 1):
        table.load(stamped(dim, version), promote=True)
    over = threading.Event()
    failures: list[BaseException] = []
    answered = [0] * 9

    def plain(connection: Any) -> None:
        check(connection.execute(NEAR).fetchall())

    def in_one_snapshot(connection: Any) -> None:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            seen = set()
            for _ in range(5):
                seen.add(check(connection.execute(NEAR).fetchall()))
                count, *_ = connection.execute("SELECT count(*) FROM emb.items").fetchone()
                assert count == ROWS
                time.sleep(0.002)
            assert len(seen) == 1

    def join(connection: Any) -> None:
        rows = connection.execute(
            "SELECT i.id, i.stamp, i.version FROM unnest(%s::bigint[]) a (id) JOIN emb.items i"
            " USING (id)",
            (list(range(50)),),
        ).fetchall()
        check(rows, 50)

    def function(connection: Any) -> None:
        rows = connection.execute("SELECT id FROM embstore.similar('items', '7', 10)").fetchall()
        assert len(rows) == 10

    def client(connection: Any) -> None:
        found = table.similar([7], 10, show=["stamp"])
        assert found.ids.shape == (1, 10)
        assert set(found.attributes["stamp"].ravel()) == {found.version}
        features = table.lookup(range(100), show=["stamp"])
        assert features.found.all()
        assert set(features.attributes["stamp"]) == {features.version}
        batch = table.similar(range(3), 5, show=["stamp"])
        assert set(batch.attributes["stamp"].ravel()) == {batch.version}

    def run(place: int, read: Callable[[Any], None]) -> None:
        try:
            with psycopg.connect(store.url, autocommit=True, prepare_threshold=0) as connection:
                while not over.is_set():
                    read(connection)
                    answered[place] += 1
        except BaseException as error:
            failures.append(error)

    readers = [plain, plain, in_one_snapshot, in_one_snapshot, join, function, client, client]
    threads = [threading.Thread(target=run, args=each) for each in enumerate(readers)]
    with psycopg.connect(store.url) as idle:
        idle.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        before = check(idle.execute(NEAR).fetchall())  # and sits in its transaction from here on
        for thread in threads:
            thread.start()
        end = time.monotonic() + 6
        moves = 0
        while time.monotonic() < end and not failures:
            store.promote(f"items@{1 + moves % 3}")
            moves += 1
            if moves % 5 == 0:
                table.rollback()
            time.sleep(0.005)
        assert check(idle.execute(NEAR).fetchall()) == before
    over.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert moves > 50
    assert min(answered[:8]) > 10


def test_the_live_branch_alone_runs_and_uses_its_index(store: Store) -> None:
    table = store.create_table("items")
    for seed in range(3):
        table.load(clusters(5000, 16, seed), ids=range(5000), index="hnsw", promote=True)
    with store.connection() as connection:
        plan = "\n".join(
            row[0]
            for row in connection.execute(
                "EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT id FROM emb.items ORDER BY"
                " embedding <=> (SELECT embedding FROM emb.items WHERE id = 7) LIMIT 10"
            )
        )
    assert "Index Scan using items_v3_hnsw" in plan
    for other in ("items_v1_hnsw", "items_v2_hnsw"):
        line = next(each for each in plan.splitlines() if other in each)
        assert "never executed" in line


def test_promote_waits_for_nobody(store: Store) -> None:
    table = store.create_table("items")
    for seed in range(2):
        table.load(clusters(50, 4, seed), ids=range(50), promote=True)
    with psycopg.connect(store.url) as idle:
        idle.execute("SELECT * FROM emb.items LIMIT 1")
        began = time.monotonic()
        store.promote("items@1")
        with psycopg.connect(store.url, autocommit=True) as other:
            other.execute("SET statement_timeout = '1s'")
            assert other.execute("SELECT count(*) FROM emb.items").fetchone() == (50,)
        # Far below any lock timeout: the move took no lock that a reader holds.
        assert time.monotonic() - began < 2


def test_publishing_waits_for_an_idle_reader_and_says_who(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = store.create_table("items")
    table.load(clusters(50, 4), ids=range(50), promote=True)
    notes = []
    with psycopg.connect(store.url) as idle:
        idle.execute("SELECT * FROM emb.items LIMIT 1")
        pid = idle.info.backend_pid

        def progress(seen: Any) -> None:
            if seen.phase == "publish":
                notes.append(seen.note)
                idle.rollback()  # only now does the reader go

        version = table.load(clusters(50, 4), ids=range(50), progress=progress)
    assert version.number == 2
    assert f"pid {pid}" in notes[0]

    monkeypatch.setattr(
        live.with_short_locks,
        "__kwdefaults__",
        {
            "give_up_s": 0.2,
            "waiting": lambda _: None,
        },
    )
    with psycopg.connect(store.url) as idle:
        idle.execute("SELECT * FROM emb.items LIMIT 1")
        with pytest.raises(embstore.DatabaseFailed, match=f"pid {idle.info.backend_pid}"):
            table.load(clusters(50, 4), ids=range(50))
    assert [each.number for each in table.versions()] == [1, 2]


def test_two_promotes_at_once_both_count(store: Store) -> None:
    table = store.create_table("items")
    for seed in range(4):
        table.load(clusters(20, 4, seed), ids=range(20))
    gate = threading.Barrier(4)

    def promote(version: int) -> None:
        gate.wait()
        for _ in range(10):
            store.promote(f"items@{version}")

    threads = [threading.Thread(target=promote, args=(each,)) for each in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moves = table.history()
    # One order: each move begins where the one before ended.
    assert [move.previous for move in moves[1:]] == [move.version for move in moves[:-1]]
    assert table.live.number == moves[-1].version


def test_two_loads_at_once_are_two_versions(store: Store) -> None:
    table = store.create_table("items")
    numbers: list[int] = []

    def load(seed: int) -> None:
        numbers.append(table.load(clusters(3000, 8, seed), ids=range(3000)).number)

    threads = [threading.Thread(target=load, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4]
    assert all(version.rows == 3000 for version in table.versions())
    assert len({version.checksum for version in table.versions()}) == 4


def test_same_prepared_statement_across_dims(store: Store) -> None:
    table = store.create_table("items")
    for version, dim in enumerate((8, 64), 1):
        table.load(stamped(dim, version), promote=True)
    with psycopg.connect(store.url, autocommit=True, prepare_threshold=0) as connection:
        for turn in range(20):
            store.promote(f"items@{1 + turn % 2}")
            assert check(connection.execute(NEAR).fetchall()) == 1 + turn % 2
    for turn in range(20):
        store.promote(f"items@{1 + turn % 2}")
        assert table.lookup([3]).vectors.shape == (1, (8, 64)[turn % 2])
        assert np.isfinite(table.similar([3]).distances).all()
