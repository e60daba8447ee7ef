"""Compare and align, seconds and peak memory, beside numpy and scipy that hold it all in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from .bench import Bench
from .measure import Array, vectors

# Not ru_maxrss, which a child inherits from its parent.
_PEAK = (
    "print(time.perf_counter() - start,"
    " [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1])\n"
)
_OPEN = (
    "import sys, time, embstore\n"
    "url, folder = sys.argv[1:]\n"
    "with embstore.connect(url) as store:\n"
    "    items = store.table('compared')\n"
    "    start = time.perf_counter()\n"
)
_COMPARE = _OPEN + "    store.compare('compared@1', 'compared@2')\n"
_ALIGN = _OPEN + "    store.align('compared@2', 'compared@1', index='none')\n"
_LOAD = (
    _OPEN + "    items.load(f'{{folder}}/new.npy', ids=f'{{folder}}/new_ids.npy', index='none'{})\n"
)
_ARRAYS = (
    "import sys, time, numpy as np\n"
    "from scipy.linalg import orthogonal_procrustes\n"
    "start = time.perf_counter()\n"
    "ids, new_ids, old, new = (np.load(f'{sys.argv[2]}/{name}.npy')"
    " for name in ('ids', 'new_ids', 'old', 'new'))\n"
    "_, a, b = np.intersect1d(ids, new_ids, return_indices=True)\n"
    "unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)\n"
    "x, y = unit(new[b]), unit(old[a])\n"
    "turn, _ = orthogonal_procrustes(x, y)\n"
)
_BY_HAND_ALIGN = _ARRAYS + "np.save(f'{sys.argv[2]}/turned.npy', new @ turn)\n"
_BY_HAND_COMPARE = (
    _ARRAYS
    + "drift = 1 - ((x @ turn) * y).sum(axis=1)\n"
    + "print(np.quantile(drift, [0.05, 0.5, 0.95]), file=sys.stderr)\n"
    + "chosen = np.random.default_rng(0).choice(len(x), 1000, replace=False)\n"
    # A hundred at a time, or the scores alone would be 4 GB; copied, or each result keeps them.
    + "best = lambda each, at: np.argpartition(-(each[chosen[at:at + 100]] @ each.T), 10)"
    "[:, :11].copy()\n"
    + "near = [np.vstack([best(each, at) for at in range(0, 1000, 100)]) for each in (x, y)]\n"
    + "print(np.mean([len(set(p) & set(q)) for p, q in zip(*near)]), file=sys.stderr)\n"
)


def run(bench: Bench) -> None:
    """``bench.many`` x 64, a hundredth of the ids other ones, in other axes and another order."""
    rows = bench.many
    items = bench.store.create_table("compared")
    arrays = dict(zip(("ids", "old", "new_ids", "new"), _pair(rows), strict=True))
    for name, values in arrays.items():
        np.save(bench.folder / f"{name}.npy", values)
    items.load(arrays["old"], ids=arrays["ids"], index="none", promote=True)
    items.load(arrays["new"], ids=arrays["new_ids"], index="none")
    del arrays
    ways = {
        "compare": _COMPARE,
        "compare, numpy and scipy on the arrays": _BY_HAND_COMPARE,
        "align, as a new version": _ALIGN,
        "load a .npy, aligned": _LOAD.format(", align_to='live'"),
        "load a .npy, as it is": _LOAD.format(""),
        "align, scipy on the arrays": _BY_HAND_ALIGN,
    }
    try:
        found = [[way, *_measured(bench, script)] for way, script in ways.items()]
        compared = bench.store.compare("compared@1", "compared@2")
    finally:
        bench.store.drop_table("compared")
        for path in bench.folder.glob("*.npy"):
            path.unlink()
    bench.report.table(
        f"Compare and align {rows:,} x 64, in a process of its own",
        ["what", "seconds", "peak MB"],
        found,
    )
    assert compared.overlap is not None and compared.aligned is not None
    bench.report.say(
        f"\nNeighbours kept of 10: {compared.overlap.mean:.3f} ± {compared.overlap.error:.3f}, from"
        f" {compared.overlap.count:,} of {compared.overlap.of:,} ids, exact; residual"
        f" {compared.aligned.residual:.3f}, {compared.aligned.before:.2f} without the rotation, and"
        " drift from all ids. A load that aligns needs as much of the disk as its source has.\n"
    )


def _pair(rows: int) -> tuple[Array, Array, Array, Array]:
    """Return ids and vectors of two trainings."""
    rng, whole = np.random.default_rng(1), vectors(rows + rows // 100)
    turn = np.linalg.qr(rng.standard_normal((64, 64)))[0].astype(np.float32)
    new_ids = rng.permutation(np.arange(rows // 100, rows + rows // 100))
    noise = rng.standard_normal((rows, 64), dtype=np.float32)
    return np.arange(rows), whole[:rows], new_ids, (whole[new_ids] + 0.3 * noise) @ turn


def _measured(bench: Bench, script: str) -> tuple[float, float]:
    inside = "    " if script.startswith(_OPEN) else ""
    done = subprocess.run(
        [sys.executable, "-c", script + inside + _PEAK, bench.store.url, Path(bench.folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak / 1024
