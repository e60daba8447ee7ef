"""Promote between two versions of different dims while eight readers query."""

from __future__ import annotations

import threading

import psycopg

from .bench import Bench
from .measure import medians, vectors


def run(bench: Bench) -> None:
    """How long a promote takes, and whether any reader notices."""
    store = bench.store
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
    bench.report.say(
        f"\n## Promote\n\nMedian {median:.1f} ms over 200 promotes between 32 and 64 dims, beside"
        f" eight readers that asked {sum(answered):,} queries: none failed, came back short or saw"
        " two versions."
    )
