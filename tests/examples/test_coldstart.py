"""The example runs, and what is known of a book says more than nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fix_data import GOODBOOKS
from tests.fix_store import Server

SCRIPT = Path(__file__).parents[2] / "examples" / "coldstart" / "coldstart.py"


def test_quality(pg: Server, database: str) -> None:
    """On goodbooks where they are, else on what is generated."""
    folder = [str(GOODBOOKS)] if GOODBOOKS.exists() else []
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *folder, "--quick", "--hide", "300"],
        env=os.environ | {"EMBSTORE_URL": pg.url(database), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = dict(
        re.findall(r"^\| (\w+).*? \| (?:[\d.]+)? \| ([\d.]+) \| [\d.]+ \|$", done.stdout, re.M)
    )
    readers = dict(re.findall(r"^\| (\w+).*? \| ([\d.]+) \|$", done.stdout, re.M))
    for way in ("mean_of_neighbours", "side_information", "a"):
        assert float(found[way]) > 0.25 > 0.1 > float(found["random"])
        assert float(readers[way]) > 2 * float(readers["random"])
    for way in ("transform", "fold_in"):
        assert float(readers[way]) > 1.5 * float(readers["random"])
