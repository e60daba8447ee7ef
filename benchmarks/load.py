"""Loads: against COPY by hand, the peers and gensim's reader; memory; the index build."""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import embstore
from embstore import Store
from embstore.readers import Wanted, open_source

from . import by_hand
from .measure import Report, interleaved, timed, vectors
from .peers import LOADERS


def run(store: Store, report: Report, folder: Path, rows: int, gigabytes: float) -> None:
    """Everything about loads."""
    speed(store, report, folder, rows)
    logged(report, folder, rows)
    index(store, report)
    texts(report, folder)
    for kind in ("npy", "parquet"):
        memory(report, folder, gigabytes, kind)


def _files(folder: Path, rows: int) -> tuple[NDArray[Any], NDArray[Any], dict[str, dict[str, Any]]]:
    """The same vectors in several formats; what ``load`` is told of each."""
    base, ids = vectors(rows), np.arange(rows)
    np.save(folder / "base.npy", base)
    np.save(folder / "ids.npy", ids)
    pq.write_table(arrow(ids, base), folder / "base.parquet")
    _safetensors(folder / "base.safetensors", {"id": ids, "embedding": base})
    with (folder / "base.bin").open("wb") as file:
        file.write(b"%d %d\n" % base.shape)
        for name, row in zip(words(ids), base, strict=True):
            file.write(name + b" " + row.tobytes() + b"\n")
    return (
        ids,
        base,
        {
            ".npy": {"source": folder / "base.npy", "ids": folder / "ids.npy"},
            "Parquet": {"source": folder / "base.parquet"},
            "safetensors": {"source": folder / "base.safetensors", "ids": "id"},
            "word2vec binary": {"source": folder / "base.bin"},
        },
    )


def arrow(ids: NDArray[Any], base: NDArray[Any]) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(base.ravel()), base.shape[1])
    return pa.table({"id": ids, "embedding": flat})


def words(ids: NDArray[Any]) -> NDArray[Any]:
    """Text ids of one length."""
    return np.char.zfill(ids.astype("S"), 9)


def _safetensors(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    header, at = {}, 0
    kinds = {"float32": "F32", "int64": "I64"}
    for name, array in arrays.items():
        offsets = [at, at := at + array.nbytes]
        kind = kinds[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.tobytes())


class Loads:
    """Loads into one table and drops again; keeps the seconds that its COPY took."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.table = store.create_table(name)
        self.copying: dict[str, list[float]] = {}

    def __call__(self, kind: str, **how: Any) -> Callable[[], float]:
        def load() -> float:
            start = time.perf_counter()
            version = self.table.load(index="none", **how)
            seconds = time.perf_counter() - start
            self.copying.setdefault(kind, []).append(version.source["seconds"])
            self.table.drop(version.number)
            return seconds

        return load

    def copy(self, kind: str) -> float:
        return statistics.median(self.copying[kind])


def speed(store: Store, report: Report, folder: Path, rows: int) -> None:
    """Files of each format against COPY of the same bytes, and against the peers."""
    ids, base, files = _files(folder, rows)
    names = words(ids)
    numbers, texts = Loads(store, "numbers"), Loads(store, "texts")

    def hand(keys: NDArray[Any], key: bool) -> Callable[[], float]:
        return lambda: timed(lambda: by_hand.copy(store.url, keys, base, key=key))

    loads = {kind: (texts if "word" in kind else numbers)(kind, **files[kind]) for kind in files}
    found = interleaved(
        9,
        *(hand(keys, key) for keys in (ids, names) for key in (False, True)),
        *loads.values(),
    )
    bare = {False: found[0], True: found[2]}
    keyed = {False: found[1], True: found[3]}
    lines: list[list[object]] = []
    for text, what in (False, "bigint"), (True, "text"):
        for seconds, then in (bare[text], ""), (keyed[text], ", then the primary key"):
            name = f"by hand, {what} ids: packed COPY of arrays in memory{then}"
            lines.append([name, seconds, rows / seconds, "", ""])
    for kind, seconds in zip(loads, found[4:], strict=True):
        text = "word" in kind
        copying = (texts if text else numbers).copy(kind)
        lines.append(
            [
                f"embstore, {kind}",
                seconds,
                rows / seconds,
                f"{bare[text] / copying:.2f}",
                f"{keyed[text] / seconds:.2f}",
            ]
        )
    report.table(
        f"Load of {rows:,} x 64 float32, no ANN index",
        [
            "way",
            "seconds",
            "rows/s",
            "its read, checks and COPY: speed against COPY by hand",
            "all of it: speed against COPY and key by hand",
        ],
        lines,
    )
    report.say(
        "\nAll of it: connect, read, check, COPY, prove by a sum that all arrived, primary key,"
        " statistics, sha256 of the file, publish."
    )
    _peers(store, report, ids, base, rows / found[4])
    for each in numbers, texts:
        store.drop_table(each.table.name)


def _peers(
    store: Store, report: Report, ids: NDArray[Any], base: NDArray[Any], ours: float
) -> None:
    """Rows per second into each peer, without an index where it can do without."""
    lines: list[list[object]] = [["embstore, .npy", len(ids), ours, 1.0]]
    for make, count in LOADERS:
        count = min(count, len(ids))
        peer = make(store.url)
        seconds = timed(partial(peer.load, ids[:count], base[:count]))
        peer.close()
        rate = count / seconds
        lines.append([peer.name, count, rate, ours / rate])
    report.table(
        "The same vectors into others, each by its bulk call",
        ["system", "rows", "rows/s", "embstore is so many times as fast"],
        lines,
    )


def logged(report: Report, folder: Path, rows: int) -> None:
    """A server that cannot skip the WAL: over one connection and over two."""
    home = folder / "logged"
    home.mkdir()
    (home / "postgresql.local.conf").write_text("wal_level = replica\n")
    before = os.environ["EMBSTORE_HOME"]
    os.environ["EMBSTORE_HOME"] = str(home)
    try:
        with embstore.connect() as store:
            ids, base = np.arange(rows), np.load(folder / "base.npy")
            loads = Loads(store, "loads")
            how: dict[str, Any] = {"source": folder / "base.npy", "ids": folder / "ids.npy"}

            def hand(count: int) -> Callable[[], float]:
                return lambda: timed(
                    lambda: by_hand.copy(store.url, ids, base, key=True, connections=count)
                )

            ours = [loads(str(count), **how, connections=count) for count in (1, 2)]
            found = interleaved(7, hand(1), hand(2), *ours)
            found.append(interleaved(3, loads("auto", **how))[0])
            chosen = loads.table.load(index="none", **how).source.get("connections", 1)
    finally:
        os.environ["EMBSTORE_HOME"] = before
    report.table(
        f"The same at wal_level = replica, {rows:,} rows, primary key included",
        ["way", "seconds", "rows/s", "speed against by hand"],
        [
            ["by hand, one connection", found[0], rows / found[0], ""],
            ["by hand, two connections", found[1], rows / found[1], ""],
            ["embstore, one connection", found[2], rows / found[2], f"{found[0] / found[2]:.2f}"],
            ["embstore, two connections", found[3], rows / found[3], f"{found[1] / found[3]:.2f}"],
            [f"embstore, by default ({chosen} connections)", found[4], rows / found[4], ""],
        ],
    )


def index(store: Store, report: Report, rows: int = 100_000) -> None:
    """The HNSW build against CREATE INDEX with hand-set memory and workers."""
    table, base = store.create_table("indexed"), vectors(rows)

    def ours() -> float:
        version = table.load(base, ids=range(rows))
        seconds = float(version.source["index_seconds"])
        table.drop(version.number)
        return seconds

    def hand() -> float:
        by_hand.copy(store.url, np.arange(rows), base, key=True)
        with psycopg.connect(store.url, autocommit=True) as connection:
            connection.execute("SET maintenance_work_mem = '1GB'")
            connection.execute(
                f"SET max_parallel_maintenance_workers = {max(1, (os.cpu_count() or 2) - 1)}"
            )
            connection.execute("ANALYZE by_hand")
            return timed(
                lambda: connection.execute(
                    "CREATE INDEX ON by_hand USING hnsw (embedding vector_cosine_ops)"
                )
            )

    by, own = interleaved(3, hand, ours)
    report.say(
        f"\n## Index build\n\nHNSW of {rows:,} x 64: {own:.1f} s; CREATE INDEX by hand, with memory"
        f" and workers set for it, {by:.1f} s: {by / own:.2f} of its speed."
    )
    store.drop_table("indexed")


def texts(report: Report, folder: Path, rows: int = 100_000) -> None:
    """Reading alone, without a server: text formats against gensim's reader of word2vec text."""
    from gensim.models import KeyedVectors

    numbers = [",".join(map("{:.6f}".format, row)) for row in vectors(rows).tolist()]
    with (folder / "t.txt").open("w") as file:
        file.write(f"{rows} 64\n")
        file.writelines(f"w{i} {row.replace(',', ' ')}\n" for i, row in enumerate(numbers))
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerow(["id", *(f"v{i}" for i in range(64))])
        file.writelines(f"w{i},{row}\n" for i, row in enumerate(numbers))
    with (folder / "t.jsonl").open("w") as file:
        file.writelines(f'{{"id": "w{i}", "v": [{row}]}}\n' for i, row in enumerate(numbers))

    def read(name: str) -> None:
        with open_source(folder / name, Wanted()) as opened:
            assert sum(len(batch) for batch in opened.batches) == rows

    def theirs() -> None:
        KeyedVectors.load_word2vec_format(str(folder / "t.txt"))

    kinds = {"word2vec text": "t.txt", "CSV": "t.csv", "JSON lines": "t.jsonl"}
    slow, *own = interleaved(
        3,
        lambda: timed(theirs),
        *(lambda name=name: timed(lambda: read(name)) for name in kinds.values()),
    )
    lines: list[list[object]] = [["gensim, word2vec text", slow, rows / slow, ""]]
    for kind, seconds in zip(kinds, own, strict=True):
        lines.append([f"embstore, {kind}", seconds, rows / seconds, f"{slow / seconds:.1f}"])
    report.table(
        f"Reading text, {rows:,} x 64, without a server",
        ["reader", "seconds", "rows/s", "times gensim's"],
        lines,
    )


def memory(report: Report, folder: Path, gigabytes: float, kind: str) -> None:
    """Peak memory of a client that loads a large file."""
    rows, dim = int(gigabytes * 2**30 / 512), 128
    path = folder / f"large.{kind}"
    blocks = ((at, vectors(min(65_536, rows - at), dim, at)) for at in range(0, rows, 65_536))
    how = []
    if kind == "npy":
        base = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dim))
        for at, block in blocks:
            base[at : at + len(block)] = block
        del base
        how = ["row-number"]
    else:
        writer = None
        for at, block in blocks:
            part = arrow(np.arange(at, at + len(block)), block)
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part)
        assert writer is not None
        writer.close()
    script = (
        "import embstore, sys\n"
        "with embstore.connect() as store:\n"
        "    table = store.create_table('large')\n"
        "    v = table.load(sys.argv[1], ids=(sys.argv[2:] or [None])[0], index='none')\n"
        # Not ru_maxrss, which a child inherits from its parent.
        "    peak = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0]\n"
        "    print(v.rows, int(peak.split()[1]) / 1024, v.source['rows_per_second'])\n"
        "    store.drop_table('large')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path, *how], capture_output=True, text=True, check=True
    )
    loaded, peak, rate = done.stdout.split()
    report.say(
        f"\nPeak memory of the client that loads a {path.stat().st_size / 2**30:.1f} GB .{kind}"
        f" ({int(loaded):,} x {dim}, {int(rate):,} rows/s): {float(peak):.0f} MB, the interpreter"
        " and its libraries included."
    )
    path.unlink()
