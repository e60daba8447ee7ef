"""What a replica answers: what its version on the server answers."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import embstore
from embstore import (
    DimensionMismatch,
    InvalidQuery,
    MissingPackage,
    NotFound,
    Replica,
    Store,
    Version,
    open_replica,
)
from tests.fix_data import clusters, recall
from tests.fix_store import Command, Server

ROWS, DIM = 1500, 12
IDS: dict[str, Any] = {
    "range": np.arange(40, 40 + ROWS),
    "direct": np.random.default_rng(1).permutation(3 * ROWS)[:ROWS] - 500,
    "hash": np.random.default_rng(2).permutation(ROWS) * 10**12 - 2**62,
    "text": [f"{'é' * (i % 40)}{i}" for i in range(ROWS)],
}
TITLES = [None if i % 7 == 0 else f"title {i % 100}" for i in range(ROWS)]
YEARS = [None if i % 11 == 0 else 1950 + i % 70 for i in range(ROWS)]


def attributes(ids: Any) -> pa.Table:
    return pa.table(
        {
            "id": ids,
            "title": TITLES,
            "year": YEARS,
            "price": [float("nan") if i % 13 == 0 else i / 10 for i in range(ROWS)],
            "new": [i % 3 == 0 for i in range(ROWS)],
            "day": pa.array(np.arange(ROWS).astype("datetime64[D]")),
            "at": pa.array(np.arange(ROWS) * 10**9, pa.timestamp("us", "UTC")),
            "tags": [{"n": i} for i in range(ROWS)],
        }
    )


def made(store: Store, metric: str, kind: str, precision: str | None = None) -> Version:
    vectors: Any = clusters(ROWS, DIM)
    if metric in {"hamming", "jaccard"}:
        vectors = np.repeat(vectors > 0, 3, axis=1)[:, :30]
        vectors[:, 0] = True
    table = store.create_table("items", metric=metric)
    ids = IDS[kind]
    return table.load(vectors, ids=ids, attributes=attributes(ids), precision=precision)


def same(found: Any, wanted: Any, atol: float = 1e-6) -> None:
    """Equal but for rows whose distances float32 cannot tell apart."""
    np.testing.assert_allclose(found.distances, wanted.distances, atol=atol, rtol=1e-5)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=atol, rtol=1e-5)
    near = np.abs(np.diff(wanted.distances, axis=1, prepend=-1, append=99)) < 2 * atol
    clear = ~(near[:, 1:] | near[:, :-1])
    assert (found.ids[clear] == wanted.ids[clear]).all()
    assert (found.counts == wanted.counts).all() and found.k == wanted.k
    assert found.version == wanted.version
    for name, column in wanted.attributes.items():
        equal = [
            x == y or (x != x and y != y)
            for x, y in zip(found.attributes[name][clear], column[clear], strict=True)
        ]
        assert all(equal), name


@pytest.mark.parametrize(
    ("metric", "kind", "precision"),
    [
        ("cosine", "range", None),
        ("cosine", "text", "float16"),
        ("ip", "direct", None),
        ("ip", "text", None),
        ("l2", "hash", None),
        ("l2", "range", "float16"),
        ("hamming", "text", None),
        ("jaccard", "hash", None),
    ],
)
def test_it_answers_as_the_server(
    store: Store, tmp_path: Path, metric: str, kind: str, precision: str | None
) -> None:
    version = made(store, metric, kind, precision)
    replica = version.replica(tmp_path)
    assert (replica.rows, replica.dim, replica.metric) == (ROWS, version.dim, metric)
    keys, vectors = version.to_numpy()
    back = replica.lookup(keys)
    assert back.vectors.tobytes() == vectors.tobytes()
    assert back.vectors.dtype == np.float32 and back.found.all()
    own = replica.lookup(keys[:9], show=["title", "tags", "at", "day"])
    there = version.lookup(keys[:9], show=["title", "tags", "at", "day"])
    assert own.ids == there.ids
    for name, column in there.attributes.items():
        assert own.attributes[name].tolist() == column.tolist()

    queries = vectors[::60]
    show = ["title", "price", "new", "at", "tags"]
    same(
        replica.nearest(queries, 7, exact=True, show=show),
        version.nearest(queries, 7, exact=True, show=show),
    )
    same(replica.similar(keys[:20], 6, exact=True), version.similar(keys[:20], 6, exact=True))
    exact = replica.nearest(queries, 10, exact=True)
    one = [replica.nearest(query, 10).ids[0] for query in queries]
    assert recall(np.array(one), exact.ids) > 0.9 or metric in {"hamming", "jaccard"}
    assert recall(replica.nearest(queries, 10).ids, exact.ids) > 0.9


@pytest.mark.parametrize(
    "where",
    [
        {"year": {">=": 1990, "<": 2000}},
        {"title": ["title 3", "title 50"], "new": True},
        {"title": {"not in": ["title 3"]}, "year": {"!=": None}},
        {"title": None},
        {"price": {">": 100}},
        {"price": {"!=": 2.5, "<=": 50}},
        {"day": {"<": "1971-01-01"}, "at": {">=": "1970-01-01T00:03:00Z"}},
        {"id": {"<": 700}, "year": {"!=": 1990}},
        {"year": 1800},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("exact", [True, False])
def test_filters(shared: tuple[Version, Replica], where: dict[str, Any], exact: bool) -> None:
    version, replica = shared
    queries = clusters(ROWS, DIM)[::200]
    wanted = version.nearest(queries, 5, where=where, exact=True)
    found = replica.nearest(queries, 5, where=where, exact=exact)
    if exact:
        same(found, wanted)
    else:
        assert not wanted.ids.size or recall(found.ids, wanted.ids) > 0.9
        assert (found.counts == wanted.counts).all()


@pytest.fixture(scope="module")
def shared(pg: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    import psycopg

    with psycopg.connect(pg.url(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE replicas TEMPLATE template")
        with embstore.connect(pg.url("replicas")) as store:
            version = made(store, "cosine", "range")
            yield version, version.replica(tmp_path_factory.mktemp("cache"))
        admin.execute("DROP DATABASE replicas WITH (FORCE)")


@pytest.mark.parametrize(
    "how",
    [
        {"max_distance": 0.3},
        {"offset": 4},
        {"per_group": "year"},
        {"per_group": "title", "group_limit": 2, "max_distance": 0.5, "show": ["title"]},
        {"per_group": "new", "offset": 1},
    ],
    ids=str,
)
def test_thresholds_groups_and_pages(shared: tuple[Version, Replica], how: dict[str, Any]) -> None:
    version, replica = shared
    queries = clusters(ROWS, DIM)[::200]
    for exact in (True, False):
        same(
            replica.nearest(queries, 6, exact=exact, **how),
            version.nearest(queries, 6, exact=True, **how),
        )
    keys = [40, 41, 90]
    same(replica.similar(keys, 6, exact=True, **how), version.similar(keys, 6, exact=True, **how))


def test_what_is_left_out(shared: tuple[Version, Replica]) -> None:
    version, replica = shared
    queries = clusters(ROWS, DIM)[:3]
    seen = [[40, 41, 90], [], list(range(40, 900))]
    same(
        replica.nearest(queries, 6, exact=True, exclude=seen),
        version.nearest(queries, 6, exact=True, exclude=seen),
    )
    assert not set(replica.nearest(queries, 6, exclude=seen).ids[2]) & set(seen[2])


@pytest.mark.parametrize(
    "how", [{}, {"exact": True}, {"where": {"new": True}}, {"per_group": "new"}, {"exclude": []}]
)
def test_no_queries(shared: tuple[Version, Replica], how: dict[str, Any]) -> None:
    rest = {name: value for name, value in how.items() if name != "exclude"}
    for asked in shared:
        found = asked.nearest(np.empty((0, DIM), np.float32), 3, **how)
        like = asked.similar([], 3, **rest)
        assert found.ids.shape == found.distances.shape == like.ids.shape == (0, 3)
        assert len(found.counts) == 0


def test_k_beyond_the_rows(shared: tuple[Version, Replica]) -> None:
    version, replica = shared
    query = clusters(1, DIM)
    found = replica.nearest(query, 10**6)
    same(found, version.nearest(query, 10**6))
    assert found.ids.shape == (1, ROWS) and found.short.all()


def test_missing_ids(shared: tuple[Version, Replica]) -> None:
    version, replica = shared
    keys = [41, -5, 41, 2**63 - 1, -(2**63)]
    for missing in ("zero", "nan", "mean", "skip"):
        found, wanted = replica.lookup(keys, missing), version.lookup(keys, missing)
        assert found.ids == wanted.ids and found.found.tolist() == wanted.found.tolist()
        np.testing.assert_allclose(found.vectors, wanted.vectors, atol=1e-6)
    with pytest.raises(NotFound, match=r"items@1 has no id -5 \(nor 2 more"):
        replica.lookup(keys)
    assert replica.lookup([]).vectors.shape == (0, DIM)
    matrix = replica.embedding_matrix([41, -5])
    np.testing.assert_array_equal(matrix, version.embedding_matrix([41, -5]))
    assert replica.to_torch([41]).shape == (1, DIM)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda r: r.nearest(np.ones(DIM + 1)), DimensionMismatch, "has 12 dimensions, .* have 13"),
        (lambda r: r.nearest(np.full(DIM, np.nan)), InvalidQuery, "query 1 holds NaN"),
        (lambda r: r.nearest(np.zeros(DIM)), InvalidQuery, "no direction"),
        (lambda r: r.nearest(np.ones(DIM), 0), InvalidQuery, "k is 0"),
        (lambda r: r.nearest(np.ones(DIM), -3), InvalidQuery, "k is -3"),
        (lambda r: r.nearest(np.ones(DIM), 2**31), InvalidQuery, "ask for 1 to"),
        (lambda r: r.nearest(np.ones(DIM), 2.5), InvalidQuery, "whole number"),
        (lambda r: r.nearest(np.ones(DIM), show=["no"]), InvalidQuery, "no attribute 'no'"),
        (lambda r: r.nearest(np.ones(DIM), where={"no": 1}), InvalidQuery, "no attribute 'no'"),
        (lambda r: r.nearest(np.ones(DIM), per_group="no"), InvalidQuery, "no attribute 'no'"),
        (lambda r: r.nearest(np.ones(DIM), unsafe_where="true"), InvalidQuery, "has no SQL"),
        (
            lambda r: r.nearest(np.ones(DIM), where=r.columns.year > 3),
            InvalidQuery,
            "has no SQL",
        ),
        (lambda r: r.nearest(np.ones(DIM), search={"probes": 3}), InvalidQuery, "ef_search"),
        (lambda r: r.similar(["a"]), InvalidQuery, "bigint ids"),
        (lambda r: r.similar([5]), NotFound, "has no id 5"),
        (lambda r: r.lookup([40], missing="no"), InvalidQuery, "no policy"),
        (lambda r: r.to("no-such-device"), InvalidQuery, "torch has no device"),
    ],
)
def test_bad_input(shared: tuple[Version, Replica], call: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        call(shared[1])


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2", "hamming", "jaccard"])
def test_on_a_device_of_torch(store: Store, tmp_path: Path, metric: str) -> None:
    replica = made(store, metric, "hash").replica(tmp_path, index="none")
    queries = replica.lookup(list(IDS["hash"][:50])).vectors
    moved = replica.to("cpu")
    for where in (None, {"year": {">": 1980}}):
        on_device = moved.nearest(queries, 9, where=where)
        here = replica.nearest(queries, 9, where=where)
        assert (on_device.ids == here.ids).all()
        assert (on_device.distances == here.distances).all()


def test_on_a_gpu(shared: tuple[Version, Replica]) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    queries = clusters(64, DIM)
    on_device = shared[1].to("cuda").nearest(queries, 9)
    here = shared[1].nearest(queries, 9, exact=True)
    assert (on_device.ids == here.ids).all() and (on_device.distances == here.distances).all()


def test_equal_vectors_tie_by_id_and_hide_nothing(store: Store, tmp_path: Path) -> None:
    vectors = np.repeat(clusters(20, 6), 100, axis=0)
    ids = np.random.default_rng(0).permutation(2000)
    version = store.create_table("items", metric="l2").load(vectors, ids=ids)
    replica = version.replica(tmp_path)
    found = replica.nearest(vectors[::100], 30, exact=True)
    wanted = [sorted(ids[at : at + 100])[:30] for at in range(0, 2000, 100)]
    assert found.ids.tolist() == wanted
    assert (found.distances == 0).all()
    assert (replica.nearest(vectors[::100], 2000).counts == 2000).all()


def test_far_from_the_origin_it_is_exact_still(store: Store, tmp_path: Path) -> None:
    # In float32 all of these are equally near: 1e6 away, and 1e-2 apart.
    rng = np.random.default_rng(0)
    vectors = (1e4 + rng.standard_normal((3000, 8))).astype(np.float32)
    replica = (
        store.create_table("items", metric="l2")
        .load(vectors, ids=range(3000))
        .replica(tmp_path, index="none")
    )
    apart = vectors[:20, None].astype(np.float64) - vectors[None]
    true = np.argsort(np.sqrt((apart**2).sum(axis=2)), axis=1, kind="stable")[:, :10]
    assert (replica.nearest(vectors[:20], 10).ids == true).all()
    assert (replica.to("cpu").nearest(vectors[:20], 10).ids == true).all()


def test_zero_vectors_are_nobodys_neighbours(store: Store, tmp_path: Path) -> None:
    vectors = clusters(500, 6)
    vectors[::5] = 0
    version = store.create_table("items").load(vectors, ids=range(500), zero="keep")
    replica = version.replica(tmp_path)
    for exact in (True, False):
        found = replica.nearest(vectors[1:3], 500, exact=exact)
        assert found.counts.tolist() == [400, 400] and found.short.all()
        assert recall(replica.nearest(vectors[1:3], 5, exact=exact).ids, found.ids[:, :5]) > 0.8
    with pytest.raises(InvalidQuery, match="id 5 of items@1 is a zero vector"):
        replica.similar([5])


def test_without_faiss_every_row_is_compared(
    shared: tuple[Version, Replica], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, replica = shared
    assert (replica.index, replica.why) == ("hnsw", "")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingPackage, match=r"embstore\[replica\]"):
        version.replica(tmp_path, index="hnsw")
    for each in (version.replica(tmp_path), open_replica(replica.path)):
        assert each.index == "none" and "embstore[replica]" in each.why
        same(each.nearest(np.ones(DIM), 5), replica.nearest(np.ones(DIM), 5, exact=True))
    monkeypatch.undo()
    assert version.replica(tmp_path).index == "hnsw"  # added to what is there


def test_the_index_can_be_searched_broader(
    shared: tuple[Version, Replica],
) -> None:
    replica = shared[1]
    queries = clusters(ROWS, DIM)[::100]
    exact = replica.nearest(queries, 50, exact=True)
    assert recall(replica.nearest(queries, 50).ids, exact.ids) > 0.95
    assert recall(replica.nearest(queries, 50, search={"ef_search": 500}).ids, exact.ids) > 0.99


def test_processes_share_its_pages(shared: tuple[Version, Replica]) -> None:
    replica = shared[1]
    script = (
        "import sys, embstore, pathlib\n"
        "r = embstore.open_replica(sys.argv[1])\n"
        "r.nearest(r.lookup([40]).vectors, 5, exact=True)\n"
        "r.nearest(r.lookup([40]).vectors, 5)\n"
        "maps = pathlib.Path('/proc/self/smaps').read_text().split('VmFlags')\n"
        "for name in ('vectors.npy', 'graph.faiss'):\n"
        "    part = [m for m in maps if m.count(name)][0]\n"
        "    assert 'Private_Dirty:         0 kB' in part, part\n"
        "print(r.similar([40], 3).ids.tolist())\n"
    )
    if not Path("/proc/self/smaps").exists():
        pytest.skip("no /proc")
    children = [
        subprocess.Popen([sys.executable, "-c", script, replica.path], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0, 0]
    assert answers == {f"{replica.similar([40], 3).ids.tolist()}\n".encode()}
    again = pickle.loads(pickle.dumps(replica))  # noqa: S301
    assert again.path == replica.path


def test_two_stores_never_mix(store: Store, shared: tuple[Version, Replica]) -> None:
    theirs = shared[1]
    ours = made(store, "cosine", "range").replica(theirs.path.parent)
    assert ours.ref == theirs.ref and ours.version.checksum == theirs.version.checksum
    assert ours.path != theirs.path
    with pytest.raises(NotFound, match="several replicas: open one of items@1-"):
        open_replica(ours.path.parent)
    assert open_replica(ours.path).rows == ROWS


def test_an_empty_version(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    table = store.create_table("items")
    version = table.load(np.ones((1, 4), np.float32), ids=["a"])
    replica = version.replica(tmp_path)
    assert replica.nearest(np.ones(4), 3).ids.tolist() == [["a"]]
    assert replica.similar(["a"]).ids.shape == (1, 0)
    assert replica.lookup(["b" * 2000, "a\0"], "zero").found.tolist() == [False, False]


def test_on_the_command_line(cli: Command, store: Store, tmp_path: Path) -> None:
    import json

    version = made(store, "cosine", "text")
    done = cli("replica", "items@1", "--dir", tmp_path, "--verify", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["rows"] == ROWS and said["verified"]
    assert open_replica(said["path"]).version.checksum == version.checksum
    again = cli("replica", "items@1", "--dir", tmp_path)
    assert "items@1: 1,500 rows" in again.stdout and "index hnsw" in again.stdout
    os.truncate(Path(said["path"]) / "vectors.npy", 5)
    bad = cli("replica", "items@1", "--dir", tmp_path)
    assert bad.returncode == 1 and bad.stderr.count("\n") == 1
    assert "vectors.npy is damaged: it has 5 bytes" in bad.stderr
    assert "items has no 'live' version" in cli("replica", "items").stderr
