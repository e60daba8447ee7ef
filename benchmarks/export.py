"""Exports: a version into files, against psycopg and pyarrow by hand; rows/s and peak memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .bench import Bench
from .measure import vectors

# Each writes to the path that it is given, from the relation of a version, and says its peak.
_PEAK = (
    # Not ru_maxrss, which a child inherits from its parent.
    "peak = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0]\n"
    "print(time.perf_counter() - start, int(peak.split()[1]) / 1024)\n"
)
_OWN = (
    "import sys, time, embstore\n"
    "url, ref, relation, path = sys.argv[1:]\n"
    "with embstore.connect(url) as store:\n"
    "    start = time.perf_counter()\n"
    "    store[ref].export(path)\n"
)
_HAND = (
    "import sys, time, numpy as np, psycopg, pyarrow as pa, pyarrow.parquet as pq\n"
    "from pgvector.psycopg import register_vector\n"
    "url, ref, relation, path = sys.argv[1:]\n"
    "with psycopg.connect(url) as connection:\n"
    "    register_vector(connection)\n"
    "    start = time.perf_counter()\n"
    "    cursor = connection.cursor({name}binary=True)\n"
    "    cursor.execute('SELECT id, embedding FROM ' + relation)\n"
    "    writer = None\n"
    "    while rows := cursor.fetchmany({rows}):\n"
    "        base = np.stack([np.asarray(each[1].to_numpy()) for each in rows])\n"
    "        flat = pa.FixedSizeListArray.from_arrays(pa.array(base.ravel()), base.shape[1])\n"
    "        table = pa.table({{'id': [each[0] for each in rows], 'embedding': flat}})\n"
    "        writer = writer or pq.ParquetWriter(path, table.schema)\n"
    "        writer.write_table(table)\n"
    "    writer.close()\n"
)


def run(bench: Bench) -> None:
    """Write ``bench.many`` rows to each format; by hand to Parquet, whole and through a cursor."""
    rows = bench.many
    version = bench.store.create_table("exported").load(
        vectors(rows), ids=range(rows), index="none"
    )
    relation = f"emb.{version.table}_v{version.number}"
    whole = _HAND.format(name="", rows=rows)
    parts = _HAND.format(name="'exported', ", rows=100_000)
    endings = ("npy", "arrow", "safetensors", "bin", "vec", "tsv")
    ways = {
        "embstore, Parquet": (_OWN, "parquet"),
        "by hand, Parquet, all rows fetched": (whole, "parquet"),
        "by hand, Parquet, 100,000 rows of a cursor at a time": (parts, "parquet"),
        **{f"embstore, .{ending}": (_OWN, ending) for ending in endings},
    }
    found: list[list[object]] = []
    try:
        for way, (script, ending) in ways.items():
            path = bench.folder / f"exported.{ending}"
            done = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    script + _PEAK,
                    bench.store.url,
                    version.ref,
                    relation,
                    path,
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            seconds, peak = map(float, done.stdout.split())
            size = _removed(bench.folder)
            found.append([way, seconds, rows / seconds, f"{peak:.0f} MB", f"{size >> 20} MB"])
    finally:
        bench.store.drop_table("exported")
    bench.report.table(
        f"Export of {rows:,} x {version.dim}, in a process of its own",
        ["way", "seconds", "rows/s", "peak memory", "files"],
        found,
    )


def _removed(folder: Path) -> int:
    """Remove what was exported; return its size."""
    files = list(folder.glob("exported.*"))
    size = sum(each.stat().st_size for each in files)
    for each in files:
        each.unlink()
    return size
