"""What a review of the readers found: each case went wrong once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embstore import BadInput, EmbstoreError
from embstore.readers import Wanted, open_source


def read(source: Any, format: str | None = None, **how: Any) -> pa.Table:
    with open_source(source, Wanted(**how), format=format) as opened:
        batches = list(opened.batches)
        assert all(batch.schema == opened.schema for batch in batches)
        return pa.Table.from_batches(batches, opened.schema)


def put(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_zero_padded_columns_are_one_vector(tmp_path: Path) -> None:
    names = [f"v{i:02d}" for i in range(12)]
    path = put(tmp_path / "v.csv", f"id,{','.join(names)}\n1,{','.join(map(str, range(12)))}\n")
    assert read(path).column("embedding").to_pylist() == [[float(i) for i in range(12)]]


@pytest.mark.parametrize("late", ["007", " 7", "+7"])
def test_a_late_id_is_not_rewritten(tmp_path: Path, late: str) -> None:
    rows = "".join(f"{i},0.5,0.25,{'x' * 60}\n" for i in range(1, 80_000))
    path = put(tmp_path / "v.csv", f"id,v0,v1,t\n{rows}{late},1,2,x\n")
    with pytest.raises(BadInput, match="row 80000"):
        read(path)


def test_an_id_column_is_not_replaced(tmp_path: Path) -> None:
    table = pa.table({"id": [100], "book": [1], "v": [[0.5]]})
    with pytest.raises(BadInput, match="'id' cannot become an attribute"):
        read(table, ids="book")


def test_the_callers_errors_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pq.write_table(pa.table({"id": [1], "v": [[0.5]]}), path)
    with pytest.raises(ValueError, match=r"^mine$") as caught, open_source(path):
        raise ValueError("mine")
    assert not isinstance(caught.value, EmbstoreError)


def test_a_change_is_seen_before_the_last_batch_is_taken(tmp_path: Path) -> None:
    path = put(tmp_path / "v.vec", "2 2\na 1 2\nb 3 4\n")
    with pytest.raises(BadInput, match="changed"), open_source(path) as opened:
        put(path, "2 2\na 1 2\nb 3 4\n\n")
        list(opened.batches)
        raise AssertionError("all rows came, as if nothing had happened")


def test_text_na_is_a_text(tmp_path: Path) -> None:
    path = put(tmp_path / "v.csv", "id,v0,v1,land\nNA,1,2,null\nDE,3,4,\n")
    table = read(path, ids="id")
    assert table.column("id").to_pylist() == ["NA", "DE"]
    assert table.column("land").to_pylist() == ["null", None]


def test_a_quoted_newline_across_blocks(tmp_path: Path) -> None:
    rows = "".join(f'{i},1,2,"{"x" * 50}\n{"y" * 50}"\n' for i in range(60_000))
    table = read(put(tmp_path / "v.csv", f"id,v0,v1,t\n{rows}"), ids="id")
    assert table.num_rows == 60_000


@pytest.mark.parametrize(
    ("name", "data", "row"),
    [
        ("v.csv", "id,v0,v1\n1,2,3\n2,3\n", 2),
        ("v.vec", "3 2\na 1 2\nb 3 4\nc 5 x\n", 4),
        ("v.vec", "3 2\na 1 2\nb 3 4\nc 5\n", 4),
        ("v.jsonl", '{"id": 1, "v": [1]}\n{"id": 2, "v": [1}\n', 2),
        ("v.jsonl", b'{"id": "a", "v": [1]}\n{"id": "\xff", "v": [1]}\n', 2),
        ("v.csv", 'id,v\na,"[1,2]"\nb,"[1,x]"\n', 2),
    ],
)
def test_the_row_is_named(tmp_path: Path, name: str, data: str | bytes, row: int) -> None:
    with pytest.raises(BadInput) as caught:
        read(put(tmp_path / name, data))
    assert caught.value.row == row


def test_json_text_stays_text(tmp_path: Path) -> None:
    lines = [json.dumps({"id": day, "v": [1, 2]}) for day in ("2020-01-01", "2020-01-02")]
    assert read(put(tmp_path / "v.jsonl", "\n".join(lines))).column("id").to_pylist() == [
        "2020-01-01",
        "2020-01-02",
    ]


@pytest.mark.parametrize("dim", [1, 2])
def test_small_binary_word2vec_is_seen(tmp_path: Path, dim: int) -> None:
    vectors = np.arange(1, 1 + 3 * dim, dtype="<f4").reshape(3, dim)
    data = b"".join(b"w%d " % i + each.tobytes() for i, each in enumerate(vectors))
    table = read(put(tmp_path / "v.bin", f"3 {dim}\n".encode() + data))
    assert table.column("embedding").to_pylist() == vectors.tolist()


@pytest.mark.parametrize("rest", [b"\n\nmore", b"\n\n"])
def test_binary_word2vec_ends_where_it_says(tmp_path: Path, rest: bytes) -> None:
    data = b"1 3\na " + np.ones(3, "<f4").tobytes() + rest
    with pytest.raises(BadInput, match="goes on"):
        read(put(tmp_path / "v.bin", data), format="word2vec-binary")


@pytest.mark.parametrize("name", ["v.vec", "v.bin"])
def test_word2vec_does_not_ignore_ids(tmp_path: Path, name: str) -> None:
    data = b"1 3\na " + (b"1 2 3\n" if name == "v.vec" else np.ones(3, "<f4").tobytes())
    with pytest.raises(BadInput, match="leave --ids"):
        read(put(tmp_path / name, data), ids=[7])


def test_an_encrypted_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", ids=np.arange(2), v=np.ones((2, 3)))
    data = bytearray((tmp_path / "v.npz").read_bytes())
    for magic, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = -1
        while (at := data.find(magic, at + 1)) >= 0:
            data[at + place] |= 1
    with pytest.raises(BadInput):
        read(put(tmp_path / "v.npz", bytes(data)))


def test_a_home_that_is_not_there() -> None:
    with pytest.raises(EmbstoreError):
        read("~nobody-of-that-name/v.parquet")


def test_a_frame_whose_unnamed_index_holds_the_ids() -> None:
    frame = pd.DataFrame({"v": [[1.0, 2.0], [3.0, 4.0]]}, index=["a", "b"])
    assert read(frame).column("id").to_pylist() == ["a", "b"]
    with_book = pd.DataFrame({"book": [7, 8, 9], "v": [[1.0], [2.0], [3.0]]})
    kept = read(with_book[with_book.book > 7])
    assert kept.column_names == ["id", "embedding"]
    assert kept.column("id").to_pylist() == [8, 9]


@pytest.mark.parametrize("ids", [np.arange(4).reshape(2, 2), [[1], [2], [3], [4]]])
def test_ids_in_two_dimensions(ids: Any) -> None:
    with pytest.raises(BadInput):
        read(np.ones((4, 2), np.float32), ids=ids)


def test_a_masked_array() -> None:
    with pytest.raises(BadInput, match="mask"):
        read(np.ma.masked_equal(np.eye(2), 0), ids=[1, 2])


def test_a_broken_stream_is_bad_input() -> None:
    with pytest.raises(EmbstoreError):
        read(pd.DataFrame({"id": [1, "a"], "v": [[1.0], [2.0]]}))


def test_a_mapping_keeps_the_widest_type() -> None:
    mapping = {"a": np.ones(2, np.float16), "b": np.full(2, 1e30, np.float32)}
    assert read(mapping).column("embedding").to_pylist()[1][0] == float(np.float32(1e30))


def test_npy_of_no_components(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((2, 0)))
    with pytest.raises(BadInput, match="no components"):
        read(tmp_path / "v.npy", ids=[1, 2])
