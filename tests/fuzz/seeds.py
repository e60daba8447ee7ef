"""Small valid files of every format, written by the libraries whose formats they are.

The key is the name of a format or one of its endings without the dot, so that a format finds its
seeds whatever its module is called.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embstore.readers.registry import Format

ROWS, DIM = 6, 3
VECTORS: NDArray[np.float32] = np.linspace(-1.75, 2.5, ROWS * DIM, dtype="f4").reshape(ROWS, DIM)
WORDS = [f"wörd{i}" for i in range(ROWS)]
ROW_NUMBERS: Mapping[str, Any] = {"ids": "row-number"}


@dataclass(frozen=True)
class Seed:
    """A file and what the user says about it.

    Attributes
    ----------
    how : mapping
        Arguments of `Wanted`.
    refused : bool
        The reader refuses it as it is.
    """

    name: str
    data: bytes
    how: Mapping[str, Any] = field(default_factory=dict)
    refused: bool = False


def packed(seed: Seed) -> list[Seed]:
    """Return the seed, and what gzip and zstd make of it."""
    return [
        seed,
        Seed(f"{seed.name}.gz", gzip.compress(seed.data, mtime=0), seed.how, seed.refused),
        Seed(
            f"{seed.name}.zst",
            pa.compress(seed.data, codec="zstd", asbytes=True),
            seed.how,
            seed.refused,
        ),
    ]


def written(write: Callable[[str], object], name: str) -> bytes:
    """Return what ``write`` puts under a path that ends in ``name``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(str(path))
        return path.read_bytes()


def _saved(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _npy() -> list[Seed]:
    arrays = {
        "f4": VECTORS,
        "f8": VECTORS.astype("f8"),
        "f2": VECTORS.astype("f2"),
        "big": VECTORS.astype(">f4"),
        "fortran": np.asfortranarray(VECTORS),
        "i2": np.arange(8, dtype="i2").reshape(4, 2),
    }
    plain = [Seed(f"{key}.npy", _saved(array), ROW_NUMBERS) for key, array in arrays.items()]
    return [*plain, *packed(plain[0])[1:], packed(plain[4])[1]]


def _npz() -> list[Seed]:
    def save(how: Callable[..., None], **arrays: Any) -> bytes:
        out = io.BytesIO()
        how(out, **arrays)
        return out.getvalue()

    factors = {"ids": np.array(WORDS), "factors": VECTORS, "bias": np.arange(float(ROWS))}
    two = {
        "item_ids": np.arange(ROWS),
        "item_factors": np.asfortranarray(VECTORS),
        "item_bias": np.ones(ROWS, "f4"),
        "user_factors": VECTORS[:2],
    }
    seeds = [
        Seed("a.npz", save(np.savez, **factors)),
        Seed("z.npz", save(np.savez_compressed, **factors)),
        Seed("two.npz", save(np.savez, **two), {"vectors": "item_factors"}),
        Seed("fold.npz", save(np.savez, **factors), {"biases": "bias", "fold": True}),
    ]
    return [*seeds, *packed(seeds[0])[1:]]


def tables() -> dict[str, pa.Table]:
    """Return tables with vectors and columns of many types."""
    flat = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), DIM)
    lists = pa.array(VECTORS.astype("f8").tolist())
    numbers = pa.array(range(ROWS))
    return {
        "plain": pa.table({"id": WORDS, "embedding": flat}),
        "lists": pa.table({"id": numbers, "v": lists}),
        "half": pa.table({"id": numbers, "v": flat.cast(pa.list_(pa.float16(), DIM))}),
        "large": pa.table(
            {
                "id": pa.array(WORDS, pa.large_string()),
                "v": lists.cast(pa.large_list(pa.float32())),
            }
        ),
        "columns": pa.table({"id": numbers, "v0": VECTORS[:, 0], "v1": VECTORS[:, 1]}),
        "dictionary": pa.table(
            {"id": pa.array(WORDS).dictionary_encode(), "v": flat, "t": pa.array(["a", None] * 3)}
        ),
        "types": pa.table(
            {
                "id": numbers.cast(pa.uint64()),
                "v": flat,
                "day": pa.array(range(ROWS), pa.int32()).cast(pa.date32()),
                "at": numbers.cast(pa.timestamp("ns", "Europe/Paris")),
                "flag": pa.array([True, None] * 3),
                "tags": pa.array([["a"], [], None] * 2),
                "more": pa.array([{"a": 1}, {"a": None}, None] * 2),
                "money": pa.array([1, 2, None] * 2).cast(pa.decimal128(25, 2)),
                "nothing": pa.nulls(ROWS),
                "kind": pa.array(["x", "y", None] * 2).dictionary_encode(),
            }
        ),
        "view": pa.table({"id": pa.array(WORDS, pa.string_view()), "v": flat}),
    }


def _parquet() -> list[Seed]:
    def write(table: pa.Table, **how: Any) -> bytes:
        out = io.BytesIO()
        pq.write_table(table, out, **how)
        return out.getvalue()

    found = tables()
    view = found.pop("view")
    seeds = [Seed(f"{key}.parquet", write(table)) for key, table in found.items()]
    plain = found["plain"]
    return [
        *seeds,
        Seed("view.parquet", write(view)),
        Seed("small.parquet", write(plain, compression="none", use_dictionary=False)),
        Seed("groups.parquet", write(plain, compression="zstd", row_group_size=2)),
        Seed("v2.parquet", write(plain, compression="gzip", data_page_version="2.0")),
        Seed(
            "split.parquet",
            write(
                found["lists"],
                use_byte_stream_split=["v.list.element"],
                use_dictionary=False,
                compression="none",
            ),
        ),
        Seed(
            "delta.parquet",
            write(plain, use_dictionary=False, column_encoding={"id": "DELTA_BYTE_ARRAY"}),
        ),
        *packed(seeds[0])[1:],
    ]


def _arrow() -> list[Seed]:
    def stream(table: pa.Table, **how: Any) -> bytes:
        out = io.BytesIO()
        with ipc.new_stream(out, table.schema, options=ipc.IpcWriteOptions(**how)) as writer:
            writer.write_table(table, max_chunksize=4)
        return out.getvalue()

    def file(table: pa.Table, **how: Any) -> bytes:
        out = io.BytesIO()
        feather.write_feather(table, out, **how)
        return out.getvalue()

    found = tables()
    seeds = [Seed(f"{key}.arrows", stream(table)) for key, table in found.items()]
    seeds += [
        Seed(f"{key}.feather", file(table, compression="uncompressed"))
        for key, table in found.items()
    ]
    return [
        *seeds,
        Seed("lz4.feather", file(found["types"], compression="lz4")),
        Seed("zstd.arrows", stream(found["plain"], compression="zstd")),
        *packed(seeds[0])[1:],
    ]


def _delimited() -> list[Seed]:
    head = ",".join(["id", *(f"v{i}" for i in range(DIM)), "title"])
    rows = [f'{i},{",".join(map(repr, v.tolist()))},"t {i}"' for i, v in enumerate(VECTORS)]
    wide = "\n".join([head, *rows, ""]).encode()
    lists = [f'{w}\t"{v.tolist()}"' for w, v in zip(WORDS, VECTORS, strict=True)]
    seeds = [
        Seed("wide.csv", wide),
        Seed("lists.tsv", "\n".join(["id\tembedding", *lists, ""]).encode()),
        Seed("spaces.csv", b"id,v,year\r\na,0.5 1.5,1999\r\nb,1 2,\r\n", {"ids": "id"}),
    ]
    return [*seeds, *packed(seeds[0])[1:]]


def _jsonl() -> list[Seed]:
    def lines(*objects: Any) -> bytes:
        return "".join(json.dumps(each) + "\n" for each in objects).encode()

    plain = [{"id": w, "v": v.tolist()} for w, v in zip(WORDS, VECTORS, strict=True)]
    rich = [
        {"id": i, "v": [1, i], "t": f"ü{i}", "tags": ["a"], "o": {"x": 1.5}, "day": "2020-01-01"}
        for i in range(1, ROWS)
    ]
    seeds = [Seed("plain.jsonl", lines(*plain)), Seed("rich.jsonl", lines(*rich))]
    return [*seeds, *packed(seeds[0])[1:]]


def _word2vec() -> list[Seed]:
    def text(header: bool = True, end: str = "\n") -> bytes:
        rows = [
            f"{w} {' '.join(map(repr, v.tolist()))}" for w, v in zip(WORDS, VECTORS, strict=True)
        ]
        return (end.join([*([f"{ROWS} {DIM}"] if header else []), *rows]) + end).encode()

    seeds = [
        Seed("plain.vec", text()),
        Seed("original.vec", text(end=" \n")),
        Seed("glove.txt", text(header=False)),
        Seed("windows.vec", text(end="\r\n")),
    ]
    return [*seeds, *packed(seeds[0])[1:]]


def _word2vec_binary() -> list[Seed]:
    def binary(newline: bytes) -> bytes:
        rows = [
            w.encode() + b" " + v.astype("<f4").tobytes() + newline
            for w, v in zip(WORDS, VECTORS, strict=True)
        ]
        return f"{ROWS} {DIM}\n".encode() + b"".join(rows)

    seeds = [Seed("plain.bin", binary(b"")), Seed("original.bin", binary(b"\n"))]
    return [*seeds, *packed(seeds[0])[1:]]


def _libfm() -> list[Seed]:
    factors = "".join(" ".join(map(repr, v.tolist())) + "\n" for v in VECTORS)
    biases = "".join(f"{i / 8}\n" for i in range(ROWS))
    full = (
        f"#global bias W0\n0.5\n#unary interactions Wj\n{biases}"
        f"#pairwise interactions Vj,f\n{factors}"
    )
    seeds = [
        Seed("full.libfm", full.encode()),
        Seed("spaces.libfm", full.replace("\n", " \n").replace("f \n", "f\n").encode()),
        Seed("pairs.libfm", f"#pairwise interactions Vj,f\n{factors}".encode()),
        Seed("fold.libfm", full.encode(), {"fold": True}),
    ]
    return [*seeds, *packed(seeds[0])[1:]]


def _pickle() -> list[Seed]:
    # A name that the audit hook would see being looked up.
    call = b"\x80\x04cposix\nsystem\n(X\x05\x00\x00\x00false\x85R."
    return [
        Seed("a.pkl", pickle.dumps({"a": VECTORS}), refused=True),
        Seed("call.pkl", call, refused=True),
    ]


def _safetensors() -> list[Seed]:
    def save(dtype: str, arrays: Mapping[str, Any], **more: Any) -> bytes:
        at, header, body = 0, dict(more), b""
        for name, array in arrays.items():
            raw = array.tobytes()
            header[name] = {
                "dtype": dtype if array.dtype.kind != "i" else "I64",
                "shape": list(array.shape),
                "data_offsets": [at, at + len(raw)],
            }
            at += len(raw)
            body += raw
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + body

    upper = (VECTORS.view(np.uint32) >> 16).astype(np.uint16)
    seeds = [
        Seed("a.safetensors", save("F32", {"w": VECTORS}), ROW_NUMBERS),
        Seed(
            "ids.safetensors",
            save("F32", {"ids": np.arange(ROWS), "w": VECTORS}, __metadata__={"format": "pt"}),
            {"ids": "ids", "vectors": "w"},
        ),
        Seed("bf16.safetensors", save("BF16", {"w": upper}), ROW_NUMBERS),
        Seed("f16.safetensors", save("F16", {"w": VECTORS.astype("f2")}), ROW_NUMBERS),
    ]
    return [*seeds, packed(seeds[0])[1]]


def _vecs(kind: str, ending: str) -> Callable[[], list[Seed]]:
    def make() -> list[Seed]:
        rows = VECTORS.astype(kind) if kind == "<f4" else np.abs(VECTORS).astype(kind)
        data = b"".join(struct.pack("<i", DIM) + each.tobytes() for each in rows)
        seed = Seed(f"a.{ending}", data, ROW_NUMBERS)
        return packed(seed)[:2]

    return make


def _bigann(kind: str, ending: str) -> Callable[[], list[Seed]]:
    def make() -> list[Seed]:
        rows = VECTORS if kind == "<f4" else VECTORS.astype("i1").astype(kind)
        seed = Seed(f"a.{ending}", struct.pack("<II", ROWS, DIM) + rows.tobytes(), ROW_NUMBERS)
        return packed(seed)[:2]

    return make


def _hdf5() -> list[Seed]:
    import h5py

    def write(**how: Any) -> bytes:
        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            file.create_dataset("v", data=VECTORS, **how)
            file.create_dataset("ids", data=np.arange(ROWS))
        return out.getvalue()

    def benchmark() -> bytes:
        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            file.attrs["distance"] = "angular"
            file["train"] = VECTORS
            file["test"] = VECTORS[:2]
            file["neighbors"] = np.zeros((2, 2), "i4")
            file["distances"] = np.zeros((2, 2), "f4")
        return out.getvalue()

    return [
        Seed("a.hdf5", write(), {"ids": "ids", "vectors": "v"}),
        Seed("gzip.h5", write(compression="gzip", chunks=(2, DIM)), {"ids": "ids", "vectors": "v"}),
        Seed("ann.hdf5", benchmark()),
    ]


def _faiss() -> list[Seed]:
    import faiss

    def write(index: Any) -> bytes:
        return bytes(faiss.serialize_index(index).tobytes())

    flat = faiss.IndexFlatL2(DIM)
    flat.add(VECTORS)
    mapped = faiss.IndexIDMap2(faiss.IndexFlatIP(DIM))
    mapped.add_with_ids(VECTORS, np.arange(ROWS, dtype="i8") + 5)
    lists = faiss.index_factory(DIM, "IVF2,Flat")
    lists.train(VECTORS)
    lists.add(VECTORS)
    graph = faiss.IndexHNSWFlat(DIM, 4)
    graph.add(VECTORS)
    return [
        Seed("flat.faiss", write(flat), ROW_NUMBERS),
        Seed("mapped.faiss", write(mapped)),
        Seed("ivf.index", write(lists), ROW_NUMBERS),
        Seed("hnsw.index", write(graph), ROW_NUMBERS),
    ]


def _torch() -> list[Seed]:
    import torch

    def write(value: Any, **how: Any) -> bytes:
        out = io.BytesIO()
        torch.save(value, out, **how)
        return out.getvalue()

    weight = torch.from_numpy(VECTORS.copy())
    return [
        Seed("state.pt", write({"embedding.weight": weight}), ROW_NUMBERS),
        Seed("tensor.pth", write(weight), ROW_NUMBERS),
        Seed("half.pt", write({"state_dict": {"e.weight": weight.bfloat16()}}), ROW_NUMBERS),
        Seed(
            "legacy.pt",
            write({"e.weight": weight}, _use_new_zipfile_serialization=False),
            ROW_NUMBERS,
        ),
    ]


def _onnx() -> list[Seed]:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def write(weights: Any) -> bytes:
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        into = helper.make_tensor_value_info("x", TensorProto.INT64, None)
        node = helper.make_node("Gather", ["w", "x"], ["y"])
        graph = helper.make_graph([node], "g", [into], [out], [weights])
        return bytes(helper.make_model(graph).SerializeToString())

    assert onnx
    raw = numpy_helper.from_array(VECTORS, "w")
    typed = helper.make_tensor("w", TensorProto.FLOAT, VECTORS.shape, VECTORS.ravel().tolist())
    return [
        Seed("raw.onnx", write(raw), ROW_NUMBERS),
        Seed("typed.onnx", write(typed), ROW_NUMBERS),
    ]


def _keras() -> list[Seed]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Embedding(ROWS, DIM, name="items"), keras.layers.Flatten()]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own
        return [
            Seed("a.keras", written(model.save, "a.keras"), ROW_NUMBERS),
            Seed("a.weights.h5", written(model.save_weights, "a.weights.h5"), ROW_NUMBERS),
        ]


def _gensim() -> list[Seed]:
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(DIM)
    vectors.add_vectors(WORDS, VECTORS)
    return [Seed("a.kv", written(vectors.save, "a.kv"), refused=True)]


def _fasttext() -> list[Seed]:
    from gensim.models import FastText
    from gensim.models.fasttext import save_facebook_model

    model = FastText(
        [["alpha", "beta", "gamma"]] * 3,
        vector_size=DIM,
        min_count=1,
        bucket=20,
        epochs=1,
        workers=1,
    )
    return [Seed("a.bin", written(lambda path: save_facebook_model(model, path), "a.bin"))]


def _projector() -> list[Seed]:
    rows = "".join("\t".join(map(repr, v.tolist())) + "\n" for v in VECTORS)
    return [Seed("vectors.tsv", rows.encode(), ROW_NUMBERS)]


SEEDS: dict[str, Callable[[], list[Seed]]] = {
    "npy": _npy,
    "npz": _npz,
    "parquet": _parquet,
    "arrow": _arrow,
    "pickle": _pickle,
    "libfm": _libfm,
    "word2vec-binary": _word2vec_binary,
    "word2vec": _word2vec,
    "jsonl": _jsonl,
    "csv": _delimited,
    "safetensors": _safetensors,
    "fvecs": _vecs("<f4", "fvecs"),
    "bvecs": _vecs("u1", "bvecs"),
    "ivecs": _vecs("<i4", "ivecs"),
    "fbin": _bigann("<f4", "fbin"),
    "f16bin": _bigann("<f2", "f16bin"),
    "ibin": _bigann("<i4", "ibin"),
    "u8bin": _bigann("u1", "u8bin"),
    "i8bin": _bigann("i1", "i8bin"),
    "hdf5": _hdf5,
    "faiss": _faiss,
    "pt": _torch,
    "onnx": _onnx,
    "keras": _keras,
    "gensim": _gensim,
    "fasttext": _fasttext,
    "projector": _projector,
}

# What means something to a format, to stand in the place of something else.
WORDS_OF: dict[str, tuple[bytes, ...]] = {
    "npy": tuple(
        b"'|O' '<U3' '|S9' '<c8' '<f16' '>f8' '<M8[s]' '|V4' '|b1' True False (6,3) (0,3)"
        b" (3,) (6,3,1) (4294967296,4294967296) (18446744073709551616,1) '<f0' 'descr'".split()
    ),
    "safetensors": tuple(
        b'"F64" "BF16" "I64" "BOOL" "F8_E4M3" "U8" [0,0] [72,0] [0,18446744073709551615] [-1,3]'
        b' [6,3,1] "__metadata__" [] {} 1e9 null "w" "ids"'.split()
    ),
    "word2vec": (b"6", b"3", b"0", b"999999999999", b"6 3\n", b"</s>", b"0.5 " * 5),
    "csv": (b"id", b"v0", b"embedding", b'"[1, 2]"', b'"a\nb"', b'"', b"v1,v1", b"\t"),
    "jsonl": (b'"id"', b'"v"', b'"embedding"', b"[0.5, 1.5, 2]", b"[1, null]", b'{"x": [1]}'),
    "libfm": (b"#global bias", b"#unary interactions", b"#pairwise interactions", b"1 2 3\n"),
}
WORDS_OF["npz"] = (*WORDS_OF["npy"], b"ids.npy", b"factors.npy", b"../x.npy")
WORDS_OF["word2vec-binary"] = WORDS_OF["word2vec"]


def seeds_of(format: Format) -> list[Seed]:
    """Return a format's seeds: those under its name, and those under one of its endings."""
    made = [
        make
        for key, make in SEEDS.items()
        if key == format.name or (key not in _NAMES and f".{key}" in format.endings)
    ]
    return [seed for make in made for seed in make()]


_NAMES = {"npy", "npz", "parquet", "arrow", "pickle", "libfm", "word2vec", "jsonl", "csv"}
