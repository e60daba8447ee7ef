"""A training that starts from stored vectors is sooner as good as the last one."""

import embstore
from examples.data import generated
from examples.embedding_layer.__main__ import run, share, textbook


def test_a_warm_start_needs_fewer_epochs(store: embstore.Store) -> None:
    report = run(store, generated(200, 450), seed=0)
    cold, warm, wide_cold, wide_warm = report.rows
    for one, other in ((cold, warm), (wide_cold, wide_warm)):
        # Three are all there are; a cold start may not get there.
        assert other["epochs to it"] <= 2 < (one["epochs to it"] or 3)
        assert other["AUC after an epoch"] > one["AUC after an epoch"] + 0.04


def test_the_share_of_the_textbook() -> None:
    assert share(textbook()) == (3_200_000, 3_204_416)
