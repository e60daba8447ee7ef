"""Neural networks: PyTorch, ONNX and Keras, as objects and as files."""

import gzip
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embstore import Store
from embstore.errors import BadInput, EmbstoreError, MissingPackage
from embstore.readers import Opened, Wanted, open_source
from tests.fix_data import clusters

os.environ.setdefault("KERAS_BACKEND", "torch")
torch = pytest.importorskip("torch")
nn = torch.nn


def opened(source: Any, **how: Any) -> tuple[Opened, list[Any], Any]:
    with open_source(source, Wanted(**how)) as found:
        table = pa.Table.from_batches(list(found.batches), found.schema)
    vectors = np.asarray(table.column("embedding").combine_chunks().flatten())
    return found, table.column("id").to_pylist(), vectors.reshape(-1, found.dim)


def refused(source: Any, says: str, error: type[Exception] = BadInput, **how: Any) -> None:
    """Check that a source is refused in one sentence that names it."""
    how.setdefault("ids", "row-number")
    with pytest.raises(error, match=says) as caught:
        opened(source, **how)
    message = str(caught.value)
    assert "\n" not in message
    if isinstance(source, Path):
        assert source.name in message


class Factorization(nn.Module):  # type: ignore[misc, name-defined]
    """Matrix factorization with biases and a tied output layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.user_embedding = nn.Embedding(5, 3)
        self.item_embedding = nn.Embedding(7, 3, padding_idx=0)
        self.item_bias = nn.Embedding(7, 1)
        self.decoder = nn.Linear(3, 7)
        self.decoder.weight = self.item_embedding.weight


MODEL = Factorization()
ITEMS = MODEL.item_embedding.weight.detach().numpy()
BIASES = MODEL.item_bias.weight.detach().numpy()


# --- PyTorch: objects


@pytest.mark.parametrize("layer", [nn.Embedding(9, 4), nn.EmbeddingBag(9, 4, mode="sum")])
def test_embedding_layer(layer: Any) -> None:
    found, keys, vectors = opened(layer, ids=[f"i{i}" for i in range(9)])
    np.testing.assert_array_equal(vectors, layer.weight.detach().numpy())
    assert keys[3] == "i3"
    assert found.trainer == f"torch.nn.{type(layer).__name__}"
    assert (found.params["num_embeddings"], found.params["embedding_dim"]) == (9, 4)
    assert found.params["library"] == f"torch {torch.__version__}"


@pytest.mark.parametrize(
    "name", ["item_embedding", "item_embedding.weight", "decoder", "decoder.weight"]
)
def test_module_by_name(name: str) -> None:
    found, _, vectors = opened(MODEL, vectors=name, ids=range(7))
    np.testing.assert_array_equal(vectors, ITEMS)
    assert str(found.trainer).endswith("Factorization")
    if "item" in name:
        assert (found.params["padding_idx"], found.params["embedding_dim"]) == (0, 3)


def test_biases_of_a_module() -> None:
    for how in ({}, {"biases": "item_bias"}, {"biases": "item_bias.weight"}):
        _, _, vectors = opened(MODEL, vectors="item_embedding", ids=range(7), fold=True, **how)
        np.testing.assert_array_equal(vectors, np.hstack([ITEMS, BIASES]))
    _, _, users = opened(MODEL, vectors="user_embedding", ids=range(5), fold=True, biases="1")
    assert (users[:, -1] == 1).all()


def test_padding_row_has_no_number() -> None:
    found, keys, vectors = opened(MODEL, vectors="item_embedding", ids="row-number")
    assert (found.rows, keys) == (6, [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(vectors, ITEMS[1:])
    layer = nn.Embedding.from_pretrained(torch.ones(4, 2), padding_idx=0)
    assert opened(layer, ids="row-number")[1] == [0, 1, 2, 3]  # trained, so it stands for something
    assert opened(MODEL, vectors="item_embedding", ids={"b": 2, "a": 1})[1] == ["a", "b"]


def test_default_is_the_only_embedding_layer_then_the_only_matrix() -> None:
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 8), nn.Linear(8, 2))
    np.testing.assert_array_equal(opened(model, ids=range(6))[2], model[0].weight.detach())
    head = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6))
    np.testing.assert_array_equal(opened(head, ids=range(6))[2], head[1].weight.detach())
    model = nn.Module()
    model.register_buffer("item_ids", torch.arange(10, 14))
    model.register_buffer("item_vectors", torch.ones(4, 2))
    assert opened(model)[1] == [10, 11, 12, 13]
    spectral = nn.utils.parametrizations.weight_norm(nn.Embedding(6, 4))
    np.testing.assert_allclose(opened(spectral, ids=range(6))[2], spectral.weight.detach())


@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        (torch.arange(12.0).reshape(6, 2), np.float32),
        (torch.arange(12.0, requires_grad=True).reshape(6, 2), np.float32),
        (torch.arange(12.0).reshape(2, 6).T, np.float32),
        (torch.arange(12.0, dtype=torch.float64).reshape(6, 2), np.float64),
        (torch.arange(12.0).reshape(6, 2).half(), np.float16),
        (torch.arange(12.0).reshape(6, 2).bfloat16(), np.float32),
        (torch.arange(12.0).reshape(6, 2).to(torch.float8_e4m3fn), np.float32),
        (torch.arange(12).reshape(6, 2), np.float32),
        (nn.Parameter(torch.arange(12.0).reshape(6, 2)), np.float32),
    ],
)
def test_tensors_of_all_types(tensor: Any, dtype: Any, tmp_path: Path) -> None:
    found, keys, vectors = opened(tensor, ids=torch.arange(6))
    assert (keys, vectors.dtype, found.trainer) == (list(range(6)), dtype, "torch")
    np.testing.assert_array_equal(vectors, tensor.detach().float().numpy())
    old = "float8" not in str(tensor.dtype)  # which are younger than the older form
    for legacy in (False, True)[: 1 + old]:
        torch.save(tensor, tmp_path / "t.pt", _use_new_zipfile_serialization=not legacy)
        again = opened(tmp_path / "t.pt", ids=range(6))[2]
        np.testing.assert_array_equal(again, vectors)
        assert again.dtype == dtype


def test_tensors_in_mappings_and_pairs() -> None:
    users, items = torch.rand(3, 2, requires_grad=True), torch.rand(4, 2).bfloat16()
    towers = {
        "user_ids": torch.tensor([7, 8, 9]),
        "user_vectors": users,
        "item_ids": ["a", "b", "c", "d"],
        "item_vectors": items,
    }
    found, keys, vectors = opened(towers, vectors="item_vectors")
    assert (keys, found.trainer) == (["a", "b", "c", "d"], "torch")
    np.testing.assert_array_equal(vectors, items.float())
    assert opened(towers, vectors="user_vectors")[1] == [7, 8, 9]
    for pair in ((towers["user_ids"], users), (users, [7, 8, 9])):
        found, keys, vectors = opened(pair)
        assert keys == [7, 8, 9]
        np.testing.assert_array_equal(vectors, users.detach())
    one_each = {"x": users[0], "y": users[1]}
    np.testing.assert_array_equal(opened(one_each)[2], users[:2].detach())
    found, _, vectors = opened(MODEL.state_dict(), vectors="item_embedding.weight", ids=range(7))
    np.testing.assert_array_equal(vectors, ITEMS)
    assert found.schema.names == ["id", "embedding", "item_bias"]


@pytest.mark.parametrize(
    ("source", "how", "says"),
    [
        (MODEL, {}, "could be 'user_embedding', 'item_embedding'"),
        (MODEL, {"vectors": "nothing"}, "no two-dimensional array 'nothing': it has 'user_emb"),
        (nn.Embedding(4, 2), {"ids": None}, r"Embedding \(weight\) holds vectors only"),
        (nn.Embedding(4, 2), {"ids": range(5)}, "5 ids for 4 vectors"),
        (nn.ReLU(), {}, "vectors are not there"),
        (nn.LazyLinear(3), {}, "call it on data once"),
        (torch.ones(3), {}, r"shape \(3,\)"),
        (torch.ones(3, 2).to_sparse(), {}, "to_dense"),
        (torch.ones(3, 2, dtype=torch.complex64), {}, "of complex64"),
        (torch.ones(3, 2, device="meta"), {}, "meta tensor"),
        (torch.ones(3, 2), {"vectors": "x"}, "leave vectors= out"),
        ((torch.ones(3, 2), torch.ones(3, 2)), {}, "could be '0', '1'"),
    ],
)
def test_bad_torch_objects(source: Any, how: dict[str, Any], says: str) -> None:
    refused(source, says, **how)


# --- PyTorch: files


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_state_dict_file(tmp_path: Path, legacy: bool, packed: bool) -> None:
    path = tmp_path / "model.bin"  # found by content
    torch.save(MODEL.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    for name in ("item_embedding", "item_embedding.weight"):
        found, _, vectors = opened(path, vectors=name, ids=range(7), fold=True)
        np.testing.assert_array_equal(vectors, np.hstack([ITEMS, BIASES]))
    assert found.provenance["format"] == "torch"
    assert found.provenance["vectors"] == "item_embedding"


def checkpoint() -> dict[str, Any]:
    """What training scripts save: the optimizer's state has matrices of the model's size too."""
    model = nn.Embedding(6, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.arange(6)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "val_loss": 0.25,
        "metrics": {"recall@10": 0.5},
        "hyper_parameters": {"lr": 0.1, "towers": [64, 32]},
        "model_state_dict": {f"module.item.{k}": v for k, v in model.state_dict().items()},
        "optimizer_state_dict": optimizer.state_dict(),
    }


def test_checkpoint_file(tmp_path: Path) -> None:
    saved = checkpoint()
    torch.save(saved, tmp_path / "last.pth")
    for name in (None, "item", "item.weight", "model_state_dict.module.item.weight"):
        found, _, vectors = opened(tmp_path / "last.pth", vectors=name, ids="row-number")
        expected = saved["model_state_dict"]["module.item.weight"]
        np.testing.assert_array_equal(vectors, expected)
    assert found.params["epoch"] == 3
    assert found.params["hyper_parameters.lr"] == 0.1
    assert found.metrics == {"val_loss": 0.25, "metrics.recall@10": 0.5}


def test_ids_inside_a_torch_file(tmp_path: Path) -> None:
    base = torch.from_numpy(clusters(4, 3))
    for ids in (["w", "x", "y", "z"], [4, 3, 2, 1], torch.tensor([9, 8, 7, 6])):
        torch.save({"item_ids": ids, "item_vectors": base}, tmp_path / "v.pt")
        assert opened(tmp_path / "v.pt")[1] == list(map(int, ids) if ids[0] != "w" else ids)
    torch.save([base, {"words": {"b": 3, "a": 0}}], tmp_path / "v.pt")
    _, keys, vectors = opened(tmp_path / "v.pt", ids="1.words")
    assert keys == ["a", "b"]
    np.testing.assert_array_equal(vectors, base[[0, 3]])


def test_parts_of_tensors_in_several_blocks(tmp_path: Path) -> None:
    base = torch.from_numpy(clusters(70_000, 8))
    parts = {"rows": base[100:], "columns": base[:, 2:5], "turned": base[:8].T}
    torch.save({**parts, "whole": base}, tmp_path / "v.pt")
    for name in (*parts, "whole"):
        _, _, vectors = opened(tmp_path / "v.pt", vectors=name, ids="row-number")
        np.testing.assert_array_equal(vectors, parts.get(name, base))


def test_torch_that_does_not_tell_where_tensors_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(MODEL.state_dict(), tmp_path / "m.pt")
    load = torch.load

    def without_place(*given: Any, **how: Any) -> Any:
        found = load(*given, **how)
        for each in found.values():
            vars(each.untyped_storage()).pop("_checkpoint_offset", None)
        return found

    monkeypatch.setattr(torch, "load", without_place)
    _, _, vectors = opened(tmp_path / "m.pt", vectors="item_embedding", ids=range(7))
    np.testing.assert_array_equal(vectors, ITEMS)


class Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_in_a_torch_file_runs(tmp_path: Path, legacy: bool) -> None:
    path, canary = tmp_path / "m.pt", tmp_path / "canary"
    how = {"_use_new_zipfile_serialization": not legacy}
    torch.save({"x": torch.ones(2, 2), "y": Runs(canary)}, path, **how)
    for allow in (False, True):
        refused(path, "allow-pickle changes nothing here.*state_dict", allow_pickle=allow)
    assert not canary.exists()
    torch.save(MODEL, path, **how)
    refused(path, r"test_neural\.Factorization.*state_dict")
