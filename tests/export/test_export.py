"""Versions into files and back: the same ids and bits, or a refusal before anything is there."""

import datetime
import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from embstore.cli import group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embstore
from embstore import AlreadyExists, BadInput, InvalidQuery, LoadFailed, Store, Version
from embstore.atomic import written
from embstore.catalog import VersionRow
from embstore.export import format_of, formats
from embstore.export.rows import Rows
from embstore.query.stream import Block
from embstore.readers import Wanted, open_source
from embstore.readers import formats as read_formats
from embstore.readers.exported import described
from embstore.types import Attribute, IdType, Metric, Precision, Status
from tests.fix_data import clusters
from tests.fix_store import Command, Server

ROWS, DIM = 300, 12
WORDS = [f'"wörd"-{i}' for i in range(ROWS)]
NUMBERS = np.arange(ROWS) * 10**15 - 5
FILES = ["a.parquet", "a.arrow", "a.arrows", "a.npy", "a.vec", "a.bin", "a.safetensors", "a.tsv"]
KINDS = {
    "bigint": (NUMBERS, "ip", "float32"),
    "text": (WORDS, "ip", "float32"),
    "float16": (NUMBERS, "l2", "float16"),
    "text16": (WORDS, "l2", "float16"),
    "bits": (NUMBERS, "hamming", None),
}


@pytest.fixture(scope="module")
def versions(shared_store: Store) -> dict[str, Version]:
    """One version of each kind."""
    made = {}
    for name, (ids, metric, precision) in KINDS.items():
        vectors = clusters(ROWS, DIM)
        made[name] = shared_store.create_table(name, metric=metric).load(
            vectors if precision else vectors > 0,
            ids=ids,
            precision=precision,
            index="none",
            trainer="sklearn.PCA",
            params={"n": [1, {"ü": None}]},
            metrics={"loss": 0.5},
            space="run 7",
        )
    return made


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_loads_again(
    shared_store: Store, versions: dict[str, Version], tmp_path: Path, kind: str, file: str
) -> None:
    version = versions[kind]
    done = version.export(tmp_path / file)
    assert {each.name for each in tmp_path.iterdir()} == {each.name for each in done.files}
    assert done.bytes == sum(each.stat().st_size for each in done.files)
    ids = done.ids and str(done.ids)
    again = shared_store.table(kind).load(done.files[0], ids=ids, index="none")
    assert again.checksum == version.checksum == done.checksum
    assert again.rows == done.rows == ROWS
    if done.format in {"parquet", "arrow", "arrow-stream", "safetensors"}:
        told = (again.trainer, again.params, again.metrics, again.space)
        assert told == ("sklearn.PCA", version.params, version.metrics, None)
        assert again.source["exported"]["ref"] == f"{kind}@1"


def row_of(rows: int, dim: int, precision: Precision, id_type: IdType) -> VersionRow:
    now = datetime.datetime.now(datetime.UTC)
    return VersionRow(
        table_name="items", version=7, status=Status.READY, dim=dim, id_type=id_type,
        metric=Metric.L2, precision=precision, rows=rows, bytes=0, index_kind="none", indexes=(),
        attributes=(), trainer=None, params={}, metrics={}, source={}, checksum="",
        created_at=now, created_by="", ready_at=now, retired_at=None, space=None, appended=0,
    )  # fmt: skip


class Held(Rows):
    """Rows that come from no server, in two blocks."""

    def __init__(self, version: VersionRow, ids: pa.Array, vectors: Any) -> None:
        self.version, self.total = version, len(ids)
        self._ids, self._vectors = ids, vectors

    def longest_id(self) -> int:
        return max(map(len, self._ids.to_pylist()))

    def __iter__(self) -> Iterator[Block]:
        half = len(self._ids) // 2
        for part in slice(0, half), slice(half, None):
            if len(self._vectors[part]):
                yield Block(self._ids[part], [], self._vectors[part])


# What a table takes as ids, less what word2vec and the projector say that they cannot hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
BAD: dict[str, Callable[[str], bool]] = {
    "word2vec": lambda text: any(ord(each) <= 32 or each == "\x7f" for each in text),
    "projector": lambda text: (
        any(each in text for each in "\t\r\n") or text[0] == "\ufeff" or text.strip() == "id"
    ),
}


@pytest.mark.parametrize("name", [each.name for each in formats()])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_bit_and_id_survives(tmp_path: Path, name: str, data: st.DataObject) -> None:
    precision = data.draw(st.sampled_from([Precision.FLOAT32, Precision.FLOAT16, Precision.BIT]))
    dim = data.draw(st.integers(2 if name == "projector" else 1, 20))
    rows = data.draw(st.integers(1, 6))
    if precision is Precision.BIT:
        size = rows * -(-dim // 8)
        raw = data.draw(st.binary(min_size=size, max_size=size))
        spread = np.unpackbits(np.frombuffer(raw, "u1").reshape(rows, -1), axis=1, count=dim)
        stored: Any = np.packbits(spread, axis=1)
    else:
        kind = np.dtype(str(precision))
        width: Literal[16, 32] = 32 if precision is Precision.FLOAT32 else 16
        floats = st.floats(width=width, allow_nan=False, allow_infinity=False)
        values = data.draw(st.lists(floats, min_size=rows * dim, max_size=rows * dim))
        stored = np.array(values, kind).reshape(rows, dim)
    bad = BAD.get(name.removesuffix("-binary"))
    if data.draw(st.booleans()):
        keys: pa.Array = pa.array(
            data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows))
        )
    else:
        texts = TEXTS if bad is None else TEXTS.filter(lambda text: not bad(text))
        keys = pa.array(data.draw(st.lists(texts, min_size=rows, max_size=rows)))
    id_type = IdType.BIGINT if pa.types.is_integer(keys.type) else IdType.TEXT
    version = row_of(rows, dim, precision, id_type)
    chosen = format_of("", name)
    paths = [tmp_path / f"a{chosen.endings[0]}"]
    if (beside := chosen.beside(version)) is not None:
        paths.append(tmp_path / f"a{beside}")
    chosen.write(paths, Held(version, keys, stored))
    wanted = Wanted(ids=paths[1] if len(paths) > 1 else None, bits=precision is Precision.BIT)
    with open_source(paths[0], wanted) as opened:
        batches = list(opened.batches)
    ids = [key for batch in batches for key in batch.column("id").to_pylist()]
    assert list(map(str, ids)) == list(map(str, keys.to_pylist()))
    flat = np.concatenate([np.asarray(batch.column("embedding").flatten()) for batch in batches])
    found = flat.reshape(rows, dim)
    if precision is Precision.BIT:
        assert np.packbits(found != 0, axis=1).tobytes() == stored.tobytes()
        assert ((found == 0) | (found == 1)).all()
    else:
        assert found.astype(stored.dtype).tobytes() == stored.tobytes()


def test_the_first_line_of_numbers_is_no_header(tmp_path: Path) -> None:
    version = row_of(1, 3, Precision.FLOAT32, IdType.BIGINT)
    held = Held(version, pa.array([9]), np.array([[0, 1, 2]], np.float32))
    paths = [tmp_path / "a.tsv", tmp_path / "a.metadata.tsv"]
    format_of("a.tsv", None).write(paths, held)
    with open_source(paths[0], Wanted(ids=paths[1])) as opened:
        assert next(iter(opened.batches)).column("embedding").to_pylist() == [[0, 1, 2]]


def test_formats_are_called_as_their_readers_are() -> None:
    readers = {each.name: each.endings for each in read_formats()}
    for each in formats():
        assert set(each.endings) <= set(readers[each.name.removesuffix("-stream")]), each.name
        assert format_of(f"A{each.endings[0].upper()}", None) is each
    with pytest.raises(InvalidQuery, match=r"'x\.gz': its ending does not say"):
        format_of("x.gz", None)


def test_other_libraries_read_them(versions: dict[str, Version], tmp_path: Path) -> None:
    from gensim.models import KeyedVectors
    from safetensors.numpy import load_file

    ids, vectors = versions["text"].to_numpy()
    for name in "a.vec", "a.bin":
        path = versions["text"].export(tmp_path / name).files[0]
        found = KeyedVectors.load_word2vec_format(str(path), binary=name == "a.bin")
        assert found.index_to_key == list(ids)
        assert found.vectors.tobytes() == vectors.tobytes()
    done = versions["text"].export(tmp_path / "a.npy")
    assert done.ids is not None
    assert np.load(done.ids).tolist() == list(ids)
    assert np.load(done.files[0]).tobytes() == vectors.tobytes()
    tensors = load_file(versions["float16"].export(tmp_path / "a.safetensors").files[0])
    assert tensors["embedding"].dtype == np.float16
    assert tensors["id"].tolist() == NUMBERS.tolist()


ATTRIBUTES = {
    "title": ['say "hi"', '"quoted"', "", None],
    "count": [1, -2, None, 4],
    "mean": [1.0, 0.1, None, -3.0],
    "fresh": [True, False, None, True],
    "day": [datetime.date(2020, 2, 29), None, datetime.date(1999, 1, 1), None],
    "at": [datetime.datetime(2020, 1, 1, 12, 0, 0, 5), None, None, None],
    "seen": [datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), None, None, None],
    "tags": [["a", "b"], None, [], ['"']],
}


@pytest.fixture(scope="module")
def books(shared_store: Store) -> Version:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(clusters(4, 3).ravel()), 3)
    table = pa.table({"id": ["a", '"b"', "c", "007"], "embedding": flat, **ATTRIBUTES})
    return shared_store.create_table("books", metric="l2").load(table, index="none")


@pytest.mark.parametrize("file", ["a.parquet", "a.arrow", "a.arrows", "a.tsv"])
def test_attributes_travel(shared_store: Store, books: Version, tmp_path: Path, file: str) -> None:
    done = books.export(tmp_path / file)
    assert done.attributes == tuple(ATTRIBUTES)
    assert done.left_out == ()
    # Of text files JSON comes back as text, which the table's own column is not.
    name = "books" if file != "a.tsv" else "read_back"
    table = shared_store.table("books") if name == "books" else shared_store.create_table(name)
    again = table.load(done.files[0], ids=done.ids and str(done.ids), index="none")
    assert again.checksum == books.checksum
    was, found = (each.to_arrow().drop(["embedding"]) for each in (books, again))
    if file == "a.tsv":
        assert found.column("tags").to_pylist() == ['["a", "b"]', None, "[]", '["\\""]']
        was, found = was.drop(["tags"]), found.drop(["tags"])
    assert found.to_pylist() == was.to_pylist()
    assert found.schema.equals(was.schema)


def test_some_attributes_or_none(books: Version, tmp_path: Path) -> None:
    done = books.export(tmp_path / "a.parquet", attributes=["day", "title"])
    assert pq.read_schema(done.files[0]).names == ["id", "title", "day", "embedding"]
    assert set(done.left_out) == set(ATTRIBUTES) - {"day", "title"}
    done = books.export(tmp_path / "a.tsv", attributes=())
    assert done.files[1].read_text().splitlines() == ["a", '"b"', "c", "007"]
    done = books.export(tmp_path / "a.npy")
    assert done.left_out == tuple(ATTRIBUTES)
    with pytest.raises(InvalidQuery, match="books@1 has no attribute 'author': it has title"):
        books.export(tmp_path / "b.parquet", attributes=["author"])
    with pytest.raises(InvalidQuery, match="npy holds no attributes: parquet"):
        books.export(tmp_path / "b.npy", attributes=["day"])


REFUSED: list[tuple[str, dict[str, Any], list[Any], str]] = [
    ("a.vec", {}, ["New York", "x"], "id 'New York' holds a blank or a control"),
    ("a.bin", {}, ["x", "a\x7fb"], r"id 'a\\x7fb' holds a blank or a control"),
    ("a.tsv", {}, ["x", "a\tb"], r"id 'a\\tb' holds a tab"),
    (
        "a.tsv",
        {},
        ["x", " id"],
        "id ' id' holds a tab, a line break, a byte order mark or the word id",
    ),
    ("a.tsv", {}, ["\ufeffx", "y"], r"id '\\ufeffx' holds a tab, a line break, .*byte order"),
    ("a.tsv", {"note": ["fine", "two\nlines"]}, [1, 2], "column 'note' of id 2 holds a tab"),
    ("a.tsv", {"a\tb": [1, 2]}, [1, 2], r"the name of column 'a\\tb' holds a tab"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_what_a_format_cannot_hold(shared_store: Store, tmp_path: Path, case: int) -> None:
    file, attributes, ids, says = REFUSED[case]
    table = pa.table({"id": ids, "embedding": [[1.0, 2.0], [3.0, 4.0]], **attributes})
    version = shared_store.create_table(f"odd_{case}").load(table, index="none")
    with pytest.raises(BadInput, match=f"odd_{case}@1: {says}.*parquet or arrow|{says}"):
        version.export(tmp_path / file)
    assert not list(tmp_path.iterdir())
    done = version.export(tmp_path / "a.parquet")
    again = shared_store.table(f"odd_{case}").load(done.files[0], index="none")
    assert again.checksum == version.checksum


def test_too_many_dims_for_text(shared_store: Store, tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (2, 16_001)).astype(bool)
    version = shared_store.create_table("wide", metric="hamming").load(bits, ids=[1, 2])
    for file in "a.vec", "a.bin", "a.tsv":
        with pytest.raises(BadInput, match=r"wide@1 has 16001 dimensions, .* export it to parquet"):
            version.export(tmp_path / file)
    done = version.export(tmp_path / "a.parquet")
    assert shared_store.table("wide").load(done.files[0]).checksum == version.checksum


def test_what_is_there_stays_unless_told(versions: dict[str, Version], tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_text("mine")
    with pytest.raises(AlreadyExists, match=r"a\.npy is there already: .*--overwrite"):
        versions["text"].export(path)
    path.chmod(0o600)
    versions["text"].export(path, overwrite=True)
    assert np.load(path).shape == (ROWS, DIM)
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    with pytest.raises(AlreadyExists, match=r"a\.ids\.npy is there already"):
        versions["text"].export(path)
    link = tmp_path / "link.parquet"
    link.symlink_to("a.parquet")
    versions["text"].export(link)
    assert link.is_symlink()
    assert (tmp_path / "a.parquet").is_file()
    with pytest.raises(BadInput, match="it is a folder"):
        versions["text"].export(tmp_path, "npy", overwrite=True)
    with pytest.raises(BadInput, match=r"no/a\.npy cannot be written: No such file"):
        versions["text"].export(tmp_path / "no" / "a.npy")
    with pytest.raises(InvalidQuery, match=r"^s3://bucket/a\.npy is a URL: export to a file"):
        versions["text"].export("s3://bucket/a.npy")


def test_altered_rows_are_no_export(store: Store, tmp_path: Path) -> None:
    version = store.create_table("items").load(clusters(9, 4), ids=range(9), index="none")
    with psycopg.connect(store.url) as connection:
        connection.execute("UPDATE emb.items_v1 SET embedding = '[1,2,3,4]' WHERE id = 5")
    for file in FILES:
        old = tmp_path / file
        old.write_text("old")
        with pytest.raises(LoadFailed, match="items@1 arrived with 9 rows and checksum"):
            version.export(old, overwrite=True)
        assert old.read_text() == "old"
    assert {each.name for each in tmp_path.iterdir()} == set(FILES)


def test_rows_that_joined_go_along(store: Store, tmp_path: Path) -> None:
    vectors = clusters(9, 4)
    items = store.create_table("items")
    version = items.load(vectors[:6], ids=range(6), index="none")
    store["items@1"].append(vectors[6:], ids=[6, 7, 8])
    done = version.export(tmp_path / "a.parquet")  # by what was opened before
    assert (done.rows, done.attributes) == (9, ("origin", "appended_at"))
    done = version.export(tmp_path / "b.parquet", attributes=())
    assert items.load(done.files[0]).checksum == store["items@1"].checksum == done.checksum


def test_a_lost_connection_is_called_so(store: Store, tmp_path: Path) -> None:
    with pytest.raises(embstore.ConnectionFailed), written(tmp_path / "a"):
        raise embstore.ConnectionFailed("the server went away")
    full = pytest.raises(BadInput, match="a cannot be written: No space left")
    with full, written(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: ...")
    assert not list(tmp_path.iterdir())


def test_what_ended_early_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    left = tmp_path / ".a.parquet.0123abcd.aside"  # as kill -9 leaves it
    left.write_text("half")
    with pytest.raises(KeyboardInterrupt), written(path) as (aside,):
        assert not left.exists()
        aside.write_text("half")
        with written(path) as (other,):
            assert aside.exists()  # somebody writes it still
            other.write_text("whole")
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["a.parquet"]
    assert path.read_text() == "whole"
    with pytest.raises(AlreadyExists), written(tmp_path / "b", overwrite=False):
        (tmp_path / "b").write_text("another's")
    assert (tmp_path / "b").read_text() == "another's"


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    version = row_of(2, 2, Precision.FLOAT32, IdType.BIGINT)
    table = pa.table({"id": [1, 2], "embedding": [[1.0, 2.0], [3.0, 4.0]]})
    for key, value in {
        "params": '{"a": NaN}',
        "metrics": "[" * 100_000,
        "params ": '{"a": "\\u0000"}',
        "trainer": b"\xff",
    }.items():
        note = {**described(version), f"embstore.{key.strip()}": value}
        pq.write_table(table.replace_schema_metadata(note), tmp_path / "a.parquet")
        with open_source(tmp_path / "a.parquet") as opened:
            assert (opened.trainer, opened.params, opened.metrics) == (None, {}, {})
            assert list(opened.batches)


def test_json_columns_are_jsonb(store: Store, tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2], "embedding": [[1.0], [2.0]]})

    def with_json(*texts: str | None) -> pa.Table:
        return table.append_column("more", pa.array(texts, pa.json_()))

    items = store.create_table("items", metric="l2")
    version = items.load(with_json('{"a": 1.10}', None))
    assert version.attributes == (Attribute("more", "jsonb"),)
    assert version.to_arrow().column("more").to_pylist() == ['{"a": 1.10}', None]
    for bad in "{", '"\\u0000"':
        with pytest.raises(BadInput, match=r"row 2 \(id 2\): column 'more' cannot be stored"):
            items.load(with_json("1", bad))


def test_on_the_command_line(pg: Server, database: str, cli: Command, tmp_path: Path) -> None:
    with embstore.connect(pg.url(database)) as store:
        frame = {"id": ["a", "b"], "embedding": [[1.0, 0.5], [0.1, -0.0]], "title": ["x y", "z"]}
        version = store.create_table("items").load(pa.table(frame), index="none", promote=True)
    path = tmp_path / "a.npy"
    done = cli("export", "items", path, "--json")
    said = json.loads(done.stdout)
    assert (said["ref"], said["format"], said["rows"]) == ("items@1", "npy", 2)
    assert (said["checksum"], said["left_out"]) == (version.checksum, ["title"])
    assert said["files"] == [str(path), str(tmp_path / "a.ids.npy")]
    assert said["load"] == f"embstore load TABLE {path} --ids {tmp_path / 'a.ids.npy'}"
    again = cli("export", "items", path)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == (
        f"embstore: {path} is there already: give another name, or overwrite=True (--overwrite)"
        " to replace it\n"
    )
    text = cli("export", "items@1", path, "--overwrite", "--format", "word2vec")
    assert text.stdout.startswith(f"items@1: 2 rows to {path}, 21 B, in ")
    assert "attributes left out: title\n" in text.stdout
    assert path.read_text() == "2 2\na 1 0.5\nb 0.1 -0\n"
    usage = CliRunner().invoke(group, ["export", "items", str(path), "--format", "csv"])
    assert usage.exit_code == 2
    assert "there is no format 'csv' to export to: use parquet, arrow" in usage.stderr
