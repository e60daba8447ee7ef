"""kill -9 of a loader, at many moments: no half version is ever seen, and nothing is left."""

import random
import subprocess
import sys
import time

import psycopg
import pytest

import embstore
from embstore import Store
from tests.fix_data import clusters

LOADER = """
import sys, numpy as np, pyarrow as pa, time, embstore
vectors = np.random.default_rng(0).standard_normal((12000, 32), dtype="f4")
flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 32)
table = pa.table({"id": range(12000), "embedding": flat})
slow = sys.argv[2] == "slow"
def batches():
    for batch in table.to_batches(max_chunksize=1000):
        yield batch
        print("sent", flush=True)
        time.sleep(0.2 if slow else 0)
with embstore.connect(sys.argv[1]) as store:
    print("connected", flush=True)
    reader = pa.RecordBatchReader.from_batches(table.schema, batches())
    store.table("items").load(reader, promote=True)
    print("done", flush=True)
"""


def start(url: str, speed: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LOADER, url, speed], stdout=subprocess.PIPE, text=True
    )


def left(store: Store) -> tuple[int, ...]:
    """Catalog rows that are not ready, and relations of versions."""
    with store.connection() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM embstore.versions WHERE status <> 'ready'),"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = 'emb'::regnamespace"
            "  AND relkind = 'r'),"
            " (SELECT count(*) FROM embstore.versions WHERE status = 'ready')"
        ).fetchone()
    assert row is not None
    return row


def wait_until_alone(store: Store) -> None:
    """Until the server has noticed that the killed client is gone."""
    for _ in range(400):
        with store.connection() as connection:
            busy = connection.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchone()
        if busy == (0,):
            return
        time.sleep(0.05)
    raise AssertionError("the killed loader's session lives on")


def test_kill_in_the_middle_of_copy(store: Store) -> None:
    table = store.create_table("items")
    table.load(clusters(100, 32), ids=range(100), promote=True)
    with start(store.url, "slow") as loader:
        assert loader.stdout is not None
        while loader.stdout.readline().strip() != "sent":
            pass
        with store.connection() as connection:
            row = connection.execute("SELECT status FROM embstore.versions WHERE version = 2")
            assert row.fetchone() == ("loading",)
        # Alive, it is nobody's leftover.
        assert store.sweep() == []
        loader.kill()
    wait_until_alone(store)
    with pytest.raises(embstore.NotFound, match="items@2 is still loading"):
        store["items@2"]
    assert table.nearest(clusters(1, 32), 5).version == 1
    with embstore.connect(store.url):  # the next command cleans up
        pass
    assert left(store) == (0, 1, 1)
    assert table.load(clusters(100, 32), ids=range(100)).number == 3


def test_kill_at_random_moments(store: Store) -> None:
    table = store.create_table("items")
    table.load(clusters(100, 32), ids=range(100), promote=True)
    began = time.monotonic()
    with start(store.url, "fast") as loader:
        assert loader.wait() == 0
    whole = time.monotonic() - began
    ready = 2
    rng = random.Random(0)
    killed = 0
    for _ in range(6):
        with start(store.url, "fast") as loader:
            assert loader.stdout is not None
            assert loader.stdout.readline().strip() == "connected"
            time.sleep(rng.uniform(0, 0.5 * whole))
            loader.kill()
            done = "done" in loader.stdout.read()
        wait_until_alone(store)
        with embstore.connect(store.url):
            pass
        unready, relations, versions = left(store)
        assert unready == 0
        assert relations == versions
        # What was acknowledged is there; what was not is there whole or not at all.
        assert versions - ready in ({1} if done else {0, 1})
        killed += versions == ready
        ready = versions
        live = table.live
        assert live.rows in {100, 12_000}
        with store.connection() as connection:
            assert connection.execute("SELECT count(*) FROM emb.items").fetchone() == (live.rows,)
    assert killed > 0


def test_lost_connection_says_so(store: Store) -> None:
    table = store.create_table("items")

    def cut(_: object) -> None:
        with psycopg.connect(store.url, autocommit=True) as admin:
            admin.execute(
                # Of this store's alone: others load beside it, in another test.
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )

    with pytest.raises(
        embstore.LoadFailed, match="nothing of items@1 is visible, run the load again"
    ):
        table.load(clusters(100_000, 16), ids=range(100_000), progress=cut)
    assert left(store) == (0, 0, 0)
    assert table.load(clusters(10, 16), ids=range(10)).number == 2
