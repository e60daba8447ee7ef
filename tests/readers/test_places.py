"""Where sources lie: folders, globs, Hive partitions, URLs, pipes and queries."""

import collections
import gzip
import hashlib
import http.server
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest
from psycopg import sql

import embstore
from embstore import BadInput, ConnectionFailed, EmbstoreError, NotFound, Query, Store
from embstore.readers import Wanted, open_source, places, read_attributes
from embstore.readers.folders import files_of
from embstore.readers.places import shown
from tests.fix_data import clusters
from tests.fix_store import Server, free_port
from tests.readers.test_files import FILES, VECTORS, WORDS

FORMATS = {name: make() for name, make in FILES.items()} | {
    "a.csv.gz": gzip.compress(FILES["a.csv"]()),
    "a.parquet.gz": gzip.compress(FILES["a.parquet"]()),
}


def read(source: object, format: str | None = None, **how: Any) -> tuple[list[Any], Any]:
    with open_source(source, Wanted(**how), format=format) as opened:
        batches = list(opened.batches)
    return [key for each in batches for key in each.column("id").to_pylist()], np.concatenate(
        [each.column("embedding").flatten().to_numpy() for each in batches]
    ).reshape(-1, opened.dim)


def column(store: Store, table: str, name: str) -> dict[Any, Any]:
    """An attribute of the live version by id."""
    statement = sql.SQL("SELECT id, {} FROM {}").format(
        sql.Identifier(name), sql.Identifier("emb", table)
    )
    with store.connection() as connection:
        return dict(connection.execute(statement).fetchall())


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def write(path: Path, ids: Any, vectors: Any, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    pq.write_table(pa.table({"id": list(ids), "embedding": flat, **more}), path)
    return path


# Folders and globs


def test_a_folder_is_one_version(store: Store, tmp_path: Path) -> None:
    vectors = clusters(30, 4)
    for i in (2, 0, 1):
        part = slice(10 * i, 10 * i + 10)
        write(tmp_path / "v" / "deep" / f"part-{i}.parquet", range(30)[part], vectors[part])
    for hidden in ("_SUCCESS", ".crc", "_temporary/x.parquet", ".git/x.csv"):
        path = tmp_path / "v" / hidden
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    items = store.create_table("items")
    version = items.load(str(tmp_path / "v") + "/", index="none")
    assert np.array_equal(version.lookup(range(30)).vectors, vectors)
    assert [Path(each["name"]).name for each in version.source["parts"]] == [
        f"part-{i}.parquet" for i in range(3)
    ]
    for glob in ("v/**", "v/*", "v/**/part-*.parquet"):
        assert items.load(tmp_path / glob, index="none").checksum == version.checksum
    some = items.load(tmp_path / "v" / "deep" / "part-[01].parquet", index="none")
    assert some.rows == 20


def test_hive_partitions_become_attributes(store: Store, tmp_path: Path) -> None:
    vectors = clusters(4, 3)
    for i, (year, lang) in enumerate([(2023, "en"), (2024, "7"), (2025, "a%20b")]):
        write(tmp_path / f"year={year}" / f"lang={lang}" / "p.parquet", [i], vectors[i : i + 1])
    null = "year=2026/lang=__HIVE_DEFAULT_PARTITION__/p.parquet"
    write(tmp_path / null, [3], vectors[3:])
    store.create_table("items").load(tmp_path, promote=True)
    with store.connection() as connection:
        found = connection.execute("SELECT id, year, lang FROM emb.items ORDER BY id").fetchall()
    assert found == [(0, 2023, "en"), (1, 2024, "7"), (2, 2025, "a b"), (3, 2026, None)]
    others = store.create_table("others")
    others.load(str(tmp_path / "year=202[45]"), index="none", promote=True)
    assert column(store, "others", "year") == {1: 2024, 2: 2025}


def test_a_name_with_stars_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "a[1].npy"
    path.write_bytes(npy(VECTORS))
    assert files_of(path) == [str(path)]
    (tmp_path / "_hidden.npy").write_bytes(npy(VECTORS))
    assert files_of(tmp_path / "_h*.npy") == [str(tmp_path / "_hidden.npy")]
    assert files_of("https://host/a*.npy") == ["https://host/a*.npy"]


def test_ids_of_several_files(store: Store, tmp_path: Path) -> None:
    vectors = clusters(30, 4)
    for i in range(3):
        np.save(tmp_path / f"part-{i}.npy", vectors[10 * i : 10 * i + 10])
    (tmp_path / "ids.txt").write_text("\n".join(f"book-{i}" for i in range(30)))
    glob = str(tmp_path / "part-*.npy")
    counted = store.create_table("counted").load(glob, ids="row-number", index="none")
    assert np.array_equal(counted.lookup(range(30)).vectors, vectors)
    named = store.create_table("named")
    version = named.load(glob, ids=tmp_path / "ids.txt", index="none")
    assert np.array_equal(version.lookup([f"book-{i}" for i in range(30)]).vectors, vectors)
    for count in (29, 31):
        with pytest.raises(BadInput, match=rf"{count} ids for.* (30|at least 30) vectors"):
            named.load(glob, ids=[f"b{i}" for i in range(count)], index="none")
    with pytest.raises(BadInput, match="a vocabulary gives the rows of one matrix"):
        named.load(glob, ids={"a": 0}, index="none")
    with pytest.raises(EmbstoreError, match=r"no_such: there is no such file"):
        named.load(glob, ids="no_such", index="none")
    with pytest.raises(embstore.DuplicateId, match=r"part-0.npy row 1 and .*part-2.npy row 10:"):
        named.load(glob, ids=[f"b{i % 29}" for i in range(30)], index="none")


def test_files_of_a_folder_that_differ(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.parquet", range(3), clusters(3, 4))
    write(tmp_path / "a" / "2.parquet", range(3, 6), clusters(3, 5))
    with pytest.raises(BadInput, match=r"2\.parquet has other columns than .*1\.parquet"):
        store.create_table("items").load(tmp_path / "a", index="none")


def bad_folder(tmp_path: Path, *names: str) -> Path:
    for each in names:
        path = tmp_path / "bad" / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FORMATS["a.parquet"])
    return tmp_path / "bad"


@pytest.mark.parametrize(
    ("files", "under", "says"),
    [
        (("_SUCCESS",), "", "bad holds no files to load"),
        (("a.parquet", "README.md"), "", r"several kinds .*name those to load with a glob"),
        (("a.parquet",), "*.npy", r"bad/\*\.npy: no file matches"),
        (("_delta_log/0.json", "a.parquet"), "", "is a Delta table"),
        (("id=3/a.parquet",), "", "called id=... cannot become an attribute"),
    ],
)
def test_folders_that_cannot_be_loaded(
    store: Store, tmp_path: Path, files: tuple[str, ...], under: str, says: str
) -> None:
    folder = bad_folder(tmp_path, *files)
    with pytest.raises(EmbstoreError, match=says):
        store.create_table("items").load(folder / under if under else folder)


# Web servers


@dataclass
class Web:
    """Files on a web server, and how it treats them."""

    port: int
    files: dict[str, bytes]
    ranges: bool = True
    lengths: bool = True
    cut: int | None = None
    asked: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@pytest.fixture
def web() -> Iterator[Web]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, body: bool = True) -> None:
            name = self.path.strip("/").split("?")[0]
            found.asked.append(f"{self.command} {self.headers.get('Range', '')}")
            if name.isdigit() or name not in found.files:
                self.send_error(int(name) if name.isdigit() else 404)
                return
            data, size = found.files[name], len(found.files[name])
            asked = self.headers.get("Range")
            if asked and found.ranges:
                first, last = asked.removeprefix("bytes=").split("-")
                stop = min(size, int(last or size) + 1)
                data = data[int(first) : stop]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{size}")
            else:
                self.send_response(200)
            if found.lengths:
                self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hash(found.files[name])}"')
            self.end_headers()
            if body:
                self.wfile.write(data[: found.cut])

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that has read enough

    server = Quiet(("127.0.0.1", 0), Handler)
    found = Web(server.server_address[1], dict(FORMATS))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("ranges", "lengths"), [(True, True), (False, True), (False, False)])
def test_every_format_from_the_web(web: Web, name: str, ranges: bool, lengths: bool) -> None:
    web.ranges, web.lengths = ranges, lengths
    format = "word2vec-binary" if name.endswith(".bin") else None
    ids, vectors = read(web.url(name), format)
    assert ids == WORDS
    assert np.array_equal(vectors, VECTORS)


def test_beside_files_from_the_web(web: Web, store: Store) -> None:
    web.files["v.npy"] = npy(VECTORS)
    web.files["ids.txt"] = "\n".join(WORDS).encode()
    web.files["more.csv"] = "\n".join(["id,n", *(f"{w},{i}" for i, w in enumerate(WORDS))]).encode()
    version = store.create_table("items").load(
        web.url("v.npy?X-Amz-Signature=secret"),
        ids=web.url("ids.txt"),
        attributes=web.url("more.csv"),
        promote=True,
    )
    assert np.array_equal(version.lookup(WORDS).vectors, VECTORS)
    assert column(store, "items", "n") == dict(zip(WORDS, range(20), strict=True))
    source = version.source
    assert source["name"] == web.url("v.npy")
    assert (source["file"], source["bytes"]) == ("v.npy", len(web.files["v.npy"]))
    assert source["etag"] and "secret" not in str(source)
    assert source["sha256"] == hashlib.sha256(web.files["v.npy"]).hexdigest()


def test_a_large_parquet_file_is_read_by_ranges(web: Web, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).random((100_000, 16), np.float32)
    path = write(tmp_path / "big.parquet", range(len(vectors)), vectors)
    web.files["big.parquet"] = path.read_bytes()
    with open_source(web.url("big.parquet")) as opened:
        assert sum(map(len, opened.batches)) == len(vectors)
        assert opened.later() == {}  # it is not fetched once more for its sha256
    assert any("bytes=" in each for each in web.asked)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("no.npy", NotFound, "no.npy: there is no such file"),
        ("403", ConnectionFailed, "403 cannot be opened: the credentials at hand may not read it"),
        ("500", ConnectionFailed, "500 cannot be opened: the server answers 500"),
    ],
)
def test_a_web_server_that_refuses(web: Web, name: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        read(web.url(name))


@pytest.mark.parametrize("name", ["a.csv", "a.vec", "a.parquet", "a.npz", "a.csv.gz"])
@pytest.mark.parametrize("lengths", [True, False])
def test_a_download_that_breaks_off(web: Web, name: str, lengths: bool) -> None:
    web.ranges, web.lengths, web.cut = False, lengths, 300
    with pytest.raises(
        BadInput, match=rf"{name}.* (broke off after|cannot be read|ends)"
    ) as caught:
        read(web.url(name))
    if lengths:
        assert "broke off after" in str(caught.value)


def test_a_web_file_that_changes(web: Web) -> None:
    with open_source(web.url("a.csv")) as opened:
        web.files["a.csv"] += b"\n"
        with pytest.raises(BadInput, match=r"a\.csv changed while it was read"):
            list(opened.batches)


def test_a_web_server_that_goes_away(web: Web) -> None:
    with open_source(web.url("a.parquet")) as opened:
        web.files["a.parquet"] = b""
        with pytest.raises(EmbstoreError, match=r"a\.parquet"):
            list(opened.batches)
            opened.later()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://me:secret@127.0.0.1:{port}/a.npy?k=secret", "the server does not answer"),
        ("https://127.0.0.1:{port}/a.npy?k=secret", "the server does not answer"),
        ("http://no-such-host.invalid/a.npy?k=secret", "the host name is not known"),
        ("http://", "cannot be opened"),
        ("nowhere://bucket/a.npy", "this kind of place is not known"),
        ("file:///no/such.npy", "there is no such file"),
        ("s3://", "names no file"),
        ("s3://key:secret@/a.npy", "is no URL that can be read"),
        ("gs://bucket/a.npy?no=secret", "is no URL that can be read"),
    ],
)
def test_places_that_cannot_be_reached(url: str, says: str) -> None:
    url = url.format(port=free_port())
    with pytest.raises(EmbstoreError, match=says) as caught:
        read(url)
    assert str(caught.value).startswith(shown(url))
    assert "secret" not in str(caught.value)


def test_file_urls(tmp_path: Path) -> None:
    path = tmp_path / "a b.csv"
    path.write_bytes(FORMATS["a.csv"])
    assert read(path.as_uri())[0] == WORDS
    assert files_of(tmp_path.as_uri()) == [str(path)]


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://u:p@h:8/a/b.npy?X=s#f", "https://h:8/a/b.npy"),
        ("s3://key:se/cr@et@bucket/a#1.npy?region=x", "s3://bucket/a#1.npy"),
        ("s3://bucket/a@b:c.npy", "s3://bucket/a@b:c.npy"),
        ("what?is@this:#.npy", "what?is@this:#.npy"),
    ],
)
def test_names_have_no_secrets(url: str, plain: str) -> None:
    assert shown(url) == plain


# Object stores


@pytest.fixture
def memory() -> Iterator[str]:
    """A store of fsspec's own, with a folder of two files."""
    import fsspec

    filesystem = fsspec.filesystem("memory")
    for i in range(2):
        out = io.BytesIO()
        flat = pa.FixedSizeListArray.from_arrays(pa.array(clusters(3, 2, i).ravel()), 2)
        pq.write_table(pa.table({"id": range(3 * i, 3 * i + 3), "embedding": flat}), out)
        with filesystem.open(f"/v/year={2020 + i}/p.parquet", "wb") as file:
            file.write(out.getvalue())
    filesystem.pipe("/v/_SUCCESS", b"")
    yield "memory://v"
    filesystem.rm("/v", recursive=True)


def test_fsspec(memory: str, store: Store) -> None:
    items = store.create_table("items")
    for given in (memory, f"{memory}/", f"{memory}/*/p.parquet", f"{memory}/**/*.parquet"):
        items.load(given, index="none", promote=True)
        assert column(store, "items", "year") == {i: 2020 + i // 3 for i in range(6)}
    assert np.array_equal(read(f"{memory}/year=2020/p.parquet")[1], clusters(3, 2, 0))
    with pytest.raises(NotFound, match=r"\*\.npy: no file matches"):
        items.load(f"{memory}/*.npy")
    with pytest.raises(BadInput, match="v is a folder"):
        read(memory)
    with pytest.raises(NotFound, match="no such file"):
        read("memory://v/nothing")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The options that make s3:// URLs lead to a server of this test."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        options = f"scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
        filesystem, _ = fs.FileSystem.from_uri(
            f"s3://me:secret@vectors/?{options}&allow_bucket_creation=true"
        )
        _within(20, lambda: filesystem.create_dir("vectors"))
        for name in FORMATS:
            with filesystem.open_output_stream(f"vectors/all/{name}", compression=None) as out:
                out.write(FORMATS[name])
        for i in range(2):
            name = f"vectors/by year/year={i}/a.csv"
            with filesystem.open_output_stream(name, compression=None) as out:
                out.write(f"id,v0,v1\n{i},1,{i}\n".encode())
        yield options
    finally:
        process.terminate()
        process.wait()


def _within(seconds: float, work: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            work()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_s3(s3: str, store: Store) -> None:
    for name in FORMATS:
        format = "word2vec-binary" if name.endswith(".bin") else None
        ids, vectors = read(f"s3://me:secret@vectors/all/{name}?{s3}", format)
        assert ids == WORDS and np.array_equal(vectors, VECTORS), name
    items = store.create_table("items")
    for given in ("by year/", "by year/year=*/*.csv"):
        version = items.load(f"s3://me:secret@vectors/{given}?{s3}", promote=True)
        assert column(store, "items", "year") == {0: 0, 1: 1}
    first, second = version.source["parts"]
    assert first["name"] == "s3://vectors/by year/year=0/a.csv"
    assert second["modified"] and second["sha256"]
    assert "secret" not in str(version.source)
    for bad, says in (
        ("vectors/nothing.npy", "s3://vectors/nothing.npy: there is no such file"),
        ("no-bucket/a.npy", "s3://no-bucket/a.npy: there is no such"),
        ("vectors/*.npy", r"s3://vectors/\*.npy: no file matches"),
    ):
        with pytest.raises(NotFound, match=says):
            items.load(f"s3://me:secret@{bad}?{s3}")


def test_an_object_store_that_does_not_answer() -> None:
    options = "scheme=http&endpoint_override=127.0.0.1:1&retry_limit_seconds=1"
    with pytest.raises(ConnectionFailed, match=r"^gs://v/a\.npy cannot be opened: .* not answer"):
        read(f"gs://anonymous@v/a.npy?{options}")


def test_google_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Fake:
        @staticmethod
        def from_uri(url: str) -> tuple[None, str]:
            asked.append(url)
            return None, ""

    monkeypatch.setattr("pyarrow.fs.FileSystem", Fake)
    places.filesystem_of("gs://bucket/a b.npy")
    assert asked == ["gs://bucket/a%20b.npy?retry_limit_seconds=10"]


# Pipes


class Once(io.RawIOBase):
    """Bytes that come a few at a time and only once."""

    def __init__(self, data: bytes, step: int = 777) -> None:
        super().__init__()
        self._data, self._step = io.BytesIO(data), step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._data.read(min(len(buffer), self._step))
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", [io.BytesIO, Once])
def test_every_format_from_an_open_file(name: str, kind: Callable[[bytes], Any]) -> None:
    format = {"bin": "word2vec-binary", "csv": "csv", "tsv": "csv", "gz": None}.get(
        name.rsplit(".", 1)[1]
    )
    ids, vectors = read(kind(FORMATS[name]), format)
    assert ids == WORDS
    assert np.array_equal(vectors, VECTORS)


def test_an_open_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a comment\n" + FORMATS["a.csv"])
    with path.open("rb") as file:
        file.readline()
        assert read(file)[0] == WORDS


def test_a_pipe_is_read_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is kept of it, rows stream; whoever begins anew is told."""
    monkeypatch.setattr(places, "KEPT", 1 << 20)
    vectors = clusters(20_000, 4)
    lines = [
        "20000 4",
        *(f"w{i} " + " ".join(map(repr, v)) for i, v in enumerate(vectors.tolist())),
    ]
    data = "\n".join([*lines, ""]).encode()
    pipe = Once(data, 1 << 16)
    with open_source(pipe) as opened:
        ids = [key for batch in opened.batches for key in batch.column("id").to_pylist()]
        found = opened.later()
    assert len(ids) == 20_000
    assert found == {"sha256": hashlib.sha256(data).hexdigest()}
    place = places.Pipe(Once(data), "pipe")
    place.stream().readall()
    with pytest.raises(BadInput, match="pipe has gone by and cannot be read again"):
        place.stream().readall()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (io.StringIO("id,v0\n"), "open as text: open it with 'rb'"),
        (io.BytesIO(b""), "BytesIO is empty"),
        (Once(b"\x93NUMPY"), "Once"),
        (Once(FORMATS["a.npz"][:-30]), "Once"),
    ],
)
def test_open_files_that_cannot_be_loaded(source: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read(source, ids="row-number")


def test_what_comes_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(BadInput, match=r"Once holds more than 500 bytes, half of what is free"):
        read(Once(FORMATS["a.parquet"]))


def test_standard_input(pg: Server, database: str, store: Store) -> None:
    def load(data: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "embstore", "load", "items", "-", *more],
            env=os.environ | {"EMBSTORE_URL": pg.url(database)},
            input=data,
            capture_output=True,
            check=False,
            timeout=120,
        )

    done = load(FORMATS["a.csv"], "--format", "csv", "--promote")
    assert done.returncode == 0, done.stderr
    live = store.table("items").live
    assert np.array_equal(live.lookup(WORDS).vectors, VECTORS)
    assert (live.source["name"], live.source["format"]) == ("stdin", "csv")
    done = load(FORMATS["a.parquet"][:-9])
    assert done.returncode == 1
    assert done.stderr.startswith(b"embstore: stdin cannot be read as Parquet")
    assert done.stderr.count(b"\n") == 1


# Queries


def test_a_query_on_postgres(pg: Server, bare_database: str, store: Store) -> None:
    url = pg.tcp_url(bare_database)
    vectors = clusters(500, 6)
    doubles = vectors.astype(np.float64).tolist()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(
            "CREATE TABLE t (id bigint, key uuid DEFAULT gen_random_uuid(), title text, year int,"
            " price numeric, added timestamptz DEFAULT now(), tags text[] DEFAULT '{a,b}',"
            " more jsonb DEFAULT '{\"a\": 1}', v vector(6), h halfvec(6), r real[], d float8[],"
            " s text)"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO t (id, title, year, price, v, h, r, d, s) VALUES"
                " (%s, %s, %s, 1.5, %s, %s, %s, %s, %s)",
                [
                    (i, f"Ä{i}", None if i == 3 else i, str(v), str(v), v, v, str(v))
                    for i, v in enumerate(doubles)
                ],
            )
    half = vectors.astype(np.float16).astype(np.float32)
    for each in "vhrds":
        ids, loaded = read(Query(url, "SELECT id, v, h, r, d, s FROM t ORDER BY id;"), vectors=each)
        assert ids == list(range(500))
        assert np.array_equal(loaded, half if each == "h" else vectors), each
    items = store.create_table("items")
    version = items.load(
        Query(url, "SELECT id, v, title, year, price, added, tags, more FROM t"), promote=True
    )
    assert np.array_equal(version.lookup(range(500)).vectors, vectors)
    with store.connection() as connection:
        found = connection.execute(
            "SELECT title, year, price, added IS NOT NULL, tags, more FROM emb.items WHERE id = 3"
        ).fetchone()
    assert found == ("Ä3", None, 1.5, True, ["a", "b"], '{"a": 1}')
    source = version.source
    assert source["format"] == "query" and source["query"].startswith("SELECT id, v, title")
    assert pg.password not in str(source)
    uuids = store.create_table("uuids")
    uuids.load(Query(url, "SELECT key, v FROM t"), index="none", promote=True)
    with psycopg.connect(url) as connection:
        keys = [key for (key,) in connection.execute("SELECT key::text FROM t ORDER BY id")]
    assert np.array_equal(uuids.lookup(keys).vectors, vectors)
    titles = Query(url, "SELECT id, title FROM t")
    named = store.create_table("named")
    named.load(vectors, ids=range(500), attributes=titles, index="none", promote=True)
    assert column(store, "named", "title")[9] == "Ä9"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELEKT 1", "failed: syntax error"),
        ("SELECT * FROM nothing", 'failed: relation "nothing" does not exist'),
        ("DELETE FROM pg_class", "failed: syntax error"),
        ("SELECT 1 AS id, 1 AS n WHERE false", "holds no rows"),
        ("SELECT 1 AS id, '{{1,2},{3,4}}'::real[] AS v", "several dimensions"),
        ("SELECT 1 AS id, '{1,NULL}'::real[] AS v", "holds a NULL"),
        ("SELECT 1 AS id, '10.0.0.1'::inet AS a, '{1,2}'::real[] AS v", "'a' has type inet"),
        (
            "SELECT g AS id, array_fill(1::real, ARRAY[g]) AS v FROM generate_series(2, 3) g",
            r"row 2 \(id 3\): 3 components where the first row has 2",
        ),
        (
            "SELECT g AS id, '{1,2}'::real[] AS v, 1 / (g - 200) AS x"
            " FROM generate_series(1, 300) g",
            "division by zero",
        ),
        ("SELECT 1 AS id, 'a' AS v", "vector"),
    ],
)
def test_queries_that_cannot_be_loaded(
    pg: Server, bare_database: str, statement: str, says: str
) -> None:
    with pytest.raises(EmbstoreError, match=says) as caught:
        read(Query(pg.tcp_url(bare_database), statement))
    assert "query on embstore@127.0.0.1" in str(caught.value)
    assert pg.password not in str(caught.value)


def test_databases_that_do_not_answer(tmp_path: Path) -> None:
    for url, says in (
        (f"postgresql://me:secret@127.0.0.1:{free_port()}/d", "no server listens there"),
        (f"postgres+asyncpg://me:secret@127.0.0.1:{free_port()}/d", "no server listens there"),
        (f"sqlite:///{tmp_path}/nothing.db", "nothing.db: there is no such file"),
        ("nodb://me:secret@h/d", "needs a driver that is not installed"),
        ("mysql+nodriver://me:secret@h/d", "needs a driver that is not installed"),
        ("me:secret", "cannot be read: write"),
        ("nodb:///?odbc_connect=PWD%3Dsecret", "needs a driver that is not installed"),
    ):
        query = Query(url, "SELECT 1")
        with pytest.raises(EmbstoreError, match=says) as caught:
            read(query)
        assert "secret" not in f"{caught.value} {query!r} {query.name}"
    assert not (tmp_path / "nothing.db").exists()


def test_a_query_on_sqlite(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "shop.db"
    vectors = clusters(200, 3)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id INTEGER, v TEXT, title TEXT, raw BLOB)")
    connection.executemany(
        "INSERT INTO t VALUES (?, ?, ?, ?)",
        [(i, str(v.tolist()), "10:30 %s", v.tobytes()) for i, v in enumerate(vectors)],
    )
    connection.execute("INSERT INTO t VALUES ('x', '[1,2,3]', '', NULL)")
    connection.commit()
    connection.close()
    url = f"sqlite:///{path}"
    good = "SELECT id, v, title FROM t WHERE typeof(id) = 'integer' AND title LIKE '10:%'"
    version = store.create_table("items").load(Query(url, good), index="none")
    assert np.array_equal(version.lookup(range(200)).vectors, vectors)
    assert version.source["database"] == url
    assert read_attributes(Query(url, "SELECT id, title FROM t LIMIT 2")).to_pylist() == [
        {"id": 0, "title": "10:30 %s"},
        {"id": 1, "title": "10:30 %s"},
    ]
    for statement, says in (
        ("SELECT id, v, raw FROM t", "column 'raw' holds bytes"),
        ("SELECT id, v FROM t", r"row 201: column 'id': Could not convert 'x'"),
        ("SELECT id, v FROM none", "failed: no such table: none"),
        ("DELETE FROM t", "returns no rows"),
    ):
        with pytest.raises(BadInput, match=says):
            read(Query(url, statement))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (201,)
    connection.close()


def test_queries_by_the_command_line(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id, '[1, 2]' AS v")
    connection.close()
    done = cli("load", "items", "--query", "SELECT * FROM t", "--from", f"sqlite:///{path}")
    assert done.returncode == 0, done.stderr
    assert "items@1: 1 x 2" in done.stdout
    for bad in ([], ["--query", "SELECT 1"], ["a.npy", "--query", "x", "--from", "y"]):
        assert cli("load", "items", *bad).returncode == 2
