"""The point-in-time join of a training set, beside pandas merge_asof and a gather in memory."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from .bench import Bench
from .measure import Array, interleaved, timed, vectors

ROWS, VERSIONS = 1_000_000, 5


def run(bench: Bench) -> None:
    """1M rows over five versions of ``rows`` x 64."""
    store, ids = bench.store, bench.rows
    table = store.create_table("lived")
    every = [vectors(ids, seed=seed) for seed in range(VERSIONS)]
    for base in every:
        table.load(base, ids=range(ids), index="none", promote=True)
    moments = [move.moved_at for move in table.history()]
    span = (moments[-1] - moments[0] + timedelta(seconds=1)) // timedelta(microseconds=1)
    rng = np.random.default_rng(0)
    offsets = np.sort(rng.integers(0, span, ROWS)).astype("timedelta64[us]")
    frame = pd.DataFrame(
        {"item_id": rng.integers(0, ids, ROWS), "ts": pd.Timestamp(moments[0]) + offsets}
    )
    promotes = pd.DataFrame({"ts": pd.to_datetime(moments), "version": range(1, VERSIONS + 1)})

    def by_hand() -> Array:
        versions = pd.merge_asof(frame, promotes, on="ts")["version"].to_numpy()
        out = np.empty((ROWS, every[0].shape[1]), np.float32)
        rows = frame["item_id"].to_numpy()  # ids are row numbers here: no lookup is needed
        for version in np.unique(versions):
            own = versions == version
            out[own] = every[version - 1][rows[own]]
        return out

    def ours(*, replicas: bool = False) -> Array:
        return store.features_as_of(
            frame,
            {"item_id": "lived"},
            "ts",
            replicas=replicas,
            cache_dir=bench.folder / "replicas",
        ).vectors

    for each in (ours(), ours(replicas=True)):
        np.testing.assert_array_equal(each, by_hand())
    seconds = interleaved(
        3,
        lambda: timed(by_hand),
        lambda: timed(ours),
        lambda: timed(lambda: ours(replicas=True)),
    )
    names = (
        "pandas merge_asof, then a gather from matrices in memory",
        "embstore",
        "embstore, replicas that are there",
    )
    bench.report.table(
        f"Point-in-time join: {ROWS:,} rows over {VERSIONS} versions of {ids:,} x 64",
        ["way", "seconds", "rows/s"],
        [[name, took, ROWS / took] for name, took in zip(names, seconds, strict=True)],
    )
