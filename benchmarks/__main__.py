"""``make bench``: measure, print, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

import embstore
from embstore import Store

from . import by_hand
from .measure import (
    Report,
    interleaved,
    machine,
    medians,
    recall,
    timed,
    true_neighbours,
    vectors,
)
from .peers import PEERS

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def load(store: Store, report: Report, folder: Path, rows: int) -> None:
    """Load of an array, end to end, without ANN index."""
    base, ids = vectors(rows), np.arange(rows)
    np.save(folder / "base.npy", base)
    np.save(folder / "ids.npy", ids)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(base.ravel()), base.shape[1])
    pq.write_table(pa.table({"id": ids, "embedding": flat}), folder / "base.parquet")
    table = store.create_table("loads")

    def ours(source: Path, **how: object) -> float:
        start = time.perf_counter()
        version = table.load(source, index="none", **how)  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
        table.drop(version.number)
        return seconds

    bare, keyed, npy, parquet = interleaved(
        7,
        lambda: timed(lambda: by_hand.copy(store.url, ids, base, key=False)),
        lambda: timed(lambda: by_hand.copy(store.url, ids, base, key=True)),
        lambda: ours(folder / "base.npy", ids=folder / "ids.npy"),
        lambda: ours(folder / "base.parquet"),
    )
    lines: list[list[object]] = [
        ["by hand: packed COPY of arrays in memory", bare, rows / bare, bare / bare],
        ["by hand: the same, then the primary key", keyed, rows / keyed, bare / keyed],
        ["embstore, .npy (checks, COPY, proof, key, statistics)", npy, rows / npy, bare / npy],
        ["embstore, Parquet (the same)", parquet, rows / parquet, bare / parquet],
    ]
    report.table(
        f"Load of {rows:,} x 64 float32, no ANN index",
        ["way", "seconds", "rows/s", "speed against the first"],
        lines,
    )
    report.say(
        f"\nAgainst COPY and key by hand, which leave the same table: .npy {keyed / npy:.2f},"
        f" Parquet {keyed / parquet:.2f}."
    )
    store.drop_table("loads")


def memory(report: Report, folder: Path, gigabytes: float) -> None:
    """Peak memory of a client that loads a large file."""
    rows, dim = int(gigabytes * 2**30 / 512), 128
    base = np.lib.format.open_memmap(folder / "large.npy", "w+", np.float32, (rows, dim))
    for at in range(0, rows, 65_536):
        base[at : at + 65_536] = vectors(min(65_536, rows - at), dim, at)
    del base
    np.save(folder / "large_ids.npy", np.arange(rows))
    script = (
        "import embstore, sys\n"
        "with embstore.connect() as store:\n"
        "    table = store.create_table('large')\n"
        "    v = table.load(sys.argv[1], ids=sys.argv[2], index='none')\n"
        # Not ru_maxrss, which a child inherits from its parent.
        "    peak = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0]\n"
        "    print(v.rows, int(peak.split()[1]) / 1024)\n"
        "    store.drop_table('large')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, folder / "large.npy", folder / "large_ids.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, peak = done.stdout.split()
    report.say(
        f"\nPeak memory of the client that loads a {gigabytes:g} GB .npy ({int(loaded):,} x {dim}):"
        f" {float(peak):.0f} MB, the interpreter and its libraries included."
    )
    (folder / "large.npy").unlink()


def reads(store: Store, report: Report, rows: int, peers: bool) -> None:
    """nearest and lookup over the wire, one client."""
    base, ids = vectors(rows), np.arange(rows)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((1000, base.shape[1]), dtype=np.float32)
    queries = base[rng.integers(0, rows, 1000)] + 0.3 * noise
    asked = [rng.choice(rows, 1000, replace=False).tolist() for _ in range(50)]
    true = true_neighbours(queries[:200], base, 10)

    table = store.create_table("items")
    build = timed(lambda: table.load(base, ids=ids, promote=True))
    version = store["items@1"]
    hand = by_hand.Queries(store.url, "emb.items_v1", 100)

    def rate(found: Any) -> float:
        return recall([found(query) for query in queries[:200]], true)

    ours = rate(lambda query: version.nearest(query, 10).ids[0])
    by = rate(lambda query: [row[0] for row in hand.nearest(query)])
    near = medians(
        3000,
        lambda i: hand.nearest(queries[i % 1000]),
        lambda i: version.nearest(queries[i % 1000], 10),
        lambda i: table.nearest(queries[i % 1000], 10),
    )
    same = medians(
        3000,
        lambda i: hand.similar(i * 7),
        lambda i: version.similar([i * 7], 10),
        lambda i: table.similar([i * 7], 10),
    )
    look = medians(
        200,
        lambda i: hand.rows(asked[i % 50]),
        lambda i: hand.lookup(asked[i % 50]),
        lambda i: version.lookup(asked[i % 50]),
        lambda i: table.lookup(asked[i % 50]),
    )
    lines: list[list[object]] = [
        ["psycopg by hand (prepared, binary)", near[0], same[0], look[1], by, ""],
        ["embstore, a version", near[1], same[1], look[2], ours, build],
        ["embstore, what is live", near[2], same[2], look[3], "", ""],
    ]
    if peers:
        for make in PEERS:
            lines.append(_peer(make(store.url), ids, base, queries, true, asked))
    report.table(
        f"{rows:,} x 64, cosine, 10 neighbours, one client; median milliseconds",
        [
            "system",
            "nearest",
            "nearest by id",
            "lookup of 1000 ids",
            "recall@10",
            "load and index, s",
        ],
        lines,
    )
    report.say(
        f"\nRatios: nearest {near[1] / near[0]:.2f} (version) and {near[2] / near[0]:.2f} (live) of"
        f" by hand, by id {same[1] / same[0]:.2f} and {same[2] / same[0]:.2f}; lookup"
        f" {look[1] / look[2]:.2f} times as fast as by hand with rows put in order, and"
        f" {look[0] / look[2]:.2f} times as fast as the bare fetchall ({look[0]:.3g} ms)."
    )
    hand.connection.close()


def _peer(
    peer: Any, ids: Any, base: Any, queries: Any, true: Any, asked: list[list[int]]
) -> list[object]:
    seconds = timed(lambda: peer.load(ids, base)) + timed(peer.index)
    rate = recall([peer.nearest(query) for query in queries[:200]], true)
    (near,) = medians(200, lambda i: peer.nearest(queries[i]))
    (look,) = medians(20, lambda i: peer.lookup(asked[i % 50]))
    peer.close()
    return [peer.name, near, "", look, rate, seconds]


def promote(store: Store, report: Report) -> None:
    """Promote between two versions of different dims while eight readers query."""
    table = store.create_table("moves")
    for dim in (32, 64):
        table.load(vectors(30_000, dim), ids=range(30_000), promote=True)
    over, answered = threading.Event(), [0] * 8

    def read(place: int) -> None:
        with psycopg.connect(store.url, autocommit=True, prepare_threshold=0) as connection:
            while not over.is_set():
                rows = connection.execute(
                    "SELECT id, version FROM emb.moves ORDER BY embedding <=>"
                    " (SELECT embedding FROM emb.moves WHERE id = 7) LIMIT 10"
                ).fetchall()
                assert len(rows) == 10 and len({version for _, version in rows}) == 1
                answered[place] += 1

    threads = [threading.Thread(target=read, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    (median,) = medians(200, lambda i: store.promote(f"moves@{1 + i % 2}"))
    over.set()
    for thread in threads:
        thread.join()
    report.say(
        f"\n## Promote\n\nMedian {median:.1f} ms over 200 promotes between 32 and 64 dims, beside"
        f" eight readers that asked {sum(answered):,} queries: none failed, came back short or saw"
        " two versions."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="of the load")
    parser.add_argument("--read-rows", type=int, default=100_000)
    parser.add_argument("--gigabytes", type=float, default=2, help="of the large .npy")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/benchmarks.md alone")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="embstore-bench-"))
    folder.chmod(0o711)
    os.environ["EMBSTORE_HOME"] = str(folder / "home")
    os.environ.pop("EMBSTORE_URL", None)
    report = Report()
    report.say("# Benchmarks\n")
    try:
        with embstore.connect() as store:
            engine = store.engine
            report.say(
                f"Measured on {date.today()} by `make bench`: {machine()}, the embedded Postgres"
                f" {engine.server} with pgvector {engine.pgvector}. One run; medians; what is"
                " compared runs in turns."
            )
            # Reads first: gigabytes that are still being written would slow whoever asks.
            reads(store, report, given.read_rows, not given.no_peers)
            promote(store, report)
            load(store, report, folder, given.rows)
            memory(report, folder, given.gigabytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not given.no_docs:
        DOCS.write_text("\n".join(report.lines) + "\n", encoding="utf-8")


main()
