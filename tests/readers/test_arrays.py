"""Array and index files, written by the libraries that they come from."""

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embstore import BadInput, EmbstoreError, Store
from embstore.readers import Opened, Wanted, open_source
from tests.fix_data import clusters

h5py = pytest.importorskip("h5py")
faiss = pytest.importorskip("faiss")
VECTORS = clusters(3000, 16)  # several blocks in the wider types
IDS = np.arange(3000) * 7 + 5


def opened(
    path: Path, format: str | None = None, **how: Any
) -> tuple[Opened, dict[str, list[Any]], Any]:
    """The source, its ids and attributes, and its vectors."""
    with open_source(path, Wanted(**how), format=format) as found:
        table = pa.Table.from_batches(list(found.batches), found.schema)
    vectors = np.asarray(table.column("embedding").combine_chunks().flatten())
    beside = table.drop_columns(["embedding"]).to_pydict()
    return found, beside, vectors.reshape(-1, found.dim)


def packed(path: Path) -> Path:
    aside = path.with_name(path.name + ".gz")
    aside.write_bytes(gzip.compress(path.read_bytes(), 1))
    return aside


# --- safetensors


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i4", "u8"])
def test_safetensors(tmp_path: Path, dtype: str) -> None:
    save = pytest.importorskip("safetensors.numpy").save_file
    path = tmp_path / "m.safetensors"
    matrix = np.abs(VECTORS * 50).astype(dtype)
    tensors = {"items.weight": matrix, "items.ids": IDS, "items.bias": VECTORS[:, 0].copy()}
    save(tensors | {"other": np.ones(3)}, path, {"format": "pt", "epochs": "7"})
    for each in (path, packed(path)):
        found, beside, vectors = opened(each)
        np.testing.assert_array_equal(vectors, matrix.astype(vectors.dtype))
        assert vectors.dtype == (dtype if dtype[0] == "f" else "f4")
        assert beside["id"] == IDS.tolist()
        np.testing.assert_array_equal(beside["items.bias"], VECTORS[:, 0])
        assert found.params == {"format": "pt", "epochs": "7"}
        assert (found.rows, found.provenance["format"]) == (3000, "safetensors")
    assert opened(path, ids="row-number")[1]["id"][-1] == 2999
    folded = opened(path, fold=True)[2]
    np.testing.assert_allclose(folded[:, -1], VECTORS[:, 0], rtol=1e-3)


def test_safetensors_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    path = tmp_path / "nameless"
    matrix = torch.from_numpy(VECTORS).to(torch.bfloat16)
    matrix[0, :3] = torch.tensor([float("inf"), -0.0, 1e-40])
    eight = torch.ones(4, 4, dtype=torch.float8_e4m3fn)
    save({"a.weight": matrix, "b.weight": torch.ones(2, 3), "c": eight}, path)
    _, _, vectors = opened(path, vectors="a.weight", ids="row-number")
    np.testing.assert_array_equal(vectors.view("u4"), matrix.float().numpy().view("u4"))
    with pytest.raises(BadInput, match=r"could be '[ab]\.weight', '[ab]\.weight'"):
        opened(path, ids="row-number")
    with pytest.raises(BadInput, match="tensor 'c' holds F8_E4M3"):
        opened(path, vectors="c", ids="row-number")
    with pytest.raises(BadInput, match=r"ids of a\.weight are not there"):
        opened(path, vectors="a.weight")


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: Any, *offsets: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


TWO = entry([2, 1], 0, 8)
TENSORS: list[tuple[str, bytes, str]] = [
    ("huge header", safetensors(b"{}", length=17 << 20), "header claims 17825792 bytes"),
    ("longer than the file", safetensors(b"{}", length=99), "header claims 99 bytes"),
    ("no json", safetensors(b"{'a'"), "cannot be read as a safetensors file"),
    ("deep json", safetensors(b'{"a":' * 200_000), "cannot be read as a safetensors file"),
    ("no tensors", safetensors({}), "the vectors are not there"),
    ("twice", safetensors(b'{"a": 1, "a": 2}'), "a name is there twice"),
    ("truncated", safetensors({"a": TWO}, b"1234"), "declares 8 bytes of data and has 4"),
    ("trailing", safetensors({"a": TWO}, b"123456789"), "declares 8 bytes of data and has 9"),
    ("gap", safetensors({"a": entry([2, 1], 4, 12)}, b"0" * 12), "'a' does not begin where"),
    ("overlap", safetensors({"a": TWO, "b": TWO}, b"0" * 8), "'b' does not begin where"),
    ("other size", safetensors({"a": entry([3, 1], 0, 8)}, b"0" * 8), "declares 12 bytes and has"),
    ("huge shape", safetensors({"a": entry([2**62, 2**62], 0, 8)}, b"0" * 8), "declares .* bytes"),
    ("negative", safetensors({"a": entry([-2, -1], 0, 8)}, b"0" * 8), "no valid type, shape"),
    ("backwards", safetensors({"a": entry([0, 1], 8, 0)}, b"0" * 8), "declares 0 bytes and has -8"),
    ("true", safetensors({"a": entry([2, True], 0, 8)}, b"0" * 8), "no valid type, shape"),
    ("many axes", safetensors({"a": entry([1] * 40, 0, 4)}, b"0" * 4), "no valid type, shape"),
    ("no entry", safetensors({"a": {"dtype": "F32"}}), "cannot be read as a safetensors file"),
    ("odd name", safetensors({"a\n": TWO}, b"0" * 8), "cannot be printed"),
    ("many", safetensors({str(i): 1 for i in range(10_001)}), "has 10001 tensors"),
    ("metadata", safetensors({"__metadata__": 3}), "metadata that are none"),
    ("no rows", safetensors({"a": entry([0, 4], 0, 0)}), "holds no rows"),
]


@pytest.mark.parametrize(
    ("data", "says"), [each[1:] for each in TENSORS], ids=[each[0] for each in TENSORS]
)
def test_bad_safetensors(tmp_path: Path, data: bytes, says: str) -> None:
    refused(tmp_path / "m.safetensors", data, says, ids="row-number")


def refused(path: Path, data: bytes, says: str, **how: Any) -> None:
    path.write_bytes(data)
    with pytest.raises(EmbstoreError, match=says) as caught:
        opened(path, **how)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


# --- .fvecs and .fbin


def vecs(matrix: Any) -> bytes:
    """As faiss.contrib.vecs_io and INRIA's tools write them."""
    dims = np.full((len(matrix), 1), matrix.shape[1], "<i4").view("u1")
    rows = np.ascontiguousarray(matrix).view("u1").reshape(len(matrix), -1)
    return np.hstack([dims, rows]).tobytes()


def bin_of(matrix: Any) -> bytes:
    return struct.pack("<II", *matrix.shape) + bytes(matrix.tobytes())


@pytest.mark.parametrize(
    ("ending", "dtype", "write"),
    [
        ("fvecs", "<f4", vecs),
        ("bvecs", "u1", vecs),
        ("ivecs", "<i4", vecs),
        ("fbin", "<f4", bin_of),
        ("f16bin", "<f2", bin_of),
        ("fp16bin", "<f2", bin_of),
        ("u8bin", "u1", bin_of),
        ("i8bin", "i1", bin_of),
        ("ibin", "<i4", bin_of),
    ],
)
def test_bare_vectors(
    tmp_path: Path, ending: str, dtype: str, write: Callable[[Any], bytes]
) -> None:
    # 640 (80 02 00 00) begins like a pickle, as a dim of .fvecs and as the rows of .fbin.
    matrix = np.abs(clusters(640, 640) * 20).astype(dtype)
    path = tmp_path / f"base.{ending}"
    path.write_bytes(write(matrix))
    for each in (path, packed(path)):
        found, beside, vectors = opened(each, ids=range(5, 645))
        np.testing.assert_array_equal(vectors, matrix.astype(vectors.dtype))
        assert beside["id"] == list(range(5, 645))
        assert found.rows == 640
    nameless = tmp_path / "nameless"
    nameless.write_bytes(write(matrix))
    named = ending.replace("fp16", "f16")
    np.testing.assert_array_equal(opened(nameless, named, ids="row-number")[2], vectors)


ONES = np.ones((3, 4), "<f4")
BARE: list[tuple[str, str, bytes, str]] = [
    ("vecs cut", "b.fvecs", vecs(ONES)[:-1], "no whole number of rows of 4 dim.*truncated"),
    ("vecs other dim", "b.bvecs", vecs(ONES), "no whole number of rows"),
    (
        "vecs row",
        "b.fvecs",
        vecs(ONES)[:40] + struct.pack("<i", 9) + ONES[0].tobytes(),
        "row 3 declares 9 dimensions where the first row has 4",
    ),
    ("vecs negative", "b.fvecs", struct.pack("<i", -2) + ONES.tobytes(), "rows of -2 dimensions"),
    ("vecs no dim", "b.fvecs", struct.pack("<i", 0) * 4, "rows of 0 dimensions"),
    ("vecs huge", "b.fvecs", struct.pack("<i", 2**31 - 1), "no whole number of rows"),
    ("vecs short", "b.fvecs", b"\1", "ends 3 bytes early"),
    (
        "bin cut",
        "b.fbin",
        bin_of(ONES)[:-1],
        "3 rows of 4 dimensions, 48 bytes, and has 47",
    ),
    ("bin more", "b.fbin", bin_of(ONES) + b"1", "48 bytes, and has 49"),
    ("bin huge", "b.u8bin", struct.pack("<II", 2**31, 2**31), "and has 0"),
    ("bin no rows", "b.fbin", struct.pack("<II", 0, 4), "holds no rows"),
    ("bin no dim", "b.fbin", struct.pack("<II", 4, 0), "no components"),
    ("packed bin cut", "b.fbin.gz", gzip.compress(bin_of(ONES)[:-1]), "ends 1 bytes early"),
    ("packed bin more", "b.fbin.gz", gzip.compress(bin_of(ONES) + b"1"), "goes on behind its 3"),
]


@pytest.mark.parametrize(
    ("name", "data", "says"), [each[1:] for each in BARE], ids=[each[0] for each in BARE]
)
def test_bad_bare_vectors(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    refused(tmp_path / name, data, says, ids="row-number")


def test_bare_vectors_need_ids(tmp_path: Path) -> None:
    refused(tmp_path / "b.fbin", bin_of(ONES), "give their ids")
    refused(tmp_path / "b.fvecs", vecs(ONES), "leave --vectors out", vectors="a", ids=[1])
    refused(tmp_path / "b.fvecs", vecs(ONES), "2 ids for 3 vectors", ids=[1, 2])


# --- HDF5


def hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["items/vectors"] = VECTORS
        file["items/ids"] = [f"wörd{i}" for i in range(3000)]
        file["items/bias"] = np.arange(3000.0)
        file.create_dataset(
            "users/vectors", data=VECTORS.astype(">f8"), chunks=(100, 3), compression="gzip"
        )
        file["users/ids"] = IDS.astype(">u4")
        file["users/active"] = IDS % 2 == 0
        file["users/again"] = file["/"]  # a cycle
        file["words"] = np.array([b"a", b"b"])
        file["soft"] = h5py.SoftLink("/items/vectors")
        file["beyond"] = h5py.ExternalLink(str(path.with_name("other.h5")), "/vectors")
        layout = h5py.VirtualLayout((3000, 16), "f4")
        layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "vectors", (3000, 16))
        file.create_virtual_dataset("virtual", layout)
        outside = [(str(path.with_name("raw")), 0, VECTORS.nbytes)]
        file.create_dataset("outside", (3000, 16), "f4", external=outside)
        file["pairs"] = np.zeros((3000, 2), [("a", "f4"), ("b", "f4")])
        file.attrs.update({"epochs": 7, "model": "als", "rates": [0.5, 0.1], "big": np.ones(99)})
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["vectors"] = VECTORS
    return path


def test_hdf5(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "m.h5")
    for each in (path, packed(path)):
        found, beside, vectors = opened(each, vectors="items/vectors")
        np.testing.assert_array_equal(vectors, VECTORS)
        assert beside["id"] == [f"wörd{i}" for i in range(3000)]
        assert beside["items/bias"] == list(range(3000))
        assert found.params == {"epochs": 7, "model": "als", "rates": [0.5, 0.1]}
    found, beside, vectors = opened(path, vectors="/users/vectors")
    np.testing.assert_array_equal(vectors, VECTORS.astype("f8"))
    assert beside == {"id": IDS.tolist(), "users/active": (IDS % 2 == 0).tolist()}
    assert opened(path, vectors="users/vectors", ids="items/ids")[1]["id"][1] == "wörd1"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({}, "could be 'items/vectors', 'users/vectors'; say with --vectors"),
        ({"vectors": "beyond"}, "'beyond' cannot be read: it is a link"),
        ({"vectors": "soft"}, "'soft' cannot be read: it is a link"),
        ({"vectors": "virtual"}, "takes its data from other files"),
        ({"vectors": "outside"}, "its data are in another file"),
        ({"vectors": "pairs"}, "neither numbers nor text"),
        ({"vectors": "items/vectors", "ids": "soft"}, "'soft' cannot be read"),
        ({"vectors": "items/bias"}, "no two-dimensional array 'items/bias'"),
        ({"vectors": "users/vectors", "ids": "words"}, "2 ids for 3000 vectors"),
    ],
)
def test_what_hdf5_does_not_give(tmp_path: Path, how: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        opened(hdf5(tmp_path / "m.h5"), **how)
    assert "m.h5" in str(caught.value)


def test_ann_benchmarks(tmp_path: Path) -> None:
    path = tmp_path / "glove-25-angular.hdf5"
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = VECTORS, VECTORS[:9]
        file["neighbors"], file["distances"] = np.ones((9, 100), "i4"), np.ones((9, 100), "f4")
        file.attrs["distance"] = "angular"
    found, beside, vectors = opened(path)
    np.testing.assert_array_equal(vectors, VECTORS)
    assert beside["id"] == list(range(3000))
    assert found.params["distance"] == "angular"
    assert len(opened(path, vectors="test")[2]) == 9
    assert opened(path, ids=IDS)[1]["id"] == IDS.tolist()


def test_hdf5_that_was_never_written(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", (10**9, 64), "f4", chunks=(1000, 64))
    with pytest.raises(BadInput, match=r"m\.h5: v unpacks to more than 200 times"):
        opened(path, ids="row-number")


def test_hdf5_of_texts_without_end(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["v"] = np.ones((4000, 2), "f4")
        words = np.full(4000, b"x" * 20_000)
        file.create_dataset("ids", data=words, compression="gzip", chunks=(100,))
    with pytest.raises(BadInput, match=r"m\.h5: ids unpacks to more than 200 times"):
        opened(path)


# --- Faiss


def index_of(kind: str, path: Path, ids: Any = None) -> Any:
    index = faiss.index_factory(16, kind)
    index.train(VECTORS)
    if ids is None:
        index.add(VECTORS)
    else:
        index.add_with_ids(VECTORS, ids)
    faiss.write_index(index, str(path))
    return index


@pytest.mark.parametrize(
    ("kind", "own", "shown", "error"),
    [
        ("Flat", False, "IndexFlatL2", 0),
        ("IDMap,Flat", True, "IndexIDMap(IndexFlatL2)", 0),
        ("IDMap2,Flat", True, "IndexIDMap2(IndexFlatL2)", 0),
        ("HNSW8", False, "IndexHNSWFlat", 0),
        ("IDMap,HNSW8", True, "IndexIDMap(IndexHNSWFlat)", 0),
        ("IVF8,Flat", False, "IndexIVFFlat", 0),
        ("IVF8,Flat", True, "IndexIVFFlat", 0),
        ("IDMap,IVF8,SQ8", True, "IndexIDMap(IndexIVFScalarQuantizer)", 0.05),
        ("PCA16,IVF8,Flat", True, "IndexPreTransform(IndexIVFFlat)", 1e-4),
        ("PCA16,Flat", False, "IndexPreTransform(IndexFlatL2)", 1e-4),
        ("IVF8,SQ4,RFlat", False, "IndexRefineFlat(IndexFlatL2)", 0),
    ],
)
def test_faiss(tmp_path: Path, kind: str, own: bool, shown: str, error: float) -> None:
    path = tmp_path / "nameless"
    ids = np.random.default_rng(0).permutation(IDS) if own else None
    index = index_of(kind, path, ids)
    found, beside, vectors = opened(path)
    rows = dict(zip(beside["id"], vectors, strict=True))
    assert (len(rows), found.rows) == (3000, 3000)
    expected = dict(zip(range(3000) if ids is None else ids.tolist(), VECTORS, strict=True))
    worst = max(np.abs(rows[key] - vector).max() for key, vector in expected.items())
    assert worst <= error
    assert (found.params["index"], found.params["metric"]) == (shown, "l2")
    if "IVF" in kind and "RFlat" not in kind:
        assert found.params["nlist"] == 8
    del index


def test_faiss_flat_of_other_metrics(tmp_path: Path) -> None:
    for number, name in ((faiss.METRIC_INNER_PRODUCT, "ip"), (faiss.METRIC_Lp, 4)):
        index = faiss.IndexFlat(16, number)
        index.add(VECTORS)
        faiss.write_index(index, str(tmp_path / "a.faiss"))
        for each in (tmp_path / "a.faiss", packed(tmp_path / "a.faiss")):
            found, _, vectors = opened(each)
            np.testing.assert_array_equal(vectors, VECTORS)
            assert found.params["metric"] == name


def test_faiss_ids_from_elsewhere(tmp_path: Path) -> None:
    names = [f"i{i}" for i in range(3000)]
    order = np.random.default_rng(0).permutation(3000)
    index_of("Flat", tmp_path / "flat")
    index_of("IDMap,Flat", tmp_path / "mapped", order)
    index_of("IDMap,Flat", tmp_path / "far", IDS)
    assert opened(tmp_path / "flat", ids=names)[1]["id"] == names
    # By the label that a search returns, wherever the row lies.
    assert opened(tmp_path / "mapped", ids=names)[1]["id"] == [names[i] for i in order]
    _, beside, vectors = opened(tmp_path / "far", ids={"b": IDS[2], "a": IDS[9], "z": 1})
    assert beside["id"] == ["b", "a"]
    np.testing.assert_array_equal(vectors, VECTORS[[2, 9]])
    with pytest.raises(BadInput, match=r"far has ids of its own, 5 to 20998, .*leave --ids out"):
        opened(tmp_path / "far", ids=names)
    assert opened(tmp_path / "far", ids="row-number")[1]["id"] == list(range(3000))
    with pytest.raises(BadInput, match="leave --vectors out"):
        opened(tmp_path / "flat", vectors="a")


def test_faiss_codes_may_be_short(tmp_path: Path) -> None:
    index = faiss.IndexLSH(2048, 16)  # two bytes that stand for 8 KB
    index.add(np.ones((9000, 2048), "f4"))
    faiss.write_index(index, str(tmp_path / "a.faiss"))
    with open_source(tmp_path / "a.faiss") as found:
        assert sum(each.num_rows for each in found.batches) == 9000


def test_what_faiss_does_not_give(tmp_path: Path) -> None:
    path = tmp_path / "a.faiss"
    index_of("IVF8,PQ4x4fs", path)
    with pytest.raises(BadInput, match=r"a\.faiss.*cannot reconstruct .* an IndexIVFPQFastScan"):
        opened(path)
    binary = faiss.IndexBinaryFlat(64)
    binary.add(np.ones((5, 8), "u1"))
    faiss.write_index_binary(binary, str(path))
    with pytest.raises(BadInput, match=r"a\.faiss is a binary index"):
        opened(path)
    # Its vectors are in another file, whose path is in this one.
    index = index_of("IVF8,Flat", path)
    lists = faiss.OnDiskInvertedLists(8, index.code_size, str(tmp_path / "lists"))
    lists.merge_from(faiss.downcast_InvertedLists(index.invlists), 0)
    index.replace_invlists(lists)
    faiss.write_index(index, str(path))
    with pytest.raises(BadInput, match=r"a\.faiss cannot be read"):
        opened(path)


def flat(rows: int = 2, values: int = 8, dim: int = 4, kind: bytes = b"IxF2") -> bytes:
    head = struct.pack("<4siqqq?i", kind, dim, rows, 1 << 20, 1 << 20, True, 1)
    return head + struct.pack("<Q", values)


FLAT = flat() + b"\0" * 32
MAP = flat(kind=b"IxMp")[:-8]
FAISS: list[tuple[str, bytes, str]] = [
    ("cut", FLAT[:-1], "declares 2 vectors of 4 dimensions"),
    ("more", FLAT + b"1", "declares 2 vectors of 4 dimensions"),
    ("rows", flat(2**60), "declares 1152921504606846976 vectors"),
    ("rows and values", flat(2**60, 2**62), "declares 1152921504606846976 vectors"),
    ("values", flat(2, 2**62), "declares 2 vectors"),
    ("negative", flat(-1), "no header that Faiss writes"),
    ("no dim", flat(dim=0), "no header that Faiss writes"),
    ("no rows", flat(0, 0), "holds no rows"),
    ("header", FLAT[:20], "ends 17 bytes early"),
    ("map without ids", MAP + FLAT, "ends 8 bytes early"),
    ("map of fewer", MAP + FLAT + struct.pack("<Qq", 1, 7), "declares 2 vectors"),
    ("map of many", MAP + FLAT + struct.pack("<Qqq", 2**60, 7, 8), "declares 2 vectors"),
    ("other kind", flat(kind=b"IxXX"), "cannot be read: (?!Error in).*IxXX"),
    ("hnsw of many", flat(2**50, 2**50, kind=b"IHNf") + b"\xff" * 99, "cannot be read"),
]


@pytest.mark.parametrize(
    ("data", "says"), [each[1:] for each in FAISS], ids=[each[0] for each in FAISS]
)
def test_bad_faiss(tmp_path: Path, data: bytes, says: str) -> None:
    refused(tmp_path / "a.faiss", data, says)


def test_faiss_that_goes_on(tmp_path: Path) -> None:
    index_of("HNSW8", tmp_path / "a.faiss")
    whole = (tmp_path / "a.faiss").read_bytes()
    refused(tmp_path / "a.faiss", whole + b"1", "goes on behind the index")
    refused(tmp_path / "a.faiss", whole[:-1], "cannot be read")


# --- all of them


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.parametrize("name", ["a.safetensors", "a.fvecs", "a.u8bin", "a.faiss"])
@given(data=st.data())
def test_damaged_headers_never_crash(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Whatever is cut, flipped or put in, it loads or it is an EmbstoreError."""
    whole = bytearray(
        {
            "a.safetensors": safetensors({"a": TWO, "b": entry([2], 8, 16)}, b"\0" * 16),
            "a.fvecs": vecs(ONES),
            "a.u8bin": bin_of(ONES.astype("u1")),
            "a.faiss": MAP + FLAT + struct.pack("<Qqq", 2, 7, 8),
        }[name]
    )
    # The first four bytes say what it is; others are tried with whole files.
    place = data.draw(st.integers(4, len(whole) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if how == "flip":
        whole[place] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del whole[place:]
    else:
        whole[place:place] = data.draw(st.binary(min_size=1, max_size=9))
    if name == "a.faiss" and bytes(whole[37:41]) != b"IxF2":
        return  # what Faiss reads is a slower test's
    path = tmp_path / name
    path.write_bytes(whole)
    try:
        opened(path, ids="row-number")
    except EmbstoreError as error:
        assert name in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("name", ["a.h5", "a.faiss"])
def test_damaged_files_crash_another_process(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("v", data=VECTORS[:200], chunks=(50, 16), compression="gzip")
    else:
        index_of("IVF8,Flat", path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(5):
        data = bytearray(whole)
        for place in rng.integers(8, min(len(data), 3000), 12):
            data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:
            opened(path, ids="row-number")
        except EmbstoreError as error:
            assert name in str(error) and "\n" not in str(error)


def test_the_other_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["v"] = np.ones((200_000, 16), "f4")
    before = children()
    with open_source(path, Wanted(ids="row-number")) as found:
        assert next(found.batches).num_rows
        assert len(children()) == len(before) + 1
    assert children() == before


def children() -> set[str]:
    import psutil

    return {str(each.pid) for each in psutil.Process(os.getpid()).children()}


def test_they_become_versions(store: Store, tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.numpy").save_file
    save({"weight": VECTORS, "ids": IDS, "bias": VECTORS[:, 0].astype("f2")}, tmp_path / "a.st")
    hdf5(tmp_path / "a.h5")
    index_of("IDMap,HNSW8", tmp_path / "a.faiss", IDS)
    (tmp_path / "a.fvecs").write_bytes(vecs(VECTORS))
    np.save(tmp_path / "ids.npy", IDS)
    how: dict[str, dict[str, Any]] = {
        "a.st": {},
        "a.h5": {"vectors": "users/vectors"},
        "a.faiss": {},
        "a.fvecs": {"ids": tmp_path / "ids.npy"},
    }
    table = store.create_table("items")
    for name, options in how.items():
        version = table.load(tmp_path / name, index="none", **options)
        np.testing.assert_array_equal(version.lookup(IDS).vectors, VECTORS)
    assert version.number == 4
    assert store["items@3"].params["m"] == 8
