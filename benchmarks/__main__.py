"""``make bench``: measure, print, and write docs/benchmarks.md with its pictures."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import embstore

from . import (
    asof,
    batch,
    clients,
    compare,
    export,
    feast,
    growth,
    load,
    ranking,
    recall,
    release,
    wire,
)
from .bench import Bench
from .measure import Report, machine, timed

DOCS = Path(__file__).parents[1] / "docs"


def _replica(bench: Bench) -> None:
    if find_spec(f"{__package__}.replica") is not None:
        module = import_module(f"{__package__}.replica")
        module.run(bench.report, bench.store.url, bench.rows)


def _load(bench: Bench) -> None:
    load.run(bench.store, bench.report, bench.folder, bench.load_rows, bench.gigabytes)


# In the order of the page. Reads come first: gigabytes that are still being written would slow
# whoever asks.
SECTIONS: dict[str, Callable[[Bench], None]] = {
    "wire": wire.run,
    "clients": clients.run,
    "batch": batch.run,
    "feast": feast.run,
    "recall": recall.run,
    "replica": _replica,
    "release": release.run,
    "asof": asof.run,
    "export": export.run,
    "compare": compare.run,
    "ranking": ranking.run,
    "growth": growth.run,
    "many": wire.run_many,
    "load": _load,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="of most sections")
    parser.add_argument("--many", type=int, default=1_000_000, help="of growth and many")
    parser.add_argument("--load-rows", type=int, default=300_000)
    parser.add_argument("--gigabytes", type=float, default=4, help="of the large files")
    parser.add_argument("--seconds", type=float, default=10, help="of several clients' asking")
    parser.add_argument("--no-peers", action="store_true")
    names = {"nargs": "+", "choices": SECTIONS, "default": [], "metavar": "SECTION"}
    parser.add_argument("--only", help=f"of {', '.join(SECTIONS)}", **names)  # type: ignore[arg-type]
    parser.add_argument("--skip", **names)  # type: ignore[arg-type]
    parser.add_argument("--out", type=Path, help="a folder for the page; a whole run's is docs/")
    given = parser.parse_args()
    chosen = [each for each in given.only or SECTIONS if each not in given.skip]
    folder = Path(tempfile.mkdtemp(prefix="embstore-bench-"))
    folder.chmod(0o711)
    whole = given == parser.parse_args([])
    out = given.out or (DOCS if whole else Path(tempfile.mkdtemp(prefix="embstore-bench-page-")))
    os.environ["EMBSTORE_HOME"] = str(folder / "home")
    os.environ.pop("EMBSTORE_URL", None)
    report = Report(out)
    try:
        with embstore.connect() as store:
            bench = Bench(
                store,
                report,
                folder,
                given.rows,
                given.many,
                given.load_rows,
                given.gigabytes,
                given.seconds,
                not given.no_peers,
            )
            for name in chosen:
                seconds = timed(partial(SECTIONS[name], bench))
                print(f"  ({name}: {seconds:.0f} s)", flush=True)
            head = (
                f"# Benchmarks\n\nMeasured on {date.today()} by `make bench`: {machine()}, the"
                f" embedded Postgres {store.engine.server} with pgvector {store.engine.pgvector}."
                " One run; medians; what is compared runs in turns."
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    page = out / "benchmarks.md"
    page.write_text(report.document(head), encoding="utf-8")
    print(f"\nWritten to {page}")


if __name__ == "__main__":
    main()
