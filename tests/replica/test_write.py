"""A replica is whole, the old one, or not there at all."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import embstore
from embstore import EmbstoreError, LoadFailed, NotFound, ReplicaDamaged, Store, open_replica
from tests.fix_data import clusters
from tests.fix_store import Server

_KILLED = """
import os, signal, sys, embstore
def progress(seen):
    if seen.phase == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
with embstore.connect(sys.argv[1]) as store:
    store["items@1"].replica(sys.argv[2], progress=progress)
"""


@pytest.fixture
def version(store: Store) -> embstore.Version:
    ids = [f"id{i}" for i in range(3000)]
    beside = pa.table({"id": ids, "year": range(3000)})
    return store.create_table("items").load(clusters(3000, 8), ids=ids, attributes=beside)


@pytest.mark.parametrize("phase", ["rows", "index"])
def test_killed_while_it_is_written(
    pg: Server, database: str, version: embstore.Version, tmp_path: Path, phase: str
) -> None:
    command = [sys.executable, "-c", _KILLED, pg.url(database), str(tmp_path), phase]
    assert subprocess.run(command, check=False).returncode == -9
    assert list(tmp_path.glob(".*.partial"))
    with pytest.raises(NotFound, match="holds no replica"):
        open_replica(tmp_path)
    replica = version.replica(tmp_path)
    replica.verify()
    assert not list(tmp_path.glob(".*.partial"))
    np.testing.assert_array_equal(replica.lookup(["id7"]).vectors, clusters(3000, 8)[7:8])


def test_killed_while_an_index_is_added(
    pg: Server, database: str, version: embstore.Version, tmp_path: Path
) -> None:
    before = version.replica(tmp_path, index="none")
    command = [sys.executable, "-c", _KILLED, pg.url(database), str(tmp_path), "index"]
    assert subprocess.run(command, check=False).returncode == -9
    left = open_replica(before.path)
    left.verify()
    assert left.index == "none"
    assert version.replica(tmp_path).index == "hnsw"


def test_many_ask_for_it_and_one_writes(version: embstore.Version, tmp_path: Path) -> None:
    seen: list[Any] = []
    made = []

    def ask() -> None:
        made.append(version.replica(tmp_path, progress=seen.append))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({each.path for each in made}) == 1 and len(made) == 4
    assert [each.done for each in seen if each.phase == "rows"][-1] == 3000
    assert sum(each.done == 0 for each in seen if each.phase == "index") == 0
    assert sum(each.done == 3000 for each in seen if each.phase == "index") == 1


FILES = ["vectors.npy", "norms.npy", "ids.arrow", "rows.npy", "attributes.arrow", "graph.faiss"]


def test_these_are_its_files(version: embstore.Version, tmp_path: Path) -> None:
    folder = version.replica(tmp_path).path
    assert sorted(each.name for each in folder.iterdir()) == sorted([*FILES, "manifest.json"])


@pytest.mark.parametrize("how", ["removed", "cut", "longer", "flipped"])
def test_each_file_damaged(version: embstore.Version, tmp_path: Path, how: str) -> None:
    folder = version.replica(tmp_path).path
    for name in [*FILES, "manifest.json"]:
        path = folder / name
        whole = path.read_bytes()
        middle = len(whole) // 2
        if how == "removed":
            path.unlink()
        elif how == "cut":
            path.write_bytes(whole[:middle])
        elif how == "longer":
            path.write_bytes(whole + b" x")
        else:
            path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises((ReplicaDamaged, NotFound), match=name) as caught:
            found = open_replica(folder)
            found.verify()
        assert "\n" not in str(caught.value)
        path.write_bytes(whole)
    open_replica(folder).verify()


@pytest.mark.parametrize("name", ["vectors.npy", "norms.npy", "rows.npy", "graph.faiss"])
def test_a_header_of_nonsense(version: embstore.Version, tmp_path: Path, name: str) -> None:
    path = version.replica(tmp_path).path / name
    whole = path.read_bytes()
    path.write_bytes(b"\0" * 64 + whole[64:])
    with pytest.raises(ReplicaDamaged, match=name):
        open_replica(path.parent)


def test_another_format_is_named(version: embstore.Version, tmp_path: Path) -> None:
    from embstore.replica import manifest

    path = version.replica(tmp_path).path / manifest.NAME
    content = json.loads(path.read_bytes())
    del content["sha256"]
    content["format"] = 99
    path.write_text(json.dumps({"sha256": manifest._digest(content), **content}))
    with pytest.raises(ReplicaDamaged, match="format 99"):
        open_replica(path.parent)


def test_rows_that_the_catalog_does_not_know(
    store: Store, version: embstore.Version, tmp_path: Path
) -> None:
    with store.connection() as connection:
        connection.execute("UPDATE emb.items_v1 SET id = 'other' WHERE id = 'id7'")
    with pytest.raises(LoadFailed, match="was its table altered"):
        version.replica(tmp_path)
    assert not [each for each in tmp_path.iterdir() if not each.name.endswith(".lock")]


def test_a_folder_that_cannot_be(version: embstore.Version, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbstoreError, match="cache cannot be written"):
        version.replica(tmp_path / "file" / "cache")
    with pytest.raises(NotFound, match="holds no replica"):
        open_replica(tmp_path / "nowhere")
