"""A training that starts from stored vectors is sooner as good as the last one."""

from typing import Any

import pytest
import torch

import embstore
import examples.embedding_layer.__main__ as example
from examples.data import generated


def test_a_warm_start_needs_fewer_epochs(
    store: embstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    stored = example.stored_layers

    def watched(*given: Any) -> Any:
        layers: Any = stored(*given)
        before.extend((each.weight, each.weight.detach().clone()) for each in layers.values())
        return layers

    monkeypatch.setattr(example, "stored_layers", watched)
    report = example.run(store, generated(200, 450), seed=0)
    cold, warm, wide_cold, wide_warm = report.rows
    saved = []
    for one, other in ((cold, warm), (wide_cold, wide_warm)):
        # Three are all there are; a cold start may not get there.
        saved.append((one["epochs to it"] or 3) - (other["epochs to it"] or 3))
        assert other["AUC after an epoch"] > one["AUC after an epoch"] + 0.01
    assert min(saved) > 0 and sum(saved) > 1.5
    assert all((layer != vectors).any() for layer, vectors in before)  # they learn on


def test_the_share_of_the_textbook() -> None:
    assert example.share(example.textbook()) == (3_200_000, 3_204_416)
