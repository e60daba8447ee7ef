"""Real files of every format, plain and packed, and what bad ones get."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embstore import BadInput, EmbstoreError
from embstore.readers import Wanted, formats, open_source, read_attributes
from tests.fix_data import clusters

VECTORS = clusters(20, 5)
WORDS = [f"wörd{i}" for i in range(20)]


def table(ids: Any = None, vectors: Any = VECTORS) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"id": WORDS if ids is None else ids, "embedding": flat})


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, ids=np.array(WORDS), factors=VECTORS)
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(table(), out)
    return out.getvalue()


def arrow_stream() -> bytes:
    out = io.BytesIO()
    with ipc.new_stream(out, table().schema) as writer:
        writer.write_table(table())
    return out.getvalue()


def feather_file() -> bytes:
    out = io.BytesIO()
    feather.write_feather(table(), out, compression="uncompressed")
    return out.getvalue()


def csv(separator: str = ",") -> bytes:
    head = separator.join(["id", *(f"v{i}" for i in range(5))])
    lines = [
        separator.join([w, *map(repr, v.tolist())]) for w, v in zip(WORDS, VECTORS, strict=True)
    ]
    return "\n".join([head, *lines, ""]).encode()


def csv_text() -> bytes:
    lines = [f'{w},"{v.tolist()}"' for w, v in zip(WORDS, VECTORS, strict=True)]
    return "\n".join(["id,embedding", *lines, ""]).encode()


def jsonl() -> bytes:
    lines = [json.dumps({"id": w, "v": v.tolist()}) for w, v in zip(WORDS, VECTORS, strict=True)]
    return "\n".join([*lines, ""]).encode()


def word2vec(end: str = "") -> bytes:
    lines = [
        f"{w} {' '.join(map(repr, v.tolist()))}{end}" for w, v in zip(WORDS, VECTORS, strict=True)
    ]
    return "\n".join([f"{len(VECTORS)} 5", *lines, ""]).encode()


def word2vec_binary(newline: bytes = b"") -> bytes:
    rows = [
        w.encode() + b" " + v.astype("<f4").tobytes() + newline
        for w, v in zip(WORDS, VECTORS, strict=True)
    ]
    return b"20 5\n" + b"".join(rows)


FILES: dict[str, Callable[[], bytes]] = {
    "a.npz": npz,
    "a.parquet": parquet,
    "a.arrows": arrow_stream,
    "a.feather": feather_file,
    "a.csv": csv,
    "a.tsv": lambda: csv("\t"),
    "b.csv": csv_text,
    "a.jsonl": jsonl,
    "a.vec": word2vec,
    "b.vec": lambda: word2vec(" "),
    "a.bin": word2vec_binary,
    "b.bin": lambda: word2vec_binary(b"\n"),
}


def read(path: Path, format: str | None = None, **how: Any) -> tuple[list[Any], Any]:
    with open_source(path, Wanted(**how), format=format) as opened:
        batches = list(opened.batches)
        for batch in batches:
            batch.validate()
            assert batch.schema == opened.schema
    ids = [key for batch in batches for key in batch.column("id").to_pylist()]
    flat = np.concatenate([np.asarray(batch.column("embedding").flatten()) for batch in batches])
    return ids, flat.reshape(len(ids), -1)


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", FILES)
def test_every_format_plain_and_packed(tmp_path: Path, name: str, packing: str) -> None:
    data = FILES[name]()
    if packing == ".gz":
        data = gzip.compress(data)
    elif packing:
        data = pa.compress(data, codec="zstd", asbytes=True)
    path = tmp_path / (name + packing)
    path.write_bytes(data)
    ids, vectors = read(path)
    assert ids == WORDS
    np.testing.assert_array_equal(
        vectors.astype(np.float32).view(np.uint32), VECTORS.view(np.uint32)
    )
    # The content tells what it is, whatever the name; only delimited text needs one.
    nameless = tmp_path / "nameless"
    nameless.write_bytes(data)
    how = {"format": "csv"} if "sv" in name else {}
    assert read(nameless, **how)[0] == WORDS


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize(
    "array",
    [
        VECTORS,
        VECTORS.astype(">f4"),
        np.asfortranarray(VECTORS),
        VECTORS.astype("f8"),
        VECTORS.astype("f2"),
        np.arange(10, dtype="i2").reshape(5, 2),
        VECTORS[:, ::2],
    ],
    ids=["f4", "big-endian", "fortran", "f8", "f2", "i2", "strided"],
)
def test_npy(tmp_path: Path, array: Any, packing: str) -> None:
    np.save(tmp_path / "v.npy", array)
    np.save(tmp_path / "ids.npy", np.arange(len(array)))
    (tmp_path / "ids.txt").write_text("".join(f"{i}\n" for i in range(len(array))))
    path = tmp_path / ("v.npy" + packing)
    if packing:
        path.write_bytes(gzip.compress((tmp_path / "v.npy").read_bytes()))
    for ids in (tmp_path / "ids.npy", str(tmp_path / "ids.txt"), range(len(array))):
        keys, vectors = read(path, ids=ids)
        assert keys == list(range(len(array)))
        np.testing.assert_array_equal(vectors, array)


def test_npz_chooses_by_name(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "m.npz",
        item_ids=np.arange(4),
        item_factors=clusters(4, 3),
        item_bias=np.arange(4.0),
        user_ids=np.arange(4) + 100,
        user_factors=clusters(4, 3),
    )
    with pytest.raises(
        BadInput, match=r"could be 'item_factors', 'user_factors'; say with --vectors"
    ):
        read(tmp_path / "m.npz")
    with open_source(tmp_path / "m.npz", Wanted(vectors="item_factors")) as opened:
        assert opened.schema.names == ["id", "embedding", "item_bias"]
    assert read(tmp_path / "m.npz", vectors="user_factors")[0] == [100, 101, 102, 103]
    with pytest.raises(BadInput, match="no two-dimensional array 'nothing'"):
        read(tmp_path / "m.npz", vectors="nothing")


def test_csv_ids_keep_what_they_say(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("id,v0,v1\n007,1,2\n8,3,4\n")
    assert read(path)[0] == ["007", "8"]
    path.write_text("id,v0,v1\n7,1,2\n8,0.5,4\n")
    assert read(path)[0] == [7, 8]


def test_attributes_keep_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("title,item,v0,v1,year\nA,1,1,2,1999\nB,2,3,4,\n")
    with pytest.raises(BadInput, match="ids could be 'title', 'item', 'year'; say with --ids"):
        read(path)
    with open_source(path, Wanted(ids="item")) as opened:
        assert opened.schema.names == ["id", "embedding", "title", "year"]
        assert next(opened.batches).column("year").to_pylist() == [1999, None]
    assert read_attributes(path, ids="item").column_names == ["id", "title", "v0", "v1", "year"]
    with pytest.raises(BadInput, match="no column 'nope'"):
        read_attributes(path, ids="nope")


def write_npy(header: str, data: bytes, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def zipped(*members: tuple[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def saved(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=array.dtype == object)
    return out.getvalue()


GOOD_NPY = saved(np.ones((2, 3), np.float32))
HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}\n"
BAD: list[tuple[str, str, bytes, str]] = [
    (
        "objects",
        "v.npy",
        saved(np.array([[{}]], dtype=object)),
        "Python objects, which are never unpickled",
    ),
    (
        "claims too much",
        "v.npy",
        write_npy(HEADER.replace("(2,", "(1000000000,"), b"\0" * 24),
        "declares 12000000000 bytes",
    ),
    ("claims too little", "v.npy", write_npy(HEADER, b"\0" * 25), "truncated or damaged"),
    ("truncated", "v.npy", GOOD_NPY[:-1], "truncated or damaged"),
    (
        "huge header",
        "v.npy",
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{}",
        "header claims",
    ),
    ("deep header", "v.npy", write_npy("(" * 30000, b""), "cannot be read as a .npy array"),
    (
        "code in header",
        "v.npy",
        write_npy("__import__('os').system('true')", b""),
        "cannot be read as a .npy",
    ),
    ("records", "v.npy", saved(np.zeros(3, [("a", "f4"), ("b", "f4")])), "holds records"),
    ("complex", "v.npy", saved(np.zeros((2, 2), complex)), "holds complex128"),
    ("one dimension", "v.npy", saved(np.zeros(4)), r"shape \(4,\)"),
    ("no rows", "v.npy", saved(np.zeros((0, 4))), "no rows"),
    ("empty", "v.npy", b"", "is empty"),
    ("pickle", "v.pkl", b"\x80\x04K\x01.", "is a pickle"),
    (
        "npz of objects",
        "v.npz",
        zipped(("a.npy", saved(np.array([[{}]], dtype=object)))),
        "Python objects",
    ),
    (
        "npz path",
        "v.npz",
        zipped(("../../etc/x.npy", GOOD_NPY)),
        "no array that numpy.savez writes",
    ),
    (
        "npz bomb",
        "v.npz",
        zipped(("a.npy", b"\0" * (80 << 20)), packing=zipfile.ZIP_DEFLATED),
        "bomb",
    ),
    ("npz cut", "v.npz", zipped(("a.npy", GOOD_NPY))[:-30], "cannot be read as a .npz"),
    ("npz lies", "v.npz", zipped(("a.npy", GOOD_NPY[:-4])), "declares 24 bytes of data and has 20"),
    ("gzip cut", "v.csv.gz", gzip.compress(csv())[:-20], "cannot be read"),
    ("parquet cut", "v.parquet", parquet()[:-20], "cannot be read as Parquet"),
    ("parquet empty", "v.parquet", b"PAR1PAR1", "cannot be read as Parquet"),
    ("arrow cut", "v.arrow", feather_file()[:-20], "cannot be read as Arrow"),
    ("csv header only", "v.csv", b"id,v0,v1\n", "no rows|cannot be read|no column of vectors"),
    (
        "csv word",
        "v.csv",
        b"id,v0,v1\n1,2,3\n2,x,4\n",
        "no column of vectors|cannot be read as CSV",
    ),
    ("csv short row", "v.csv", b"id,v0,v1\n1,2,3\n2,3\n", "cannot be read as CSV"),
    ("csv underscore", "v.csv", b"id,v0,v1\na,1_0,2\n", "no column of vectors"),
    (
        "csv missing value",
        "v.csv",
        b"id,v0,v1\na,1,2\nb,,2\n",
        r"row 2 \(id 'b'\): a component is missing",
    ),
    (
        "csv ragged text",
        "v.csv",
        b'id,v\na,"[1,2]"\nb,"[1]"\n',
        r"row 2 \(id 'b'\): 1 components where the first row has 2",
    ),
    (
        "json ragged",
        "v.jsonl",
        b'{"id": 1, "v": [1, 2]}\n{"id": 2, "v": [1]}\n',
        r"row 2 \(id 2\): 1 components where the first row has 2",
    ),
    (
        "json broken",
        "v.jsonl",
        b'{"id": 1, "v": [1, 2]}\n{"id": 2, "v": [1\n',
        "cannot be read as JSON lines",
    ),
    (
        "json null vector",
        "v.jsonl",
        b'{"id": 1, "v": [1]}\n{"id": 2, "v": null}\n',
        r"row 2 \(id 2\): the vector is missing",
    ),
    (
        "json null component",
        "v.jsonl",
        b'{"id": 1, "v": [1, null]}\n',
        r"row 1 \(id 1\): a component is missing",
    ),
    ("json words", "v.jsonl", b'{"id": 1, "v": ["a"]}\n', "no column of vectors"),
    ("w2v count too large", "v.vec", b"3 2\na 1 2\nb 3 4\n", "declares 3 vectors and holds 2"),
    ("w2v count too small", "v.vec", b"1 2\na 1 2\nb 3 4\n", "declares 1 vectors and holds 2"),
    ("w2v short line", "v.vec", b"2 2\na 1 2\nb 3\n", "cannot be read as word2vec text"),
    ("w2v first line", "v.vec", b"2 3\na 1 2\nb 3 4\n", "line 2: 2 numbers where 3 are declared"),
    ("w2v underscore", "v.vec", b"1 2\na 1_0 2\n", "cannot be read as word2vec text"),
    ("w2v dim", "v.vec", b"1 99999\na 1\n", "dims 1 to 16000"),
    ("bin huge count", "v.bin", b"500000000 64\n" + b"\0" * 7, "do not fit"),
    ("bin cut", "v.bin", word2vec_binary()[:-3], "do not fit|ends inside this row"),
    ("bin trailing", "v.bin", word2vec_binary() + b"more", "goes on behind the 20 vectors"),
    (
        "bin utf-8",
        "v.bin",
        b"2 3\nab " + b"\0" * 12 + b"\xff\xfe " + b"\0" * 12,
        "row 2: the word is not valid UTF-8",
    ),
    (
        "bin control",
        "v.bin",
        b"2 3\nab " + b"\0" * 12 + b"a\x07 " + b"\0" * 12,
        "row 2: the word holds a control",
    ),
    ("bin long word", "v.bin", b"1 2\n" + b"x" * 3000, "the word is longer than 1024"),
    ("nothing known", "v.xyz", b"hello world", "neither its content nor its name"),
]


@pytest.mark.parametrize(
    ("name", "data", "says"), [each[1:] for each in BAD], ids=[each[0] for each in BAD]
)
def test_bad_files(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    how: dict[str, Any] = {"ids": range(2)} if name.endswith(".npy") else {}
    if name.endswith(".bin"):
        how["format"] = "word2vec-binary"
    with pytest.raises(EmbstoreError, match=says) as caught:
        read(path, **how)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_places_that_are_no_files(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "no regular file"),
        (Path("/dev/zero"), "no regular file"),
        (tmp_path / "loop", "cannot be opened"),
        (tmp_path / "nothing", "no such file"),
        (Path("a\0b"), "cannot be opened|no such"),
    ):
        with pytest.raises(EmbstoreError, match=says):
            read(path)


def test_extension_types_are_refused(tmp_path: Path) -> None:
    kind = pa.uuid()
    storage = pa.array([b"0123456789abcdef"], pa.binary(16))
    source = pa.table({"id": pa.ExtensionArray.from_storage(kind, storage), "v": [[1.0]]})
    feather.write_feather(source, tmp_path / "v.feather")
    with pytest.raises(BadInput, match="extension type"):
        read(tmp_path / "v.feather")


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_bytes(jsonl())
    with pytest.raises(BadInput, match="changed while it was read"), open_source(path) as opened:
        path.write_bytes(jsonl() + b"\n")
        list(opened.batches)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.parametrize("name", ["a.npy", *FILES])
@given(data=st.data())
def test_damaged_files_never_crash(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Whatever is cut, flipped or put in, it loads or it is an EmbstoreError."""
    whole = bytearray(saved(VECTORS) if name == "a.npy" else FILES[name]())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(0, len(whole) - 1)))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "remove"]))
        if how == "flip" and whole:
            whole[place] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del whole[place:]
        elif how == "insert":
            whole[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            del whole[place : place + data.draw(st.integers(1, 9))]
    path = tmp_path / name
    path.write_bytes(whole)
    try:
        read(path, ids=range(20) if name == "a.npy" else None)
    except EmbstoreError as error:
        assert "\n" not in str(error)


def test_every_format_has_help() -> None:
    assert all(each.help and each.endings for each in formats())
