"""``python -m tests.soak``: 8 readers, 2 loaders and a release every second, for a minute."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from statistics import median

import embstore

from .soak import begin, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=1, help="seconds between two releases")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="embstore-soak-"))
    folder.chmod(0o711)
    os.environ["EMBSTORE_HOME"] = str(folder / "home")
    os.environ.pop("EMBSTORE_URL", None)
    try:
        with embstore.connect() as store:
            done = run(begin(store), given.seconds, given.every)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    slowest = sorted(done.release_ms)
    print(
        f"{sum(done.queries):,} answers of 8 readers ({min(done.queries):,} of the slowest) beside"
        f" {done.loads} loads, {done.releases} releases ({done.rollbacks} of them rollbacks) and"
        f" {done.dropped} drops; a release took {median(slowest):.1f} ms, at most"
        f" {slowest[-1]:.0f} ms"
    )
    for failure in done.failures:
        print(f"FAILED {failure}")
    raise SystemExit(bool(done.failures))


if __name__ == "__main__":
    main()
