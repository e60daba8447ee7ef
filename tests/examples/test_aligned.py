"""A model of last week's vectors works on this week's once they are aligned."""

import numpy as np

from embstore import Store
from examples.aligned.__main__ import WEEKS, run
from examples.data import generated


def test_a_model_goes_on_working(store: Store) -> None:
    rows = run(store, generated(800, 1500), 0).rows
    found = np.array([[row[week] for week in WEEKS] for row in rows])
    own, raw, aligned = found[:-1].T  # the products of "will read" say much
    assert own.min() > 0.8
    assert raw.mean() < own.mean() - 0.1
    assert aligned.min() > own.min() - 0.05 and aligned.mean() > own.mean() - 0.03
    will_read = found[-1]
    assert will_read[0] > 0.7 and will_read[2] > will_read[0] - 0.03
    assert (aligned != own).any()  # they are this week's
