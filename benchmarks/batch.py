"""Many queries in one call, against the same queries one by one."""

from __future__ import annotations

import numpy as np

from . import by_hand
from .bench import Bench
from .measure import interleaved, timed

QUERIES = 10_000


def run(bench: Bench) -> None:
    """10,000 queries over the wire, one client."""
    data = bench.loaded(bench.rows)
    count = min(QUERIES, 10 * len(data.base))
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((count, data.base.shape[1]), dtype=np.float32)
    queries = data.base[rng.integers(0, len(data.base), count)] + 0.3 * noise
    hand = by_hand.Queries(bench.store.url, data.relation, 100)

    def one_by_one() -> None:
        for query in queries:
            data.version.nearest(query, 10)

    def by() -> None:
        for query in queries:
            hand.nearest(query)

    seconds = interleaved(
        2,
        lambda: timed(by),
        lambda: timed(one_by_one),
        lambda: timed(lambda: data.version.nearest(queries, 10)),
    )
    hand.connection.close()
    names = "psycopg by hand, one by one", "embstore, one by one", "embstore, one call"
    bench.report.table(
        f"{count:,} queries on {len(data.base):,} x 64",
        ["way", "seconds", "queries/s"],
        [[name, took, count / took] for name, took in zip(names, seconds, strict=True)],
    )
    bench.report.goal(
        "batch of 10,000 queries, times as fast as one by one",
        seconds[1] / seconds[2],
        1.3,
        at_least=True,
    )
