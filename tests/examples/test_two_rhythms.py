from typing import Any

import numpy as np
import pytest

import embstore
import examples.two_rhythms.__main__ as example
from examples.data import generated


def test_a_model_of_the_hour_goes_on_with_aligned_vectors(
    store: embstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "HOURS", 6)
    lived, live, known, embed = [], example.live, [], example.embed

    def watched(_: Any, events: Any, models: Any, days: range) -> Any:
        lived.append([float(each.score(np.zeros((1, 96)))[0]) for each in models.values()])
        return live(store, events, models, days)

    def told(store: embstore.Store, data: Any, seen: Any, *how: Any) -> Any:
        known.append(seen.times[-1])
        return embed(store, data, seen, *how)

    monkeypatch.setattr(example, "live", watched)
    monkeypatch.setattr(example, "embed", told)
    report = example.run(store, generated(300, 600), seed=1)
    found = {(row["week 2"], row["model of the hour"]): row for row in report.rows}
    stay, raw, aligned = (found[each, "network"] for each in ("not used", "as it is", "aligned"))
    assert aligned["day 5"] > raw["day 5"] + 0.02
    assert aligned["days 5-9"] > raw["days 5-9"] + 0.01
    assert aligned["days 5-9"] > stay["days 5-9"] + 0.01 > 0.7
    assert lived[1] == lived[2] == lived[3] != lived[0]  # all three go on from day 5
    # What the models learn from, and are asked, is never what the vectors were trained on.
    assert known[0] < -1 and known[1] < 5
    # The readers went back with the books, and came again with those of the aligned training.
    assert store["two_rhythms_books"].space == store["two_rhythms_readers"].space
    assert [each.ref for each in store.pins()] == ["two_rhythms_books@1", "two_rhythms_readers@1"]
    assert "without a counterpart" in report.notes[0]
    assert "two_rhythms_books@1, though live is two_rhythms_books@3" in report.notes[1]


def test_an_hour_is_scored_before_it_is_learned(
    store: embstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, done = example.timeline(generated(60, 60), seed=0), []

    class Learner:
        def score(self, x: Any) -> Any:
            done.append(("score", len(x)))
            return x[:, 0]

        def learn(self, x: Any, taken: Any) -> None:
            done.append(("learn", len(x)))

    monkeypatch.setattr(example, "features", lambda _, now: now.items[:, None])
    monkeypatch.setattr(example, "HOURS", 3)
    models: Any = {"of the hour": Learner()}
    example.live(store, events, models, range(2))
    hours = [len(events.between(each / 3, (each + 1) / 3).users) for each in range(6)]
    assert done == [(what, hour) for hour in hours for what in ("score", "learn")]
