"""Bad rows: what each policy does with them, in every format that can hold them."""

import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore import BadInput, InvalidQuery, Store
from embstore.load.arrivals import Arrivals
from embstore.readers.sieve import Place, failing
from tests.fix_data import clusters
from tests.fix_store import Command, nothing_is_left

NAN, INF = float("nan"), float("inf")


def listed(path: Path) -> list[tuple[str, str, str, str]]:
    """What a file of rejects holds, without its header."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["source", "row", "id", "reason"]
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def parquet(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def arrow(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    table = pa.table(columns)
    with ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def npz(ids: Any, vectors: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, ids=np.array(ids), vectors=np.array(vectors, np.float32))
    return out.getvalue()


def word2vec_binary(words: list[bytes], vectors: Any) -> bytes:
    rows = np.array(vectors, "<f4")
    head = f"{len(words)} {rows.shape[1]}\n".encode()
    return head + b"".join(w + b" " + v.tobytes() for w, v in zip(words, rows, strict=True))


def lines(*rows: str | bytes) -> bytes:
    return b"".join((row.encode() if isinstance(row, str) else row) + b"\n" for row in rows)


GOOD = [0.5, 1.0]
WIDE = lines(
    "id,v0,v1,year,title",
    "1,.5,1,1999,a",
    "2,.5,x,1999,b",
    "3,,1,1999,c",
    "",
    "4,.5",
    "5,.5,1,1999,e,f",
    "6,nan,1,1999,g",
    "7,.5,one,1999,h",
    b"8,.5,1,1999,\xff",
    b"9,\xff",
    ",.5,1,1999,j",
    "11, .5 ,1,1999,k",
    "1,2,3,1999,again",
    "x,.5,1,1999,l",
    "9223372036854775808,.5,1,1999,m",
    "16,.5,1,1999,n",
)
# name, content, how, the good ids, the bad rows (row, id, what the reason says)
FILES: list[tuple[str, bytes, dict[str, Any], list[Any], list[tuple[int, str, str]]]] = [
    (
        "wide.csv",
        WIDE,
        {"id_type": "bigint"},
        [1, 11, 16],
        [
            (2, "", "column 'v1': 'x' is no float"),
            (3, "3", "a component is missing"),
            (4, "", "2 fields where 5 are expected"),
            (5, "", "6 fields where 5 are expected"),
            (6, "6", "value 1 is NaN"),
            (7, "", "column 'v1': 'one' is no float"),
            (8, "", "column 'title': the text is not valid UTF-8"),
            (9, "", "2 fields where 5 are expected"),
            (10, "", "the id is missing"),
            (12, "1", "duplicate of row 1"),
            (13, "", "id 'x' is no integer"),
            (14, "", "beyond bigint"),
        ],
    ),
    (
        "lists.tsv",
        lines(
            "id\tvector",
            "a\t[.5, 1]",
            "b\t[.5]",
            "c\t[.5, one]",
            "d\t",
            "e\t[.5, inf]",
            "f\t[.5, 1]",
        ),
        {},
        ["a", "f"],
        [
            (2, "b", "1 components where most of the first rows have 2"),
            (3, "c", "no vector"),
            (4, "d", "the vector is missing"),
            (5, "e", "value 2 is infinity"),
        ],
    ),
    (
        "first.csv",
        lines("id,vector", "a,none", "b,[1]", "c,[1 2]", "d,[3 4]"),
        {"vectors": "vector"},
        ["c", "d"],
        [(1, "a", "no vector"), (2, "b", "1 components where most")],
    ),
    (
        "whole.csv",
        # The types are settled before the bad ones come.
        lines(
            "id,v0,v1,t,n",
            *(f"{i},.5,1,{'t' * 990},1" for i in range(5000)),
            "x,1,1,,1",
            "-0,1,1,,1",
            "5002,1,1,,soon",
        ),
        {"index": "none"},
        list(range(5000)),
        [
            (5001, "x", "the id is no bigint, as the first ones are"),
            (5002, "-0", "the id is no bigint"),
            (5003, "", "column 'n': 'soon' is no int64"),
        ],
    ),
    (
        "rows.jsonl",
        lines(
            '{"id": 1, "v": [1, 2], "year": 1}',
            "",
            '{"id": 2, "v": [0.5, 1], "year": 1}',
            '{"id": 3, "v": [0.5, 1], "year": 1',
            '{"id": 4, "v": [0.5], "year": 1}',
            '{"id": 5, "v": [0.5, null], "year": 1}',
            '{"id": 6, "v": null, "year": 1}',
            '{"id": "x", "v": [0.5, 1], "year": 1}',
            '{"id": 8, "v": [0.5, "1"], "year": 1}',
            '{"id": 9, "v": [0.5, 1], "year": "soon"}',
            '{"id": 10, "id": 10, "v": [0.5, 1], "year": 1}',
            '{"id": 11, "v": [0.5, NaN], "year": 1}',
            "[1, 2]",
            '{"id": 13, "v": [0.5, 1]} {"id": 14, "v": [0.5, 1]}',
            '{"v": [0.5, 1], "year": 1}',
            '{"id": 2, "v": [0.5, 1], "year": 1}',
            '{"id": 17, "v": [0.5, 1], "year": 1}',
        ),
        {},
        [1, 2, 17],
        [
            (3, "", "it cannot be read as JSON: Missing a comma"),
            (4, "4", "1 components where most"),
            (5, "5", "a component is missing"),
            (6, "6", "the vector is missing"),
            (7, "", "cannot be read as JSON: Column(/id) changed from number to string"),
            (8, "", "cannot be read as JSON"),
            (9, "", "cannot be read as JSON: Column(/year)"),
            (10, "", "cannot be read as JSON: Column(/id) was specified twice"),
            (11, "11", "value 2 is NaN"),
            (12, "", "cannot be read as JSON"),
            (13, "", "it is not one object"),
            (14, "", "the id is missing"),
            (15, "2", "duplicate of row 2"),
        ],
    ),
    (
        "text.jsonl",
        lines('{"id": "a", "v": [1.5]}', b'{"id": "\xff", "v": [1.5]}', '{"id": "", "v": [1.5]}'),
        {},
        ["a"],
        [(2, "", "a text is not valid UTF-8"), (3, "", "the id is empty")],
    ),
    (
        "words.vec",
        lines("8 2", "a b .5 1", "c .5 1", "d .5", "", "e .5 1_0", "f .5 nan", "c 1 1", "h .5 1"),
        {"format": "word2vec"},
        ["c", "h"],
        [
            (2, "", "4 fields where 3 are expected"),
            (4, "", "2 fields where 3 are expected"),
            (5, "", "column 'v0': '' is no float"),
            (6, "", "column 'v1': '1_0' is no float"),
            (7, "f", "value 2 is NaN"),
            (8, "c", "duplicate of line 3"),
        ],
    ),
    (
        "glove.txt",
        lines("the .5 1", ". . .5 1", b"\xff .5 1", "of .5 1"),
        {},
        ["the", "of"],
        [(2, "", "4 fields where 3"), (3, "", "column 'id': the text is not valid UTF-8")],
    ),
    (
        "words.bin",
        word2vec_binary([b"a", b"\xff", b"c\x01", b"", b"e", b"f"], [GOOD] * 4 + [[NAN, 1], GOOD]),
        {},
        ["a", "f"],
        [
            (2, "", "the word is not valid UTF-8"),
            (3, "", "the word holds a control character"),
            (4, "", "the id is empty"),
            (5, "e", "value 1 is NaN"),
        ],
    ),
    (
        "rows.parquet",
        parquet(
            {
                "id": pa.array([1, 2**63, 3, None, 5, 6, 1], pa.uint64()),
                "v": [GOOD, GOOD, [1.0], GOOD, [0.0, 0.0], None, GOOD],
            }
        ),
        {},
        [1],
        [
            (2, str(2**63), "the id is beyond bigint"),
            (3, "3", "1 components"),
            (4, "", "the id is missing"),
            (5, "5", "all values are 0"),
            (6, "6", "the vector is missing"),
            (7, "1", "duplicate of row 1"),
        ],
    ),
    (
        "fixed.parquet",
        parquet(
            {
                "id": ["a", "b", "c\0", "d" * 1025, "e"],
                "v": pa.array([GOOD, [None, 1.0], GOOD, GOOD, GOOD], pa.list_(pa.float32(), 2)),
                "n": pa.array([1, 1, 1, 1, 2**64 - 1], pa.uint64()),
            }
        ),
        {},
        ["a"],
        [
            (2, "b", "a component is missing"),
            (3, "", "the id holds the character NUL"),
            (4, "", "the id is 1025 bytes long"),
            (5, "e", "column 'n' cannot be stored as bigint"),
        ],
    ),
    (
        "rows.arrows",
        arrow(
            {
                "id": [1, 2, 3, 4, 5],
                "v0": [0.5, None, 1e300, 1e-25, 0.5],
                "v1": [0.5, 0.5, 0.5, 0.0, 0.5],
                "tags": [None, None, None, None, {"a": NAN}],
            }
        ),
        {},
        [1],
        [
            (2, "2", "a component is missing"),
            (3, "3", "value 1 is 1e+300, beyond float32"),
            (4, "4", "its norm is 1e-25"),
            (5, "5", "column 'tags' cannot be stored as jsonb (JSON has neither"),
        ],
    ),
    (
        "rows.npz",
        npz([1, 2, 1, 4], [GOOD, [INF, 1], GOOD, [1e-5, 7e4]]),
        {"precision": "float16"},
        [1],
        [
            (2, "2", "value 1 is infinity"),
            (3, "1", "duplicate of row 1"),
            (4, "4", "value 2 is 70000, beyond float16"),
        ],
    ),
]


@pytest.mark.parametrize(
    ("name", "content", "how", "good", "bad"), FILES, ids=[each[0] for each in FILES]
)
def test_bad_rows_are_left_out_and_listed(
    store: Store,
    tmp_path: Path,
    name: str,
    content: bytes,
    how: dict[str, Any],
    good: list[Any],
    bad: list[tuple[int, str, str]],
) -> None:
    path, rejects = tmp_path / name, tmp_path / "rejects.csv"
    path.write_bytes(content)
    warned: list[str] = []
    table = store.create_table("items")
    version = table.load(path, on_bad="skip", rejects=rejects, warn=warned.append, **how)
    assert version.rows == len(good) == version.lookup(good).found.sum()
    found = sorted(listed(rejects), key=lambda row: int(row[1]))
    assert [(int(row), key) for _, row, key, _ in found] == [(row, key) for row, key, _ in bad]
    for (source, *_, reason), (*_, said) in zip(found, bad, strict=True):
        assert source == str(path)
        assert said in reason
    assert version.source["rejected"] == len(bad)
    assert warned == [f"{len(bad)} of {len(good) + len(bad):,} rows rejected: {rejects}"]
    # The version is what the good rows alone would be.
    other = store.create_table("other", precision=how.get("precision"))
    again = other.load(version.to_arrow(), index="none")
    assert (again.checksum, "rejected" in again.source) == (version.checksum, False)
    # One row fewer allowed, and nothing is loaded; nor is it by default, at the first.
    with pytest.raises(BadInput, match=f"one more than the {len(bad) - 1} bad rows allowed"):
        table.load(path, on_bad=f"abort-after={len(bad) - 1}", rejects=rejects, **how)
    assert len(listed(rejects)) == len(bad)
    exact = table.load(path, on_bad=f"abort-after={len(bad)}", **how | {"index": "none"})
    assert exact.checksum == version.checksum
    with pytest.raises(BadInput, match=name):
        table.load(path, **how)
    assert len(table.versions()) == 2


def test_objects(store: Store, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    table = store.create_table("items")

    def load(source: Any, **how: Any) -> tuple[list[Any], list[Any]]:
        version = table.load(source, on_bad="skip", rejects=rejects, index="none", **how)
        return sorted(version.to_arrow()["id"].to_pylist()), listed(rejects)

    mapping = {1: GOOD, 2: [1.0], 3: "no", 4: [NAN, 1.0], 5: [], 6: GOOD}
    assert load(mapping) == (
        [1, 6],
        [
            ("mapping", "2", "2", "1 components where the first has 2"),
            ("mapping", "3", "3", "no vector of numbers"),
            ("mapping", "5", "5", "0 components where the first has 2"),
            ("mapping", "4", "4", "value 1 is NaN"),
        ],
    )
    array = np.array([GOOD, [0, 0], GOOD, GOOD])
    assert load(array, ids=[7, 8, None, 7]) == (
        [7],
        [
            ("array", "3", "", "the id is missing"),
            ("array", "2", "8", "all values are 0, which has no direction to compare by cosine"),
            ("array", "4", "7", "duplicate of row 1"),
        ],
    )
    biased = pa.table({"id": [1, 2, 3], "v": [GOOD, None, GOOD], "bias": [1.0, 2.0, None]})
    assert load(biased, bias="fold") == (
        [1],
        [
            ("Table", "2", "2", "the vector is missing"),
            ("Table", "3", "3", "the bias is missing"),
        ],
    )


def test_ids_from_elsewhere_stay_with_their_rows(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(lines("v0,v1", "1,1", "1", "x,3", "4,4", ",5", "6,6", "7"))
    (tmp_path / "ids.txt").write_text("".join(f"i{n}\n" for n in range(1, 8)))
    table = store.create_table("items")
    how: dict[str, Any] = {"on_bad": "skip", "rejects": tmp_path / "r.csv"}
    version = table.load(path, ids=tmp_path / "ids.txt", **how)
    np.testing.assert_array_equal(
        version.lookup(["i1", "i4", "i6"]).vectors, [[1, 1], [4, 4], [6, 6]]
    )
    assert version.rows == 3
    assert [row[1:3] for row in listed(tmp_path / "r.csv")] == [
        ("2", ""),
        ("7", ""),
        ("3", ""),
        ("5", "i5"),
    ]
    numbers = store.create_table("numbers").load(path, ids="row-number", **how)
    assert numbers.lookup([0, 3, 5]).vectors[:, 0].tolist() == [1, 4, 6]
    (tmp_path / "ids.txt").write_text("".join(f"i{n}\n" for n in range(1, 9)))
    with pytest.raises(BadInput, match="8 ids for 7 vectors"):
        table.load(path, ids=tmp_path / "ids.txt", **how)


def test_row_numbers_stay_those_of_the_source(store: Store, tmp_path: Path) -> None:
    """Over many batches, whatever was left out before, by the parser or by a check."""
    count = 30_000
    rows = [f"{i},{i}.5,1" for i in range(count)]
    bad = {5: "5", 6: "6,x,1", 7000: "7000,nan,1", 7001: "7001,,1", 29_998: "29998,1,1,1"}
    for row, text in bad.items():
        rows[row] = text
    rows[29_999] = "29997,1,1"
    path, rejects = tmp_path / "a.csv", tmp_path / "rejects.csv"
    path.write_bytes(lines("id,v0,v1", *rows))
    version = store.create_table("items").load(
        path, on_bad="skip", rejects=rejects, index="none", id_type="bigint"
    )
    assert version.rows == count - 6
    found = listed(rejects)
    assert sorted(int(row[1]) for row in found) == [6, 7, 7001, 7002, 29_999, 30_000]
    assert found[-1] == (str(path), "30000", "29997", "duplicate of row 29998")
    # A failure beyond them names its row, too.
    rows[29_999] = "29999,inf,1"
    path.write_bytes(lines("id,v0,v1", *rows))
    with pytest.raises(BadInput, match=r"a\.csv row 30000 \(id 29999\): value 1 is infinity"):
        store.table("items").load(path, on_bad="abort-after=5")


def test_several_files(store: Store, tmp_path: Path) -> None:
    paths = [tmp_path / f"part{i}.parquet" for i in range(3)]
    ids = [[1, 2, 3], [3, 4, 1], [5, 2, 6]]
    for path, keys in zip(paths, ids, strict=True):
        vectors = [GOOD, [NAN, 1.0] if path is paths[1] else GOOD, GOOD]
        path.write_bytes(parquet({"id": keys, "v": vectors}))
    rejects = tmp_path / "rejects.csv"
    version = store.create_table("items").load(paths, on_bad="skip", rejects=rejects)
    assert version.rows == 5
    assert listed(rejects) == [
        (str(paths[1]), "2", "4", "value 1 is NaN"),
        (str(paths[1]), "1", "3", f"duplicate of {paths[0]} row 3"),
        (str(paths[1]), "3", "1", f"duplicate of {paths[0]} row 1"),
        (str(paths[2]), "2", "2", f"duplicate of {paths[0]} row 2"),
    ]
    assert version.source["rejected"] == 4
    assert version.nearest(GOOD, 10).ids.shape == (1, 5)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("id_type", ["bigint", "text"])
def test_the_first_of_many_duplicates_stays(
    store: Store, tmp_path: Path, id_type: str, precision: str
) -> None:
    vectors = clusters(9000, 3).astype("f2")
    ids = np.random.default_rng(0).integers(0, 2000, 9000)
    table = store.create_table("items")
    how: dict[str, Any] = {"id_type": id_type, "precision": precision}
    rejects = tmp_path / "rejects.csv"
    version = table.load(vectors, ids=ids, on_bad="skip", rejects=rejects, **how)
    kept, first = np.unique(ids, return_index=True)
    alone = table.load(vectors[first], ids=kept, index="none", **how)
    assert (version.rows, version.checksum) == (len(kept), alone.checksum)
    assert len(listed(rejects)) == 9000 - len(kept) == version.source["rejected"]
    keys = kept.tolist() if id_type == "bigint" else [str(each) for each in kept.tolist()]
    np.testing.assert_array_equal(version.lookup(keys).vectors, vectors[first].astype("f4"))
    found = version.nearest(vectors[:20], 10)
    assert all(len(set(row)) == 10 for row in found.ids.tolist())


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_skipping_is_loading_the_good_rows(
    skipping: Callable[..., embstore.Version], data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, 40))
    kind = data.draw(st.lists(st.integers(0, 6), min_size=rows, max_size=rows).filter(_some_good))
    vectors = clusters(rows, 3) + 2
    ids: list[Any] = [f"i{n}" for n in range(rows)]
    seen: list[int] = []
    for row, what in enumerate(kind):
        if what == 1:
            vectors[row, row % 3] = NAN
        elif what == 2:
            vectors[row] = 0
        elif what == 3:
            ids[row] = None
        elif what == 4:
            ids[row] = ""
        elif what == 5 and seen:
            ids[row] = ids[seen[row % len(seen)]]
        else:
            seen.append(row)
    alone = skipping(vectors[seen], [ids[row] for row in seen])
    assert alone.source["rejected"] == 0
    found = skipping(vectors, ids)
    assert (found.rows, found.checksum) == (len(seen), alone.checksum)
    assert found.source["rejected"] == rows - len(seen)


def _some_good(kind: list[int]) -> bool:
    return any(each in {0, 6} for each in kind)


@pytest.fixture(scope="module")
def skipping(pg: Any) -> Any:
    """Load into one table for all examples, leaving bad rows out."""
    import psycopg

    with psycopg.connect(pg.url(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE bad_rows TEMPLATE template")
    with embstore.connect(pg.url("bad_rows")) as store:
        table = store.create_table("items", id_type="text")
        yield lambda vectors, ids: table.load(vectors, ids=ids, on_bad="skip", index="none")


def test_nothing_good_is_left(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"array holds no rows that can be stored: .*2 of 2 rows"):
        store.create_table("items").load(np.zeros((2, 2)), ids=[1, 2], on_bad="skip")
    assert nothing_is_left(store)


def test_what_is_damaged_ends_the_load(store: Store, tmp_path: Path) -> None:
    table = store.create_table("items")
    whole = parquet({"id": range(50_000), "v": [GOOD] * 50_000})
    for name, content, said in [
        ("a.parquet", whole[:-100], "cannot be read as Parquet"),
        ("a.bin", word2vec_binary([b"a", b"b"], [GOOD, GOOD])[:-1], "truncated|do not fit"),
        ("b.vec", lines("5 2", "a 1 2", "b 1", "c 1 2"), "declares 5 vectors and holds 3"),
        ("a.csv", lines("id,v0,v1", '1,"2,3'), "holds no rows|quote"),
        ("a.jsonl", b'{"id": 1, "v": [' + b"1," * (5 << 20), "a line is longer"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=said) as refused:
            table.load(tmp_path / name, on_bad="skip")
        assert name in str(refused.value)
    assert nothing_is_left(store)


def test_one_value_of_numbered_columns_is_found_where_it_is(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(lines("id,v0,v1,v2", "1,1,2,3", "2,1,?,3", "3,1,2,3"))
    with pytest.raises(BadInput, match=r"a\.csv row 2 cannot be read as CSV: column 'v1'"):
        store.create_table("items").load(path)


def test_policies_are_checked_before_anything_is_read(store: Store, tmp_path: Path) -> None:
    table = store.create_table("items")
    source = tmp_path / "a.csv"
    source.write_bytes(lines("id,v0,v1", "1,1,2"))
    (tmp_path / "link.csv").symlink_to(source)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"on_bad": "ignore"}, "'ignore' is no policy: use reject, skip or abort-after=N"),
        ({"on_bad": "abort-after=-1"}, "is no policy"),
        ({"zero": "skip"}, "'skip' is no policy for zero vectors: use reject or keep"),
        ({"rejects": tmp_path / "r.csv"}, r"add on_bad='skip' or 'abort-after=N' \(--on-bad\)"),
        ({"on_bad": "skip", "rejects": tmp_path / "no" / "r.csv"}, "r.csv: the rejects cannot be"),
        ({"on_bad": "skip", "rejects": tmp_path}, "rejects cannot be written .*directory"),
        ({"on_bad": "skip", "rejects": source}, "is to be loaded"),
        ({"on_bad": "skip", "rejects": tmp_path / "link.csv"}, "is to be loaded"),
    ]
    for how, said in refused:
        with pytest.raises(InvalidQuery, match=said):
            table.load("missing.csv" if "no" in str(how) else source, **how)
    assert source.read_bytes().startswith(b"id,v0")
    assert nothing_is_left(store)


def test_the_rejects_of_a_load_that_fails_later(store: Store, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    table = store.create_table("items")
    frame = pa.table({"id": [1, 2], "v": [GOOD, None]})
    attributes = pa.table({"id": [7], "year": [1]})
    with pytest.raises(BadInput, match="none of its ids"):
        table.load(frame, on_bad="skip", rejects=rejects, attributes=attributes)
    assert [row[1] for row in listed(rejects)] == ["2"]
    with pytest.raises(BadInput, match=r"row 1 \(id 1\): duplicate|row 3 \(id 1\): duplicate of"):
        table.load(np.ones((3, 2)), ids=[1, 2, 1], on_bad="abort-after=0", rejects=rejects)
    assert listed(rejects) == [("array", "3", "1", "duplicate of row 1")]
    assert nothing_is_left(store)


def test_without_a_file_the_warning_names_the_first(store: Store) -> None:
    warned: list[str] = []
    store.create_table("items").load(
        np.array([GOOD, [NAN, 1]]), ids=[1, 2], on_bad="skip", warn=warned.append
    )
    assert warned == [
        "1 of 2 rows rejected, the first is array row 2 (id 2): value 1 is NaN; --rejects FILE"
        " (rejects=) lists them"
    ]


def test_attributes_stay_with_their_rows(store: Store) -> None:
    frame = pa.table({"id": [1, 2, 3, 4], "v": [GOOD, None, [NAN, 1.0], GOOD], "n": [1, 2, 3, 4]})
    side = pa.table({"id": [4, 3, 2, 1], "title": ["four", "three", "two", "one"]})
    version = store.create_table("items").load(frame, on_bad="skip", attributes=side)
    found = version.lookup([4, 1], show=["n", "title"]).attributes
    assert (found["n"].tolist(), found["title"].tolist()) == ([4, 1], ["four", "one"])


@pytest.mark.parametrize("index", ["hnsw", "none"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_zero_vectors_can_be_kept(store: Store, precision: str, index: str) -> None:
    vectors = clusters(200, 4)
    vectors[::10] = 0
    zeros = set(range(0, 200, 10))
    table = store.create_table("items")
    version = table.load(
        vectors, ids=range(200), zero="keep", precision=precision, index=index, promote=True
    )
    assert version.rows == 200
    assert (version.lookup([0, 10]).vectors == 0).all() and version.lookup([0]).found.all()
    for reads in (version, table):
        for k in (5, 180, 200):
            for exact in (False, True):
                found = reads.nearest(vectors[1:4], k, exact=exact)
                assert found.ids.shape == (3, min(k, 180))
                assert not zeros & set(found.ids.ravel().tolist())
                assert ((found.distances >= 0) & (found.distances <= 2.000001)).all()
        assert reads.similar([1, 2], 200).ids.shape == (2, 179)
        for ids in ([0], [1, 0]):
            with pytest.raises(InvalidQuery, match=r"id 0 of items.* is a zero vector"):
                reads.similar(ids, 5)
    with store.connection() as connection:
        query = "SELECT embedding::vector FROM emb.items_v1 WHERE id = 1"
        rows = connection.execute(
            f"SELECT id::int, distance FROM embstore.nearest('items', ({query}), 200)"  # noqa: S608
        ).fetchall()
    assert len(rows) == 180 and all(0 <= distance <= 2.000001 for _, distance in rows)


def test_only_zero_has_no_direction(store: Store) -> None:
    """A tiny vector has one, but pgvector would call it near to everything."""
    table = store.create_table("items")
    tiny = np.array([[1e-25, 0], GOOD])
    with pytest.raises(BadInput, match="its norm is 1e-25"):
        table.load(tiny, ids=[1, 2], zero="keep")
    assert table.load(tiny, ids=[1, 2], zero="keep", on_bad="skip").rows == 1
    negative = table.load(np.array([[-0.0, 0.0]]), ids=[1], zero="keep")
    assert np.signbit(negative.lookup([1]).vectors[0]).tolist() == [True, False]
    assert negative.nearest(GOOD, 3).ids.shape == (1, 0)


def test_the_command_line(cli: Command, tmp_path: Path) -> None:
    path, rejects = tmp_path / "a.csv", tmp_path / "rejects.csv"
    path.write_bytes(lines("id,v0,v1", "1,1,2", "2,1,x", "3,0,0", "4,1,2"))

    def load(*how: object) -> subprocess.CompletedProcess[str]:
        return cli("load", "items", path, "--index", "none", *how)

    done = load("--on-bad", "skip", "--rejects", rejects, "--json")
    assert (done.returncode, done.stderr) == (0, f"embstore: 2 of 4 rows rejected: {rejects}\n")
    shown = json.loads(done.stdout)
    assert (shown["rows"], shown["rejected"]) == (2, 2)
    assert [row[1] for row in listed(rejects)] == ["2", "3"]
    kept = load("--on-bad", "abort-after=1", "--zero", "keep", "--json")
    assert (kept.returncode, json.loads(kept.stdout)["rows"]) == (0, 3)
    stopped = load("--on-bad", "abort-after=1", "--rejects", rejects)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"embstore: {path} row 3 (id 3): all values are 0")
    assert f"one more than the 1 bad rows allowed: mend or remove them ({rejects} lists them)" in (
        stopped.stderr
    )
    assert stopped.stderr.count("\n") == 1
    assert load().returncode == 1
    wrong = load("--on-bad", "ignore")
    assert wrong.returncode == 2 and "'ignore' is no policy" in wrong.stderr


def test_arrivals() -> None:
    arrivals = Arrivals()
    one, two = Place("a"), Place("b")
    arrivals.add(one, np.array([0, 1, 4, 5, 9]))
    arrivals.add(two, np.array([3, 4]))
    assert [arrivals.place(i) for i in range(7)] == [
        (one, 0), (one, 1), (one, 4), (one, 5), (one, 9), (two, 3), (two, 4)
    ]  # fmt: skip


@given(st.lists(st.booleans()))
def test_failing_finds_all(bad: list[bool]) -> None:
    array = pa.array(["x" if each else "1" for each in bad], pa.string())
    wanted = [row for row, each in enumerate(bad) if each]
    assert failing(array, lambda part: part.cast(pa.int64())) == wanted
