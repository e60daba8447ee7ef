"""A replica catches up with an append by the rows that were added."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import embstore
from embstore import Store
from embstore.query import stream
from embstore.replica import approximate
from embstore.replica.write import write
from tests.fix_data import clusters
from tests.fix_store import Command

VECTORS = clusters(6000, 8)


def rows(ids: Any, vectors: Any, **columns: Any) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(vectors).ravel()), 8)
    return pa.table({"id": ids, **columns, "embedding": flat})


@pytest.fixture
def travelled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows came from the server, each time that some did."""
    counts: list[int] = []

    def counting(
        connection: Any, version: Any, since: datetime | None = None
    ) -> Iterator[Callable[[], stream.Block]]:
        counts.append(0)
        for piece in stream.pieces(connection, version, since):
            block = piece()
            counts[-1] += len(block.ids)
            yield lambda block=block: block  # type: ignore[misc]

    monkeypatch.setattr("embstore.replica.pieces", counting)
    return counts


def test_only_what_was_added_travels(
    store: Store, tmp_path: Path, travelled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"id{i}" for i in range(6000)]
    table = store.create_table("items")
    source = rows(ids[:5000], VECTORS[:5000], year=range(5000), tags=[["a", "ü"], None] * 2500)
    v = table.load(source, promote=True)
    first = v.replica(tmp_path)
    v.append(rows(ids[5000:5400], VECTORS[5000:5400], year=[2020] * 400), origin="fold_in")
    v.append(rows(ids[5400:5500], VECTORS[5400:5500]))
    monkeypatch.setattr(approximate, "_BATCH", 8 * 1000)  # a thousand rows at a time
    added: list[int] = []
    whole = approximate.build

    def building(given: Any, path: Path, report: Any, grown: Path | None = None) -> Any:
        def told(done: int) -> None:
            added.append(done)
            report(done)

        return whole(given, path, told, grown)

    monkeypatch.setattr(approximate, "build", building)
    second = v.replica(tmp_path)
    v.append(rows(ids[5500:], VECTORS[5500:]))
    third = store["items@1"].replica(tmp_path)
    assert travelled == [5000, 500, 500] and added == [5500, 6000]
    assert third.index == "hnsw" and len(list(tmp_path.glob("items@1-*"))) == 3
    third.verify()
    # It is what a new one is.
    fresh = v.replica(tmp_path / "fresh")
    assert travelled[-1] == 6000
    for name in ("vectors.npy", "norms.npy", "ids.arrow", "rows.npy", "manifest.json"):
        same = (third.path / name).read_bytes() == (fresh.path / name).read_bytes()
        assert same == (name != "manifest.json")  # which holds the graph's checksum
    how: dict[str, Any] = {"show": ["year", "tags", "origin", "appended_at"]}
    for a, b in (
        (third.lookup(ids, **how), v.lookup(ids, **how)),
        (
            third.nearest(VECTORS[::50], exact=True, where={"origin": "fold_in"}, **how),
            fresh.nearest(VECTORS[::50], exact=True, where={"origin": "fold_in"}, **how),
        ),
    ):
        assert list(a.ids) == list(b.ids) if isinstance(a.ids, list) else (a.ids == b.ids).all()
        for name in how["show"]:
            assert a.attributes[name].tolist() == b.attributes[name].tolist()
    queries = VECTORS[4900::10]
    found, true = third.nearest(queries), third.nearest(queries, exact=True)
    hits = [len(set(a) & set(b)) for a, b in zip(found.ids, true.ids, strict=True)]
    assert sum(hits) >= 0.99 * true.ids.size
    # Those that were there go on.
    assert (first.rows, second.rows) == (5000, 5500)
    assert not first.lookup([ids[5200]], "zero").found.any()


def test_what_does_not_fit_is_fetched_whole(
    store: Store, tmp_path: Path, travelled: list[int]
) -> None:
    table = store.create_table("items", metric="l2")
    v = table.load(rows(range(1000), VECTORS[:1000], year=range(1000)))
    old = v.replica(tmp_path).path
    v.append(rows(range(1000, 1100), VECTORS[1000:1100]))
    for name in ("vectors.npy", "attributes.arrow"):
        held = (old / name).read_bytes()
        (old / name).write_bytes(held[:-100] + bytes([held[-100] ^ 1]) + held[-99:])
        new = v.replica(tmp_path)
        new.verify()
        assert new.rows == 1100 and travelled[-1] == 1100
        for each in new.path.iterdir():
            each.unlink()
        new.path.rmdir()
        (old / name).write_bytes(held)
    assert v.replica(tmp_path).rows == 1100 and travelled[-1] == 100


def test_rows_join_while_it_is_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v = store.create_table("items").load(rows(range(1000), VECTORS[:1000]))
    writes: list[int] = []

    def late(*given: Any) -> None:
        if not writes:
            store["items@1"].append(rows(range(1000, 1010), VECTORS[1000:1010]))
        writes.append(given[2].rows)
        write(*given)

    monkeypatch.setattr("embstore.replica.write", late)
    assert v.replica(tmp_path).rows == 1010 and writes == [1000, 1010]
    assert [each.name for each in tmp_path.glob("items@1-*")] == [v.replica(tmp_path).path.name]


def test_a_follower_catches_up(
    store: Store, tmp_path: Path, travelled: list[int], cli: Command
) -> None:
    v = store.create_table("items").load(rows(range(1000), VECTORS[:1000]), promote=True)
    with embstore.follow("items", tmp_path, store=store, every=60, index="none") as items:
        held = items.replica
        for number in range(3):
            at = 1000 + 10 * number
            v.append(rows(range(at, at + 10), VECTORS[at : at + 10]))
            assert items.refresh() and items.lookup([at]).vectors.tobytes() == (
                VECTORS[at].tobytes()
            )
        assert travelled == [1000, 10, 10, 10]
        assert len(list(tmp_path.glob("items@1-*"))) == 2  # as of versions, the newest two
        assert held.lookup([5]).vectors.tobytes() == VECTORS[5].tobytes()
        assert not items.refresh()
