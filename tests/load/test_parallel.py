"""COPY over several connections: the same version, and as whole."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

import embstore
from embstore import Store
from embstore.load import Progress, parallel
from embstore.load.options import Options
from embstore.load.plan import plan
from embstore.readers import Wanted, open_source
from tests.fix_data import clusters
from tests.fix_store import Command, Server
from tests.load.test_kill import left, wait_until_alone


def test_same_as_over_one(store: Store) -> None:
    base = clusters(12_000, 16)
    base[7], base[11_999] = base[0], 5
    table = store.create_table("items")
    one = table.load(base, ids=range(12_000))
    three = table.load(base, ids=range(12_000), connections=3, promote=True)
    assert three.checksum == one.checksum
    assert three.source["connections"] == 3
    np.testing.assert_array_equal(three.lookup(range(12_000)).vectors, base)
    assert three.nearest(base[:20], 1).ids.ravel().tolist()[1:7] == [1, 2, 3, 4, 5, 6]
    assert left(store) == (0, 2, 2)
    with store.connection() as connection:
        indexes = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE tablename = 'items_v2' ORDER BY 1"
        ).fetchall()
    assert indexes == [("items_v2_hnsw",), ("items_v2_pkey",)]


def test_several_senders_take_part(store: Store, pg: Server) -> None:
    """Seen from beside: more than one COPY at a time, and nothing that looks like a version."""
    table = store.create_table("items")
    seen: set[int] = set()
    names: set[str] = set()

    def look(_: Progress) -> None:
        with psycopg.connect(store.url, autocommit=True) as other:
            rows = other.execute("SELECT pid FROM pg_stat_progress_copy").fetchall()
            names.update(
                each[0]
                for each in other.execute(
                    "SELECT relname FROM pg_class"
                    " WHERE relnamespace = 'emb'::regnamespace AND relkind IN ('r', 'v')"
                )
            )
        seen.update(each[0] for each in rows)

    base = clusters(100_000, 16)
    table.load(base, ids=range(100_000), index="none", connections=2, progress=look)
    assert len(seen) == 2
    assert names == {"items_v1~loading"}


@pytest.mark.parametrize("at", [0, 40_000, 99_999])
def test_bad_row(store: Store, at: int) -> None:
    base = clusters(100_000, 16)
    base[at, 3] = np.nan
    table = store.create_table("items")
    with pytest.raises(embstore.BadInput, match=rf"row {at + 1} \(id {at}\): value 4 is NaN"):
        table.load(base, ids=range(100_000), connections=3)
    assert left(store) == (0, 0, 0)


def test_repeated_id(store: Store) -> None:
    table = store.create_table("items")
    ids = [*range(49_999), 3]
    with pytest.raises(embstore.DuplicateId, match="row 4 and array row 50000: id 3"):
        table.load(clusters(50_000, 16), ids=ids, connections=2)
    assert left(store) == (0, 0, 0)


def test_one_sender_dies(store: Store) -> None:
    table = store.create_table("items")

    def cut(_: Progress) -> None:
        with psycopg.connect(store.url, autocommit=True) as admin:
            # Of this store's alone: others load beside it, in another test.
            admin.execute(
                "SELECT pg_terminate_backend(max(pid)) FROM pg_stat_progress_copy"
                " WHERE datname = current_database()"
            )

    with pytest.raises(embstore.LoadFailed, match="nothing of items@1 is visible"):
        table.load(clusters(200_000, 16), ids=range(200_000), connections=3, progress=cut)
    assert left(store) == (0, 0, 0)
    assert table.load(clusters(10, 16), ids=range(10)).number == 2


def test_source_fails(store: Store) -> None:
    kind = pa.list_(pa.float32(), 2)
    schema = pa.schema([("id", pa.int64()), ("embedding", kind)])

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"id": [1], "embedding": [[1.0, 2.0]]}, schema=schema)
        raise KeyboardInterrupt

    table = store.create_table("items")
    with pytest.raises((KeyboardInterrupt, embstore.EmbstoreError)):
        table.load(pa.RecordBatchReader.from_batches(schema, batches()), connections=2)
    assert left(store) == (0, 0, 0)
    assert not [each for each in threading.enumerate() if each.name.startswith("embstore-copy")]


LOADER = """
import sys, embstore
sys.path.insert(0, sys.argv[2])
from tests.fix_data import clusters
base = clusters(200_000, 32)
with embstore.connect(sys.argv[1]) as store:
    def report(_): print("sent", flush=True)
    store.table("items").load(
        base, ids=range(200_000), index="none", connections=3, progress=report
    )
"""


@pytest.mark.parametrize("reports", [1, 10, 20])
def test_kill(store: Store, reports: int) -> None:
    store.create_table("items")
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", LOADER, store.url, root], stdout=subprocess.PIPE, text=True
    ) as loader:
        assert loader.stdout is not None
        for _ in range(reports):
            loader.stdout.readline()
        loader.kill()
    wait_until_alone(store)
    deadline = time.monotonic() + 20
    while left(store) != (0, 0, 0) and time.monotonic() < deadline:
        with embstore.connect(store.url):  # the next command cleans up
            pass
    assert left(store) == (0, 0, 0)


def test_chosen_where_the_wal_cannot_be_skipped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create_table("items")
    with (
        store.connection() as connection,
        open_source(clusters(10, 64), Wanted(ids=range(10))) as opened,
    ):
        version, _ = plan(connection, "items", opened, Options())
        count: Any = lambda rows: parallel.connections(connection, store.engine, version, rows)  # noqa: E731
        assert count(10_000_000) == 1  # the embedded server skips it
        monkeypatch.setattr(parallel, "_SKIPS_WAL", "none")
        assert count(10) == 1
        assert 1 <= count(10_000_000) <= 4
        assert count(None) == count(10_000_000)


def test_cli(store: Store, cli: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", clusters(500, 4))
    done = cli(
        "load", "items", tmp_path / "v.npy", "--ids", "row-number", "--connections", 2, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert store["items@1"].source["connections"] == 2
    refused = cli("load", "items", tmp_path / "v.npy", "--ids", "row-number", "--connections", 0)
    assert refused.returncode == 2
    with pytest.raises(embstore.InvalidQuery, match="at least one"):
        store.table("items").load(clusters(5, 4), ids=range(5), connections=0)
