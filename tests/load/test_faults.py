"""What may go wrong with the data of a load, in each format that can hold it."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
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
from hypothesis.extra import numpy as hnp

import embstore
from embstore import BadInput, EmbstoreError, Store
from embstore.load import attributes
from embstore.load.checks import MAX_NORM, MIN_NORM, to_stored
from embstore.load.ids import id_type_of, to_id_type
from embstore.readers import Wanted, base, open_source
from embstore.readers.sieve import BadRows
from embstore.types import Attribute, Metric, Precision, Zero

DIM = 3
# What a batch is cut to, so that few rows make several.
STEP = 4
ROWS = 3 * STEP

Ids = Sequence[int | str]
Rows = Any  # Sequence[Sequence[float]] or an array


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "BATCH_BYTES", 4 * DIM * STEP)


def numbers(row: Sequence[float]) -> list[str]:
    return [repr(float(each)) for each in row]


def npy(ids: Ids, rows: Rows) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(rows))
    return out.getvalue()


def npz(ids: Ids, rows: Rows) -> bytes:
    out = io.BytesIO()
    np.savez(out, ids=np.asarray(ids), v=np.asarray(rows))
    return out.getvalue()


def table(ids: Ids, rows: Rows) -> pa.Table:
    lists = [np.asarray(row).tolist() for row in rows]
    kind = pa.from_numpy_dtype(getattr(rows, "dtype", np.dtype("f4")))
    return pa.table({"id": list(ids), "v": pa.array(lists, pa.list_(kind))})


def parquet(ids: Ids, rows: Rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(table(ids, rows), out)
    return out.getvalue()


def arrow(ids: Ids, rows: Rows) -> bytes:
    out = io.BytesIO()
    feather.write_feather(table(ids, rows), out)
    return out.getvalue()


def stream(ids: Ids, rows: Rows) -> bytes:
    out = io.BytesIO()
    with ipc.new_stream(out, table(ids, rows).schema) as writer:
        writer.write_table(table(ids, rows), max_chunksize=5)
    return out.getvalue()


def wide(ids: Ids, rows: Rows, separator: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["id", *(f"v{i}" for i in range(len(rows[0]) if len(rows) else DIM))])
    for key, row in zip(ids, rows, strict=True):
        writer.writerow([key, *map(float, row)])
    return out.getvalue().encode()


def lists(ids: Ids, rows: Rows) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(["id", "v"])
    for key, row in zip(ids, rows, strict=True):
        writer.writerow([key, f"[{', '.join(numbers(row))}]"])
    return out.getvalue().encode()


def jsonl(ids: Ids, rows: Rows) -> bytes:
    return "".join(
        json.dumps({"id": key, "v": [float(each) for each in row]}) + "\n"
        for key, row in zip(ids, rows, strict=True)
    ).encode()


def word2vec(ids: Ids, rows: Rows) -> bytes:
    lines = [" ".join([str(key), *numbers(row)]) + "\n" for key, row in zip(ids, rows, strict=True)]
    dim = len(rows[0]) if len(rows) else DIM
    return f"{len(rows)} {dim}\n{''.join(lines)}".encode()


def word2vec_binary(ids: Ids, rows: Rows) -> bytes:
    body = [
        str(key).encode() + b" " + np.asarray(row, "<f4").tobytes()
        for key, row in zip(ids, rows, strict=True)
    ]
    dim = len(rows[0]) if len(rows) else DIM
    return f"{len(rows)} {dim}\n".encode() + b"".join(body)


def libfm(ids: Ids, rows: Rows) -> bytes:
    lines = "".join(" ".join(numbers(row)) + "\n" for row in rows)
    return f"#pairwise interactions Vj,f\n{lines}".encode()


FORMATS: dict[str, Callable[[Ids, Rows], bytes]] = {
    "v.npy": npy,
    "v.npz": npz,
    "v.parquet": parquet,
    "v.feather": arrow,
    "v.arrows": stream,
    "v.csv": wide,
    "v.tsv": lists,
    "v.jsonl": jsonl,
    "v.vec": word2vec,
    "v.bin": word2vec_binary,
    "v.libfm": libfm,
}
# Where the file has no ids, they are the row numbers.
NO_IDS = {"v.npy", "v.libfm"}
# Where a row is found: a header line counts as a line, features count from 0.
FIRST = {"v.vec": 2, "v.libfm": 0}
each_format = pytest.mark.parametrize("name", FORMATS)


def put(folder: Path, name: str, ids: Ids, rows: Rows) -> Path:
    path = folder / name
    path.write_bytes(FORMATS[name](ids, rows))
    return path


def prepared(
    path: Path, metric: Metric = Metric.L2, precision: Precision = Precision.FLOAT32
) -> tuple[list[Any], Any]:
    """Read and check a file as a load does, without a server."""
    how: dict[str, Any] = {"ids": "row-number"} if path.name == "v.npy" else {}
    format = "word2vec-binary" if path.suffix == ".bin" else None
    ids: list[Any] = []
    parts = []
    with open_source(path, Wanted(**how), format=format) as opened:
        kind = id_type_of(opened.schema.field("id").type)

        def checked(batch: pa.RecordBatch) -> tuple[pa.Array, Any]:
            keys = to_id_type(batch.column("id"), kind)
            vectors = batch.column("embedding").flatten().to_numpy().reshape(len(batch), -1)
            return keys, to_stored(vectors, metric, precision, keys, Zero.REJECT)

        for batch in opened.batches:
            assert len(batch) <= STEP or opened.dim < DIM
            keys, stored = opened.sieve.sift(batch, opened.place, len(ids), checked)
            parts.append(stored)
            ids += keys.to_pylist()
    return ids, np.concatenate(parts)


def rows_of(count: int = ROWS, dim: int = DIM) -> Any:
    return np.arange(1, 1 + count * dim, dtype=np.float32).reshape(count, dim) / 8


def refused(path: Path, row: int, *, id_named: bool = True, **how: Any) -> str:
    """Return the message for a file whose row ``row`` (from 0) is bad."""
    with pytest.raises(BadInput) as caught:
        prepared(path, **how)
    error, text = caught.value, str(caught.value)
    number = FIRST.get(path.name, 1) + row
    assert path.name in text
    assert error.row == number, text
    assert f" {number}" in text
    if id_named:
        key = row if path.name in NO_IDS else row + 10
        assert str(error.id) == str(key), text
    assert "load again" in text
    return text


@each_format
@pytest.mark.parametrize("row", [0, ROWS // 2, ROWS - 1])
@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "-infinity")]
)
def test_no_number(tmp_path: Path, name: str, row: int, value: float, says: str) -> None:
    rows = rows_of()
    rows[row, 1] = value
    path = put(tmp_path, name, range(10, 10 + ROWS), rows)
    if name == "v.jsonl" and row == 0:  # the first one settles what a vector is
        with pytest.raises(BadInput, match=r"v\.jsonl"):
            prepared(path)
        return
    text = refused(path, row, id_named=name != "v.jsonl")
    if name != "v.jsonl":  # JSON has no such numbers
        assert f"value 2 is {says}" in text


@each_format
def test_negative_zero_and_denormals_are_kept(tmp_path: Path, name: str) -> None:
    rows = rows_of()
    rows[5] = [-0.0, 1e-45, np.finfo("f4").max]
    _, vectors = prepared(put(tmp_path, name, range(10, 10 + ROWS), rows))
    np.testing.assert_array_equal(vectors.view(np.uint32), rows.view(np.uint32))


@each_format
@pytest.mark.parametrize(
    ("vector", "says"),
    [
        ([0, -0.0, 0], "all values are 0"),
        ([MIN_NORM / 2, 0, 0], "its norm is 5e-19"),
        ([0, 0, MAX_NORM * 2], r"its norm is 2e+18"),
    ],
)
def test_no_direction(tmp_path: Path, name: str, vector: list[float], says: str) -> None:
    rows = rows_of()
    rows[7] = vector
    path = put(tmp_path, name, range(10, 10 + ROWS), rows)
    for metric in (Metric.L2, Metric.IP):
        assert (prepared(path, metric)[1][7] == np.asarray(vector, "f4")).all()
    assert says in refused(path, 7, metric=Metric.COSINE)


@each_format
def test_float16(tmp_path: Path, name: str) -> None:
    rows = rows_of()
    rows[2] = [65504, 65519, 6e-8]
    path = put(tmp_path, name, range(10, 10 + ROWS), rows)
    _, vectors = prepared(path, precision=Precision.FLOAT16)
    np.testing.assert_array_equal(vectors, rows.astype(np.float16))
    assert vectors[2].tolist() == [65504, 65504, float(np.float16(6e-8))]
    rows[6, 2] = 65520
    path = put(tmp_path, name, range(10, 10 + ROWS), rows)
    says = "value 3 is 65520, beyond float16 (65504)"
    assert says in refused(path, 6, precision=Precision.FLOAT16)


@pytest.mark.parametrize("name", ["v.npy", "v.npz", "v.parquet", "v.feather", "v.arrows"])
def test_float64_beyond_float32(tmp_path: Path, name: str) -> None:
    rows = rows_of().astype(np.float64)
    rows[9, 0] = -1e39
    path = put(tmp_path, name, range(10, 10 + ROWS), rows)
    assert "value 1 is -1e+39, beyond float32" in refused(path, 9)


@pytest.mark.parametrize("row", [1, STEP - 1, STEP, STEP + 1, ROWS - 1])
@pytest.mark.parametrize("count", [DIM - 1, DIM + 1])
@pytest.mark.parametrize(
    "name",
    ["v.parquet", "v.feather", "v.arrows", "v.csv", "v.tsv", "v.jsonl", "v.vec", "v.libfm"],
)
def test_another_dim(tmp_path: Path, name: str, row: int, count: int) -> None:
    rows: list[Any] = list(rows_of())
    rows[row] = np.ones(count, np.float32)
    path = put(tmp_path, name, range(10, 10 + ROWS), rows)
    parsed = name in {"v.csv", "v.vec", "v.libfm"}  # where the parser counts the fields
    text = refused(path, row, id_named=not parsed)
    if parsed:
        beside = 0 if name == "v.libfm" else 1
        assert f"{count + beside} fields where {DIM + beside} are expected" in text
    else:
        assert f"{count} components where the first row has {DIM}" in text


@each_format
def test_no_rows(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, [], np.zeros((0, DIM), np.float32))
    with pytest.raises(
        BadInput, match=r"no rows|no column of vectors|0 (factors|numbers)|is empty"
    ) as one:
        prepared(path)
    path.write_bytes(b"")
    with pytest.raises(BadInput, match=r"is empty: there is nothing to load") as two:
        prepared(path)
    assert name in str(one.value) and name in str(two.value)


@each_format
@pytest.mark.parametrize(("rows", "dim"), [(1, 2), (1, 1), (5, 1), (2, 16_000)])
def test_small_and_wide(tmp_path: Path, name: str, rows: int, dim: int) -> None:
    if dim == 1 and name == "v.csv":
        pytest.skip("a single column of numbers is no vector")
    ids, vectors = prepared(put(tmp_path, name, range(10, 10 + rows), rows_of(rows, dim)))
    np.testing.assert_array_equal(vectors, rows_of(rows, dim))
    assert len(ids) == rows


@pytest.mark.parametrize("name", ["v.npz", "v.parquet", "v.jsonl"])
def test_dims_beyond_the_limits(store: Store, tmp_path: Path, name: str) -> None:
    items = store.create_table("items")
    path = put(tmp_path, name, [1, 2], rows_of(2, 16_001))
    with pytest.raises(BadInput, match=rf"{name}: vectors of 16001 dim.* 1 to 16000"):
        items.load(path, index="none")
    bad = rows_of(2, 2001)
    bad[1, 5] = np.nan if name != "v.jsonl" else 7
    path = put(tmp_path, name, [1, 2], bad)
    with pytest.raises(embstore.InvalidQuery, match=r"2001 dim.*float16.*index none.*PCA"):
        items.load(path, index={"kind": "hnsw", "precision": "float32"})
    assert store.table("items").versions() == []


INTEGERS = [-(2**63), 2**63 - 1, 0, -1, 7]


@pytest.mark.parametrize("name", sorted(set(FORMATS) - NO_IDS))
def test_ids_say_the_same(tmp_path: Path, name: str) -> None:
    found, _ = prepared(put(tmp_path, name, INTEGERS, rows_of(5)))
    words = name in {"v.vec", "v.bin"}
    assert found == ([str(each) for each in INTEGERS] if words else INTEGERS)
    texts = ["007", "7", "+7", "1e3", "-0", "x" * 1024]
    assert prepared(put(tmp_path, name, texts, rows_of(6)))[0] == texts


@pytest.mark.parametrize(
    ("name", "ids", "says"),
    [
        ("v.npz", np.array([1, 2**63], np.uint64), r"row 2: id 9223372036854775808 is beyond"),
        ("v.npz", np.array([1.0, 2.0]), "the ids of v are not there"),
        ("v.npz", np.array([True, False]), r"the ids of v are not there"),
        ("v.parquet", pa.array([1, 2**64 - 1], pa.uint64()), "row 2 .*beyond bigint"),
        ("v.parquet", [1.0, 2.0], "type double and cannot hold ids"),
        ("v.parquet", [True, False], "type bool and cannot hold ids"),
        ("v.parquet", [1, None], "row 2: the id is missing"),
        ("v.parquet", ["a", None], "row 2: the id is missing"),
        ("v.parquet", ["a", ""], "row 2: the id is empty"),
        ("v.parquet", ["a", "x" * 10_000], "row 2: the id is 10000 bytes long, the limit is 1024"),
        ("v.parquet", ["a", "b\0"], "row 2: the id holds the character NUL"),
        ("v.csv", [1, ""], "row 2: the id is missing|row 2 .*no bigint|row 2: the id is empty"),
        ("v.jsonl", [1, "a"], "row 2 .*changed from number to string"),
        ("v.jsonl", [1, 2**63], "type double and cannot hold ids"),
        ("v.jsonl", [True, False], "type bool and cannot hold ids"),
        ("v.jsonl", [1.5, 2.5], "type double and cannot hold ids"),
        ("v.vec", ["a", "x" * 1025], "line 3: the id is 1025 bytes"),
        ("v.vec", ["a", ""], "line 3: the id is empty"),
        ("v.bin", ["abc", ""], "row 2: the id is empty"),
    ],
)
def test_bad_ids(tmp_path: Path, name: str, ids: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        prepared(put(tmp_path, name, ids, rows_of(2)))
    assert name in str(caught.value)


def test_ids_beyond_bigint_are_text_in_text(tmp_path: Path) -> None:
    ids = [1, 2**63, 2**64 - 1]
    assert prepared(put(tmp_path, "v.csv", ids, rows_of(3)))[0] == [str(each) for each in ids]


@pytest.mark.parametrize("name", ["v.csv", "v.tsv", "v.jsonl", "v.vec", "v.bin", "v.parquet"])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
def test_ids_that_are_no_text(tmp_path: Path, name: str, bad: bytes) -> None:
    path = put(tmp_path, name, ["first", "other"], rows_of(2))
    path.write_bytes(path.read_bytes().replace(b"other", bad.ljust(5, b"x")))
    with pytest.raises(BadInput, match=r"UTF-?8") as caught:
        prepared(path)
    assert caught.value.row == FIRST.get(name, 1) + 1
    assert str(caught.value).isprintable()


# Without what no format can hold: a lone surrogate is no text, Postgres has no NUL.
TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
SEPARATORS = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
WORD = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=SEPARATORS)
SPECIAL = [
    "\\N",
    "\\.",
    "é",
    "e\u0301",
    "\uff46\uff55",
    "\u202eabc",
    "👩\u200d🔬",
    "'",
    "--",
    "NA",
    "null",
]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@pytest.mark.parametrize("name", sorted(set(FORMATS) - NO_IDS))
@given(data=st.data())
def test_what_is_written_is_read(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Ids byte for byte, vectors bit for bit."""
    characters = WORD if name in {"v.vec", "v.bin"} else TEXT
    if name in {"v.csv", "v.tsv"}:
        characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")
    if name == "v.npz":  # numpy pads with NUL and keeps all else
        characters = TEXT
    text = st.one_of(st.text(characters, min_size=1, max_size=20), st.sampled_from(SPECIAL))
    ids = data.draw(st.lists(text, min_size=2, max_size=9))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    rows = data.draw(hnp.arrays(np.float32, (len(ids), DIM), elements=finite))
    found, vectors = prepared(put(tmp_path, name, ["ä", *ids], np.vstack([rows_of(1), rows])))
    assert found == ["ä", *ids]
    np.testing.assert_array_equal(vectors[1:].view(np.uint32), rows.view(np.uint32))


@pytest.mark.parametrize(("first", "second"), [(0, 1), (STEP - 1, STEP), (0, ROWS - 1)])
def test_an_id_twice(store: Store, tmp_path: Path, first: int, second: int) -> None:
    ids = [str(each) for each in range(ROWS)]
    ids[second] = ids[first]
    path = put(tmp_path, "v.vec", ids, rows_of())
    with pytest.raises(embstore.DuplicateId) as caught:
        store.create_table("items").load(path)
    assert f"v.vec line {first + 2} and {path} line {second + 2}: id '{first}'" in str(caught.value)
    assert caught.value.row == second + 2


def test_an_id_in_two_files(store: Store, tmp_path: Path) -> None:
    items = store.create_table("items", id_type="bigint")
    one = put(tmp_path, "v.jsonl", [1, 2], rows_of(2))
    two = put(tmp_path, "v.csv", [3, 2], rows_of(2))
    with pytest.raises(embstore.DuplicateId, match=r"v\.jsonl row 2 and .*v\.csv row 2: id 2 is"):
        items.load([one, two])
    assert items.versions() == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (pa.array([[1.5], [float("nan")]]), "neither NaN"),
        (pa.array([["a"], ["b\0"]]), "the character NUL"),
        (pa.array([[], [{"x": "\\\0"}]]), "the character NUL"),
        (pa.array([[], [b"\xff"]]).cast(pa.list_(pa.string()), safe=False), "UTF-8"),
    ],
)
def test_nested_attributes_that_are_no_jsonb(values: pa.Array, says: str) -> None:
    with pytest.raises(BadRows) as caught:
        attributes.to_stored(values, Attribute("a", "jsonb"), pa.array([7, 8]))
    problem = caught.value.problem
    assert caught.value.rows.tolist() == [1]
    assert callable(problem) and says in problem(1) and "column 'a'" in problem(1)


def test_a_backslash_is_no_escape() -> None:
    values = pa.array([["\\u0000"]])
    stored = attributes.to_stored(values, Attribute("a", "jsonb"), pa.array([7]))
    assert json.loads(stored[0].as_py()) == ["\\u0000"]


@pytest.mark.parametrize("hostile", ["\x1b[31m", "\n", "\r", "\u202e", "\ud800", "\0"])
def test_a_message_is_one_harmless_line(hostile: str) -> None:
    text = str(BadInput(f"v.csv row 1: {hostile} ü é 漢"))
    assert text.isprintable() and text.encode()
    assert text.startswith("v.csv row 1: \\") and text.endswith(" ü é 漢")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


@each_format
@pytest.mark.parametrize("happens", [shrink, grow, Path.unlink, replace])
def test_a_file_that_does_not_stay(
    tmp_path: Path, name: str, happens: Callable[[Path], None]
) -> None:
    how: dict[str, Any] = {"ids": "row-number"} if name == "v.npy" else {}
    path = put(tmp_path, name, range(10, 10 + ROWS), rows_of())
    format = "word2vec-binary" if name == "v.bin" else None
    with (
        pytest.raises(BadInput, match=rf"{name} changed while it was read: load it when"),
        open_source(path, Wanted(**how), format=format) as opened,
    ):
        next(opened.batches)
        happens(path)
        list(opened.batches)
        raise AssertionError("all rows came, as if nothing had happened")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = put(tmp_path, "v.csv", [1], rows_of(1))
    path.chmod(0)
    with pytest.raises(BadInput, match=r"v\.csv cannot be opened: Permission denied"):
        prepared(path)


MANY = 150 << 20


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def header(descr: str, shape: str, fortran: bool = False) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def forged_npz() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("v.npy", header("<f4", f"({MANY // 12}, 3)") + bytes(MANY))
    return out.getvalue()


def huge_page() -> bytes:
    """A Parquet file whose page claims 2 GiB."""
    data = parquet([1, 2], rows_of(2))
    place = data.index(b"\x15", 5)  # an i32 field: the page's size before compression
    return data[: place + 1] + b"\xfe\xff\xff\xff\x0f" + data[place + 2 :]


def zeros(rows: int) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * 64, "f4")), 64)
    return pa.table({"id": pa.array(range(rows)), "v": flat})


def arrow_bomb(kind: str, rows: int = MANY // 256) -> bytes:
    out = io.BytesIO()
    options = ipc.IpcWriteOptions(compression="zstd")
    make = ipc.new_stream if kind == "stream" else ipc.new_file
    with make(out, zeros(rows).schema, options=options) as writer:
        writer.write_table(zeros(rows))
    return out.getvalue()


HOSTILE: list[tuple[str, Callable[[], bytes], str]] = [
    ("v.pkl", lambda: b"\x80\x04cposix\nmkdir\n(X\x06\x00\x00\x00canary\x85R.", "is a pickle"),
    ("v.npz", forged_npz, "decompression bomb"),
    ("v.npz", lambda: zstd(bytes(MANY)), "decompression bomb"),
    ("v.npy", lambda: header("<f4", "(1000000000, 64)") + bytes(99), "declares 256000000000 bytes"),
    ("v.npy", lambda: zstd(header("<f4", "(1000000000, 3)") + bytes(99)), "ends .* early"),
    ("v.npy", lambda: npy([], rows_of()) + b"more", "declares 144 bytes of data and has 148"),
    ("v.npy", lambda: zstd(npy([], rows_of()) + b"more"), "goes on behind its array"),
    ("v.csv", lambda: zstd(b"id,v0,v1\n1," + b"1" * MANY), "is longer than"),
    ("v.csv", lambda: zstd(b'id,v0,v1\n1,2,"' + b"1\n" * (MANY // 2)), "is longer than"),
    ("v.jsonl", lambda: zstd(b'{"id": 1, "v": [' + b"1," * (MANY // 2)), "is longer than"),
    ("v.jsonl", lambda: b'{"a":' * 100_000, "v.jsonl"),
    ("v.vec", lambda: zstd(b"1 2\na " + b"1" * MANY), "v.vec.*numbers|is longer than"),
    ("v.libfm", lambda: zstd(b"#pairwise interactions Vj,f\n" + b"1 " * (MANY // 2)), "factors"),
    ("v.libfm", lambda: zstd(b"#global bias W0\n" + b"1" * MANY), "is damaged"),
    ("v.bin", lambda: b"500000000 64\n" + bytes(7), "do not fit"),
    ("v.bin", lambda: zstd(b"999999999999 16000\n" + b"a" * 99), "ends inside|is longer"),
    ("v.bin", lambda: word2vec_binary([1], rows_of(1)) + b"more", "goes on behind"),
    ("v.parquet", huge_page, "cannot be read as Parquet"),
    ("v.arrows", lambda: b"\xff\xff\xff\xff\xff\xff\xff\x7f", "cannot be read as Arrow"),
    ("v.arrows", lambda: arrow_bomb("stream"), "decompression bomb"),
    ("v.arrows", lambda: zstd(arrow_bomb("stream")), "decompression bomb"),
    ("v.feather", lambda: arrow_bomb("file"), "decompression bomb"),
    ("v.arrows", lambda: stream([1], rows_of(1)) + b"more", "goes on behind its end"),
]
READ = """
import json, os, resource, sys
from embstore import EmbstoreError
from embstore.readers import Wanted, open_source

def read(path):
    ending = path.rsplit(".", 1)[1]
    named = {"pkl": "pickle", "vec": "word2vec", "bin": "word2vec-binary"}
    named |= {"arrows": "arrow", "feather": "arrow"}
    wanted = Wanted(ids="row-number" if ending == "npy" else None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with open_source(path, wanted, format=named.get(ending, ending)) as opened:
            for batch in opened.batches:
                pass
        said = "read"
    except EmbstoreError as error:
        said = str(error)
    return said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10

for path in sys.argv[1:]:
    if not os.fork():
        print(json.dumps(read(path)), flush=True)
        os._exit(0)
    if os.wait()[1]:
        print(json.dumps(("the process was ended", 0)), flush=True)
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """What each hostile file got, read in a process of its own, and MiB of memory it took."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = [folder / str(i) / each[0] for i, each in enumerate(HOSTILE)]
    for path, (_, make, _) in zip(paths, HOSTILE, strict=True):
        path.parent.mkdir()
        path.write_bytes(make())
    ran = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert not (folder / "canary").exists()
    return [tuple(json.loads(line)) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_files_cost_little(hostile: list[tuple[str, int]], number: int) -> None:
    name, _, says = HOSTILE[number]
    said, grown = hostile[number]
    assert name in said
    assert re.search(says, said), said
    assert grown < 100, said


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_what_shrinks_well_is_no_bomb(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "v.arrow"
    path.write_bytes(arrow_bomb(kind, 10_000))
    assert path.stat().st_size < 60_000
    assert len(prepared(path)[0]) == 10_000


def test_a_load_from_each_format(store: Store, tmp_path: Path) -> None:
    """The way through the server, once for each; the bad last row leaves nothing."""
    items = store.create_table("items", metric="l2", id_type="text")
    sums = set()
    for name in sorted(set(FORMATS) - NO_IDS):
        how: dict[str, Any] = {"format": "word2vec-binary"} if name == "v.bin" else {}
        ids = [f"i{each}" for each in range(ROWS)]
        sums.add(items.load(put(tmp_path, name, ids, rows_of()), index="none", **how).checksum)
        bad = rows_of()
        bad[-1, -1] = np.nan
        with pytest.raises(EmbstoreError, match=name):
            items.load(put(tmp_path, name, ids, bad), index="none", **how)
    assert len(sums) == 1
    assert len(items.versions()) == len(FORMATS) - len(NO_IDS)
