"""Versions measured by what was held out, beside implicit's evaluation in memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .bench import Bench
from .measure import Array, vectors

USERS, SEEN, HELD_OUT = 20_000, 20, 5
_STORE = (
    "import sys, time, embstore\n"
    "url, folder = sys.argv[1:]\n"
    "with embstore.connect(url) as store:\n"
    "    start = time.perf_counter()\n"
    "    found = store.evaluate('ranked_items@1', folder + '/test.parquet', write=False,\n"
    "        users='ranked_users@1', history=folder + '/seen.parquet', cache_dir=folder%s)\n"
    "    print(found.results[0].measures['ndcg@10'].value, time.perf_counter() - start)\n"
)
_IMPLICIT = (
    "import sys, time, numpy as np, pyarrow.parquet as pq\n"
    "from implicit.cpu.als import AlternatingLeastSquares\n"
    "from implicit.evaluation import ranking_metrics_at_k\n"
    "from scipy.sparse import csr_matrix\n"
    "folder = sys.argv[2]\n"
    "model = AlternatingLeastSquares(64)\n"
    "model.user_factors, model.item_factors = (np.load(f'{folder}/{name}.npy')"
    " for name in ('ranked_users', 'ranked_items'))\n"
    "start = time.perf_counter()\n"
    "shape = len(model.user_factors), len(model.item_factors)\n"
    "def read(name):\n"
    "    table = pq.read_table(f'{folder}/{name}.parquet')\n"
    "    return csr_matrix((np.ones(len(table), 'f4'), (table[0], table[1])), shape)\n"
    "found = ranking_metrics_at_k(model, read('seen'), read('test'), 10, False, 2)\n"
    "print(found['ndcg'], time.perf_counter() - start)\n"
)


def run(bench: Bench) -> None:
    """20,000 users with 20 items seen and 5 held out, ``bench.rows`` items x 64."""
    rng = np.random.default_rng(0)
    users = rng.standard_normal((USERS, 64), dtype="f4")
    items = vectors(bench.rows, 64)
    for name, each in (("ranked_users", users), ("ranked_items", items)):
        np.save(bench.folder / f"{name}.npy", each)
        table = bench.store.create_table(name, metric="ip")
        table.load(each, ids=range(len(each)), space="one", index="none")
    taken = _taken(users, items, rng)
    for name, part in (("seen", taken[:, :SEEN]), ("test", taken[:, SEEN:])):
        columns = {"user_id": np.repeat(np.arange(USERS), part.shape[1]), "item_id": part.ravel()}
        pq.write_table(pa.table(columns), bench.folder / f"{name}.parquet")
    _seconds(bench, _STORE % "")  # which leaves a replica
    plain = ", resamples=0"
    found = [
        (
            "embstore, six measures, 1000 draws for the intervals",
            _seconds(bench, _STORE % ""),
        ),
        ("embstore, six measures, no intervals", _seconds(bench, _STORE % plain)),
        ("implicit 0.7, NDCG, MAP, precision and AUC, in memory", _seconds(bench, _IMPLICIT)),
    ]
    bench.report.table(
        f"Evaluate: {USERS:,} users, {bench.rows:,} x 64 items, k = 10, what was seen left out",
        ["", "NDCG@10", "seconds"],
        [[name, round(ndcg, 5), seconds] for name, (ndcg, seconds) in found],
    )


def _taken(users: Array, items: Array, rng: np.random.Generator) -> Array:
    """Draw items for each user, liked ones more often: array (users, seen and held out)."""
    found = np.empty((len(users), SEEN + HELD_OUT), np.int64)
    for at in range(0, len(users), 500):
        scores = users[at : at + 500] @ items.T
        scores += 5 * rng.gumbel(size=scores.shape).astype("f4")
        best = np.argpartition(-scores, SEEN + HELD_OUT, axis=1)[:, : SEEN + HELD_OUT]
        found[at : at + 500] = rng.permuted(best, axis=1)
    return found


def _seconds(bench: Bench, script: str) -> tuple[float, float]:
    """Run a script in a process of its own; returns NDCG and seconds."""
    command = [sys.executable, "-c", script, bench.store.url, str(bench.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ndcg, seconds = map(float, done.stdout.split())
    return ndcg, seconds
