"""Lookup beside Feast's online store, which runs in a virtual environment of its own.

Its pins (pandas below 3, an older SQLAlchemy) would hold back everything else here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
from psycopg import conninfo

from .bench import Bench
from .measure import medians

CHILD = Path(__file__).parent / "apart" / "feast_lookup.py"


def run(bench: Bench) -> None:
    """1000 ids, from Feast on SQLite and on the same Postgres."""
    if not bench.peers:
        return
    data = bench.loaded(bench.rows)
    python = _python()
    folder = bench.folder / "feast"
    folder.mkdir()
    np.save(folder / "base.npy", data.base)
    (folder / "asked.json").write_text(json.dumps(data.asked))
    (ours,) = medians(200, lambda i: data.version.lookup(data.asked[i % 50]))
    lines: list[list[object]] = [["embstore, a version", ours, "", ""]]
    for name, online in _stores(bench.store.url, folder).items():
        (folder / "online.json").write_text(json.dumps(online))
        done = subprocess.run([python, CHILD, folder], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"Feast on {name} failed:\n{done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        lines.append([name, found["milliseconds"], found["milliseconds"] / ours, found["write"]])
    bench.report.table(
        f"Lookup of 1000 ids of {len(data.base):,} x 64 beside Feast's get_online_features",
        ["system", "milliseconds", "embstore is so many times as fast", "write, s"],
        lines,
    )
    bench.report.say(
        "\nOne feature of type Array(Float32), the way of Feast that has the fewest values to"
        " carry; feature server and registry are in the same process."
    )
    best = min(float(str(line[1])) for line in lines[1:])
    bench.report.goal("lookup of 1000 ids, times as fast as Feast", best / ours, 3, at_least=True)


def _stores(url: str, folder: Path) -> dict[str, dict[str, object]]:
    given = conninfo.conninfo_to_dict(url)
    return {
        "Feast, SQLite": {"type": "sqlite", "path": str(folder / "online.db")},
        "Feast, the same Postgres": {
            "type": "postgres",
            "host": given.get("host"),
            "port": int(given.get("port") or 5432),
            "database": given.get("dbname"),
            "db_schema": "public",
            "user": given.get("user"),
            "password": given.get("password") or "none",
        },
    }


def _python() -> Path:
    """The interpreter that has Feast; made the first time, beside this one's packages."""
    home = Path(sys.prefix) / "feast"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "feast[postgres]>=0.60"], check=True)
    return python
