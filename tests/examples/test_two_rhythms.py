import pytest

import embstore
import examples.two_rhythms.__main__ as example
from examples.data import generated


def test_a_model_of_the_hour_goes_on_with_aligned_vectors(
    store: embstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "HOURS", 6)
    report = example.run(store, generated(300, 600), seed=1)
    found = {(row["week 2"], row["model of the hour"]): row for row in report.rows}
    stay, raw, aligned = (found[each, "network"] for each in ("not used", "as it is", "aligned"))
    assert aligned["day 5"] > raw["day 5"] + 0.02
    assert aligned["days 5-9"] > raw["days 5-9"] + 0.01
    assert aligned["days 5-9"] > stay["days 5-9"] + 0.01
    # The readers went back with the books, and came again with those of the aligned training.
    assert store["two_rhythms_books"].space == store["two_rhythms_readers"].space
    assert [each.ref for each in store.pins()] == ["two_rhythms_books@1", "two_rhythms_readers@1"]
    assert "without a counterpart" in report.notes[0]
