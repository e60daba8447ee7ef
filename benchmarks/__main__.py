"""``make bench``: measure, print, and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

import embstore
from embstore import Store

from . import by_hand, load
from .measure import (
    Report,
    machine,
    medians,
    recall,
    timed,
    true_neighbours,
    vectors,
)
from .peers import PEERS

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"


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
    parser.add_argument("--gigabytes", type=float, default=4, help="of the large files")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--only", choices=["reads", "load"], help="leaves the document alone")
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
            if given.only != "load":
                reads(store, report, given.read_rows, not given.no_peers)
                promote(store, report)
            if given.only != "reads":
                load.run(store, report, folder, given.rows, given.gigabytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not given.only:
        DOCS.write_text("\n".join(report.lines) + "\n", encoding="utf-8")


main()
