import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embstore import InvalidQuery, NotFound, Store, Version
from embstore.torch import pretrained
from tests.fix_data import clusters

VECTORS = clusters(30, 5)
VOCABULARY = [f"w{i}" for i in (3, 29, 0, 3)]


@pytest.fixture
def version(store: Store) -> Version:
    table = store.create_table("words")
    return table.load(VECTORS, ids=[f"w{i}" for i in range(30)], promote=True)


def test_rows_are_the_vocabularys(store: Store, version: Version, tmp_path: Path) -> None:
    for source in (version, store.table("words"), version.replica(tmp_path, index="none")):
        layer = pretrained(source, VOCABULARY)
        assert type(layer) is torch.nn.Embedding
        assert not layer.weight.requires_grad
        found = layer(torch.tensor([1, 0]))
        np.testing.assert_array_equal(found.numpy(), VECTORS[[29, 3]])


def test_trained_further(version: Version) -> None:
    layer = pretrained(version, VOCABULARY, freeze=False)
    layer(torch.tensor([1])).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    np.testing.assert_allclose(layer.weight.detach().numpy()[1], VECTORS[29] - 1)
    np.testing.assert_array_equal(version.lookup(["w29"]).vectors[0], VECTORS[29])


@pytest.mark.parametrize("bag", ["mean", "sum", "max"])
def test_bags(version: Version, bag: Any) -> None:
    layer = pretrained(version, VOCABULARY, bag=bag)
    assert type(layer) is torch.nn.EmbeddingBag
    pooled = layer(torch.tensor([[0, 1], [2, 1]])).numpy()
    pool: Any = {"mean": np.mean, "sum": np.sum, "max": np.max}[bag]
    wanted = np.stack([pool(VECTORS[[3, 29]], axis=0), pool(VECTORS[[0, 29]], axis=0)])
    np.testing.assert_allclose(pooled, wanted, rtol=1e-6)


@pytest.mark.parametrize("row", [0, 2, -1])
@pytest.mark.parametrize("bag", [None, "sum"])
def test_padding(version: Version, row: int, bag: Any) -> None:
    vocabulary: list[Any] = ["w3", "w29"]
    vocabulary.insert(row % 3, None)  # nothing that could be looked up
    layer = pretrained(version, vocabulary, padding_idx=row, bag=bag, freeze=False, missing="raise")
    assert layer.padding_idx == row % 3
    weights = layer.weight.detach().numpy()
    assert not weights[row].any()
    np.testing.assert_array_equal(np.delete(weights, row % 3, axis=0), VECTORS[[3, 29]])
    layer(torch.tensor([[0, 1, 2]])).sum().backward()
    assert layer.weight.grad is not None
    assert not layer.weight.grad[row].any() and layer.weight.grad[row - 1].any()


def test_missing(version: Version) -> None:
    asked = ["w1", "nobody"]
    assert not pretrained(version, asked).weight[1].any()
    mean = pretrained(version, asked, missing="mean").weight[1]
    np.testing.assert_allclose(mean.numpy(), VECTORS.mean(axis=0), rtol=1e-4, atol=1e-6)
    drawn = [pretrained(version, asked, scale=0.1, seed=seed).weight[1] for seed in (1, 1, 2)]
    assert drawn[0].any() and torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    with pytest.raises(NotFound, match="words@1 has no id 'nobody'"):
        pretrained(version, asked, missing="raise")


def test_refused(version: Version) -> None:
    for row in (4, -5):
        with pytest.raises(InvalidQuery, match=f"padding_idx is {row}: the vocabulary has 4 rows"):
            pretrained(version, VOCABULARY, padding_idx=row)
    with pytest.raises(InvalidQuery, match="bag='median' is no way of pooling"):
        pretrained(version, VOCABULARY, bag="median")  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="skip"):
        pretrained(version, VOCABULARY, missing="skip")


def test_torch_is_imported_when_used() -> None:
    script = "import sys, embstore.torch; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
