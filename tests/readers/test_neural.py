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
# Of Keras itself, with PyTorch beneath it.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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


def test_biases_of_a_linear_layer_are_its_own() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 7))
    weight, bias = (each.detach().numpy() for each in model[1].parameters())
    for source in (model, model.state_dict()):
        found, _, vectors = opened(source, vectors="1", ids="row-number", fold=True)
        np.testing.assert_array_equal(vectors, np.column_stack([weight, bias]))
        assert found.schema.names == ["id", "embedding", "bias"]
    found = opened(model, vectors="1", ids="row-number", fold=True, biases="1.bias")[0]
    assert found.schema.names == ["id", "embedding", "1.bias"]


def test_a_layer_called_read_makes_no_file() -> None:
    model = nn.ModuleDict({"read": nn.Embedding(7, 3)})
    _, keys, vectors = opened(model, ids="row-number")
    assert keys == list(range(7))
    np.testing.assert_array_equal(vectors, model["read"].weight.detach().numpy())


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
            if each.is_meta:
                each.untyped_storage()._checkpoint_offset = None
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


def rezipped(path: Path, **changed: bytes) -> None:
    """Write an archive again, some members otherwise, ``pkl`` for ``data.pkl``."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, changed.get(name.rpartition(".")[2].rpartition("/")[2], data))


def small_torch(path: Path) -> None:
    torch.save({"x": torch.ones(4, 3)}, path)


def script(path: Path) -> None:
    torch.jit.script(nn.Embedding(4, 2)).save(path)


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}))
        archive.writestr("m/data/0", bytes(10_000))


def big_endian(path: Path) -> None:
    small_torch(path)
    rezipped(path, byteorder=b"big")


def shorter_storage(path: Path) -> None:
    small_torch(path)
    with zipfile.ZipFile(path) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("data.pkl"))
        damaged = archive.read(name).replace(b"K\x0c", b"K\x0d", 1)  # 13 numbers instead of 12
    rezipped(path, pkl=damaged)


def cut(path: Path) -> None:
    small_torch(path)
    path.write_bytes(path.read_bytes()[:-30])


def legacy_cut(path: Path) -> None:
    torch.save({"x": torch.ones(4, 3)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-8])


def many_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(10_001):
            archive.writestr(f"m/data/{number}", b"")


def endless(path: Path) -> None:
    nest: Any = []
    for _ in range(60):
        nest = [nest, nest]
    torch.save(nest, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("write", "says"),
    [
        (script, "is a TorchScript program"),
        (compressed, "is compressed inside"),
        (big_endian, "big-endian"),
        (shorter_storage, "not where its pickle says"),
        (cut, "File is not a zip file"),
        (legacy_cut, "cannot be read as a PyTorch file"),
        (many_members, "has 10001 members"),
        (endless, "more than 100000 values"),
        (lambda path: torch.save(torch.ones(1).expand(9, 3), path), "overlap"),
        (lambda path: torch.save({"epoch": 3}, path), "vectors are not there"),
        (lambda path: torch.save(torch.ones(3), path), "vectors are not there"),
        (lambda path: torch.save(MODEL.state_dict(), path), "could be 'user_embedding', 'item_e"),
        (lambda path: path.write_bytes(pickle.dumps([1.0])), "is a pickle"),
        (lambda path: path.write_bytes(b"\0" * 100), "cannot be read as a PyTorch file"),
    ],
)
def test_bad_torch_files(tmp_path: Path, write: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "model.pt"
    write(path)
    refused(path, says)


def test_torch_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_torch(tmp_path / "m.pt")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1"))
    with pytest.raises(MissingPackage, match=r"torch 2\.10 or later"):
        opened(tmp_path / "m.pt", ids="row-number")


def test_torch_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(torch.ones(200_000, 8), path)
    with (
        pytest.raises(BadInput, match=r"m\.pt changed while it was read"),
        open_source(path, Wanted(ids="row-number")) as found,
    ):
        next(found.batches)
        os.truncate(path, 1 << 20)
        list(found.batches)


# --- ONNX


def onnx_model(path: Path, *initializers: Any, **how: Any) -> None:
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    whole = make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    index = make.make_tensor_value_info("i", onnx.TensorProto.INT64, [None])
    node = make.make_node("Gather", ["items.weight", "i"], ["y"])
    graph = make.make_graph([node], "tower", [index], [whole], initializer=initializers)
    model = make.make_model(graph, producer_name="pytorch", producer_version="2.13")
    make.set_model_props(model, {"epochs": "3"})
    onnx.save(model, path, **how)


def tensor(name: str, kind: str, values: Any, raw: bool) -> Any:
    onnx = pytest.importorskip("onnx")
    number = getattr(onnx.TensorProto, kind)
    if raw:
        values = values.astype(onnx.helper.tensor_dtype_to_np_dtype(number))
        return onnx.numpy_helper.from_array(values, name)
    return onnx.helper.make_tensor(name, number, values.shape, values.ravel())


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("FLOAT", "f4"), ("DOUBLE", "f8"), ("FLOAT16", "f2"), ("BFLOAT16", "f4"), ("INT8", "f4")],
)
def test_onnx_initializers(tmp_path: Path, kind: str, dtype: str, raw: bool) -> None:
    base = np.round(clusters(70_000 if raw else 50, 4) * 16) / 4  # which bfloat16 can hold
    base = np.clip(np.round(base), -100, 100) if kind == "INT8" else base
    names = np.arange(len(base)) - 7
    path = tmp_path / "model"  # found by content
    onnx_model(
        path, tensor("items.weight", kind, base, raw), tensor("item_ids", "INT64", names, raw)
    )
    for name in ("items", "items.weight", None):
        found, keys, vectors = opened(path, vectors=name)
        np.testing.assert_array_equal(vectors, base)
        assert vectors.dtype == dtype
        assert keys == names.tolist()
    assert (found.trainer, found.params["producer_version"]) == ("pytorch", "2.13")
    assert (found.params["graph"], found.params["epochs"]) == ("tower", "3")
    assert int(str(found.params["opset"])) > 10


def external(path: Path) -> None:
    items = tensor("items.weight", "FLOAT", clusters(50, 4), True)
    onnx_model(path, items, save_as_external_data=True, location="data.bin", size_threshold=0)


def test_onnx_data_beside_the_model(tmp_path: Path) -> None:
    external(tmp_path / "m.onnx")
    _, _, vectors = opened(tmp_path / "m.onnx", ids="row-number")
    np.testing.assert_array_equal(vectors, clusters(50, 4))
    # As the cache of the Hugging Face hub keeps it.
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for name in ("m.onnx", "data.bin"):
        (tmp_path / name).rename(tmp_path / "blobs" / f"{name}-hash")
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / f"{name}-hash")
    _, _, vectors = opened(tmp_path / "snapshot" / "m.onnx", ids="row-number")
    np.testing.assert_array_equal(vectors, clusters(50, 4))


def edited(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def outside(path: Path) -> None:
    external(path)
    edited(path, b"data.bin", b"../d.bin")
    (path.parent.parent / "d.bin").write_bytes(bytes(800))


def linked(path: Path) -> None:
    external(path)
    target = path.parent.parent / "secret.bin"
    (path.parent / "data.bin").rename(target)
    (path.parent / "data.bin").symlink_to(target)


def absent(path: Path) -> None:
    external(path)
    (path.parent / "data.bin").unlink()


def short(path: Path) -> None:
    external(path)
    os.truncate(path.parent / "data.bin", 700)


def small_onnx(path: Path) -> None:
    onnx_model(path, tensor("items.weight", "FLOAT", clusters(50, 4), True))


def onnx_cut(path: Path) -> None:
    small_onnx(path)
    path.write_bytes(path.read_bytes()[:300])


def wrong_shape(path: Path) -> None:
    small_onnx(path)
    edited(path, b"\x08\x32\x08\x04", b"\x08\x33\x08\x04")


def junk(path: Path) -> None:
    small_onnx(path)
    path.write_bytes(path.read_bytes() + b"\xff" * 20)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (outside, r"'\.\./d\.bin', which is no file beside"),
        (linked, "which is no file beside the model"),
        (absent, "is not there or cannot be read"),
        (short, "ends before the data of 'items.weight'"),
        (onnx_cut, "ends .* bytes early"),
        (wrong_shape, r"'items.weight' of shape \(51, 4\) has 800 bytes"),
        (junk, "no ONNX model, or damaged"),
        (lambda path: onnx_model(path), "has no initializers"),
        (lambda path: path.write_bytes(b"\x08\x07" * 500_001), "more than 500000 fields"),
        (lambda path: path.write_bytes(b"hello world"), "no ONNX model, or damaged"),
    ],
)
def test_bad_onnx_files(tmp_path: Path, write: Callable[[Path], None], says: str) -> None:
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "m.onnx"
    write(path)
    refused(path, says)


def test_onnx_data_that_change_while_they_are_read(tmp_path: Path) -> None:
    external(tmp_path / "m.onnx")
    with (
        pytest.raises(BadInput, match=r"data\.bin changed while it was read"),
        open_source(tmp_path / "m.onnx", Wanted(ids="row-number")) as found,
    ):
        next(found.batches)
        os.utime(tmp_path / "data.bin", (1, 1))
        list(found.batches)


# --- Keras


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def recommender(keras: Any) -> Any:
    """A functional model whose layers have names."""
    keras.utils.set_random_seed(0)
    user, item = (keras.Input((1,), name=name) for name in ("user", "item"))
    u = keras.layers.Embedding(5, 3, name="user_embedding")(user)
    v = keras.layers.Embedding(7, 3, name="item_embedding", mask_zero=True)(item)
    bias = keras.layers.Embedding(7, 1, name="item_bias", embeddings_initializer="uniform")(item)
    score = keras.layers.Add()([keras.layers.Dot(-1)([u, v]), bias])
    model = keras.Model([user, item], keras.layers.Dense(2)(score))
    model.compile("adam", "mse")
    model.fit([np.ones((2, 1)), np.ones((2, 1))], np.ones((2, 1, 2)), verbose=0)
    return model


@pytest.fixture(scope="module")
def subclassed(keras: Any) -> Any:
    """A model whose layers are attributes, one of them in a tower."""

    class Towers(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tower = keras.Sequential(
                [keras.layers.Embedding(5, 3, name="users"), keras.layers.Dense(3)]
            )
            self.item_embedding = keras.layers.Embedding(7, 3, dtype="bfloat16")

        def call(self, x: Any) -> Any:
            return self.tower(x[0]) * self.item_embedding(x[1])

    model = Towers()
    model([np.array([1]), np.array([2])])
    return model


def weights_of(layer: Any) -> Any:
    value = layer.embeddings.value.detach().float()
    return value.numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["object", "m.keras", "m.weights.h5", "m.h5", "m.keras.gz"])
def test_keras_model(tmp_path: Path, recommender: Any, kind: str) -> None:
    source: Any = recommender
    if kind != "object":
        source = tmp_path / kind.removesuffix(".gz")
        save = recommender.save_weights if "weights" in kind else recommender.save
        save(source)
    if kind.endswith(".gz"):
        data = gzip.compress(source.read_bytes())
        source = tmp_path / kind
        source.write_bytes(data)
    items = weights_of(recommender.get_layer("item_embedding"))
    biases = weights_of(recommender.get_layer("item_bias"))
    found, _, vectors = opened(source, vectors="item_embedding", ids=range(7), fold=True)
    np.testing.assert_array_equal(vectors, np.hstack([items, biases]))
    _, _, vectors = opened(source, vectors="user_embedding", ids=range(5))
    np.testing.assert_array_equal(vectors, weights_of(recommender.get_layer("user_embedding")))
    refused(source, "vectors could be .*'user_embedding'")
    assert found.provenance["format"] == "keras"
    if "weights" not in kind:
        assert found.trainer == "keras.Functional"
        assert (found.params["input_dim"], found.params["output_dim"]) == (7, 3)
        assert "3." in str(found.params.get("keras_version", found.params.get("library")))


@pytest.mark.parametrize("kind", ["object", "m.keras", "m.weights.h5"])
def test_keras_subclass(tmp_path: Path, subclassed: Any, kind: str) -> None:
    source: Any = subclassed
    if kind != "object":
        source = tmp_path / kind
        (subclassed.save if kind == "m.keras" else subclassed.save_weights)(source)
    found, _, vectors = opened(source, vectors="item_embedding", ids=range(7))
    np.testing.assert_array_equal(vectors, weights_of(subclassed.item_embedding))
    assert vectors.dtype == np.float32
    _, _, vectors = opened(source, vectors="users", ids=range(5))
    np.testing.assert_array_equal(vectors, weights_of(subclassed.tower.layers[0]))
    assert str(found.trainer).endswith("keras" if kind == "m.weights.h5" else "Towers")


def test_keras_embedding_layer(keras: Any, tmp_path: Path) -> None:
    layer = keras.layers.Embedding(40_000, 16)
    refused(layer, "call it on data once")
    layer.build()
    found, _, vectors = opened(layer, ids="row-number")
    np.testing.assert_array_equal(vectors, weights_of(layer))
    assert found.trainer == "keras.layers.Embedding"
    model = keras.Sequential([layer, keras.layers.Flatten(), keras.layers.Dense(2)])
    model.build((None, 2))
    for name in ("m.keras", "m.weights.h5"):
        (model.save if name == "m.keras" else model.save_weights)(tmp_path / name)
        found, _, vectors = opened(tmp_path / name, ids="row-number")  # in several blocks
        np.testing.assert_array_equal(vectors, weights_of(layer))
        assert found.rows == 40_000


def test_keras_files_that_name_no_layers(tmp_path: Path, recommender: Any) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "m.keras"
    recommender.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as root:
        root.visititems(lambda name, item: item.attrs.pop("name", None) and None)
    (tmp_path / "m.weights.h5").write_bytes(weights.getvalue())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (members | {"model.weights.h5": weights.getvalue()}).items():
            archive.writestr(name, data)
    items = weights_of(recommender.get_layer("item_embedding"))
    np.testing.assert_array_equal(opened(path, vectors="item_embedding", ids=range(7))[2], items)
    source = tmp_path / "m.weights.h5"
    for name in ("embedding_1", "layers/embedding_1", "layers/embedding_1/vars/0"):
        np.testing.assert_array_equal(opened(source, vectors=name, ids=range(7))[2], items)


def archive_of(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)


def hdf5(path: Path, write: Callable[[Any], None]) -> None:
    h5py = pytest.importorskip("h5py")
    inner = io.BytesIO()
    with h5py.File(inner, "w") as root:
        write(root.create_group("layers/embedding/vars"))
    archive_of(path, config_json=b"{}", model_weights_h5=inner.getvalue())


def nested(group: Any) -> None:
    for _ in range(70):
        group = group.create_group("g")


def links(group: Any) -> None:
    h5py = pytest.importorskip("h5py")
    group["0"] = h5py.ExternalLink("/etc/passwd", "x")


def chunked(group: Any) -> None:
    group.create_dataset("0", data=clusters(50, 4), compression="gzip")


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: hdf5(path, chunked), "in chunks, compressed or empty"),
        (lambda path: hdf5(path, links), "is a link to something else"),
        (lambda path: hdf5(path, nested), "nested without end"),
        (lambda path: hdf5(path, lambda group: None), "vectors are not there"),
        (lambda path: archive_of(path, config_json=b"{}"), "has no model.weights.h5"),
        (lambda path: archive_of(path, config_json=bytes(80 << 20)), "decompression bomb"),
        (
            lambda path: archive_of(path, config_json=b"{", model_weights_h5=b"x"),
            "configuration is damaged",
        ),
        (
            lambda path: archive_of(path, config_json=b"[" * 100_000, model_weights_h5=b"x"),
            "configuration is damaged",
        ),
        (
            lambda path: archive_of(path, config_json=b"{}", model_weights_h5=b"x" * 99),
            "cannot be read as a file of Keras weights",
        ),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)), "cannot be read"),
    ],
)
def test_bad_keras_files(tmp_path: Path, write: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "m.keras"
    write(path)
    refused(path, says)


def test_a_damaged_text_in_hdf5_is_left_out(tmp_path: Path, recommender: Any) -> None:
    path = tmp_path / "m.weights.h5"
    recommender.save_weights(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL")
    # An object of no length and number 0, on which the HDF5 library hangs; then one without end.
    for size in (0, 1 << 62):
        data[at + 8 : at + 40] = size.to_bytes(8, "little") * 4
        path.write_bytes(data)
        found, _, _ = opened(path, vectors="embedding_1", ids=range(7))
        assert found.dim == 3


# --- All of them


@pytest.mark.filterwarnings("ignore")
def test_networks_become_versions(tmp_path: Path, store: Store, recommender: Any) -> None:
    torch.save(checkpoint(), tmp_path / "last.pt")
    small_onnx(tmp_path / "m.onnx")
    recommender.save(tmp_path / "m.keras")
    expected: list[tuple[Any, dict[str, Any], str, int, int]] = [
        (nn.Embedding(8, 3), {}, "torch.nn.Embedding", 8, 3),
        (MODEL, {"vectors": "item_embedding"}, "Factorization", 6, 3),
        (tmp_path / "last.pt", {}, "torch", 6, 3),
        (tmp_path / "m.onnx", {}, "pytorch", 50, 4),
        (tmp_path / "m.keras", {"vectors": "user_embedding"}, "keras.Functional", 5, 3),
        (recommender, {"vectors": "user_embedding"}, "keras.Functional", 5, 3),
    ]
    for number, (source, how, trainer, rows, dim) in enumerate(expected):
        table = store.create_table(f"t{number}")
        version = table.load(source, ids="row-number", index="none", **how)
        assert str(version.trainer).endswith(trainer)
        assert (version.rows, version.dim) == (rows, dim)
        assert json.dumps(version.params)
    with pytest.raises(EmbstoreError, match="could be"):
        table.load(recommender, ids="row-number")
