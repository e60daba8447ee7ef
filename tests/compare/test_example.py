"""The example: a model of last week's vectors works on this week's once they are aligned."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embstore import Store
from tests.fix_data import GOODBOOKS

SCRIPT = Path(__file__).parents[2] / "examples" / "aligned" / "aligned.py"


@pytest.fixture
def example() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_a_model_goes_on_working(store: Store, example: dict[str, Any]) -> None:
    if GOODBOOKS.exists():
        data = example["goodbooks"](GOODBOOKS)
        some = data.users < 15_000  # a quarter is enough to see it
        data = example["Data"](data.users[some], data.items[some], data.genres)
    else:
        data = example["made_up"]()
    scores = example["run"](store, data)
    del scores["will read"]  # of which the products alone know much
    own, raw, aligned = np.array(list(scores.values())).T
    assert own.min() > 0.8
    assert raw.mean() < own.mean() - 0.1
    assert aligned.min() > own.min() - 0.05 and aligned.mean() > own.mean() - 0.03
