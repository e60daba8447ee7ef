"""Indexes of real versions: built, used, replaced, dropped, lost."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

import embstore
from embstore import Store, Version
from embstore.index import expression
from embstore.types import Index, Metric, Precision
from tests.fix_data import Array, clusters, exact, recall
from tests.fix_store import Command

ROWS, DIM = 1200, 32
FORMS = [
    (stored, kind, precision, metric)
    for stored, precisions in {
        "float32": ("float32", "float16", "bit"),
        "float16": ("float16", "bit"),
        "bit": ("bit",),
    }.items()
    for kind in ("hnsw", "ivfflat")
    for precision in precisions
    for metric in (("hamming", "jaccard") if stored == "bit" else ("cosine", "ip", "l2"))
    if (kind, metric) != ("ivfflat", "jaccard")
]


def version_of(store: Store, metric: str, stored: str, rows: int = ROWS) -> tuple[Version, Array]:
    vectors: Array = clusters(rows, DIM)
    if stored == "bit":
        vectors = vectors > 0
    else:
        # Of one length: of several, signs find few of the largest inner products.
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    version = store.create_table("items", metric=metric).load(
        vectors,
        ids=range(rows),
        index="none",
        **({} if stored == "bit" else {"precision": stored}),  # type: ignore[arg-type]
        promote=True,
    )
    return version, version.to_numpy()[1]


def plan_of(store: Store, version: Version, index: Index) -> str:
    """How a query runs that orders by the very expression of the index."""
    form = expression(store.engine, version._row, index.precision)
    metric = version.metric
    if index.precision is Precision.BIT and not metric.of_bits:
        metric = Metric.HAMMING
    with store.connection() as lent, lent.transaction():
        lent.execute("SET LOCAL enable_seqscan = off")
        rows = lent.execute(
            sql.SQL(
                "EXPLAIN SELECT id FROM {relation} ORDER BY {form} {operator}"
                " (SELECT {form} FROM {relation} WHERE id = 7) LIMIT 10"
            ).format(
                relation=version._target().relation,
                form=form,
                operator=store.engine.operator(metric.operator),
            )
        ).fetchall()
    return "\n".join(row[0] for row in rows)


def by_sql(store: Store, ref: str, queries: Array, k: int) -> Array:
    with store.connection() as lent, lent.transaction():
        lent.execute("SET LOCAL enable_seqscan = off")
        return np.array(
            [
                [
                    int(row[0])
                    for row in lent.execute(
                        "SELECT id FROM embstore.nearest(%s, %s::vector, %s)",
                        (ref, json.dumps(query.tolist()), k),
                    ).fetchall()
                ]
                for query in queries
            ]
        )


def scans_of(store: Store, index: Index) -> int:
    with store.connection() as lent:
        lent.execute("SELECT pg_stat_force_next_flush()")
        row = lent.execute(
            "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", (index.name,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def names(store: Store) -> list[str]:
    with store.connection() as lent:
        rows = lent.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE c.relnamespace = 'emb'::regnamespace AND NOT i.indisprimary ORDER BY 1"
        ).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize(("stored", "kind", "precision", "metric"), FORMS)
def test_every_form_is_built_and_used(
    store: Store, stored: str, kind: str, precision: str, metric: str
) -> None:
    version, vectors = version_of(store, metric, stored)
    index = version.create_index(kind, precision=precision)
    assert index is not None
    assert version.indexes == (index,)
    assert (index.kind, index.precision, version.index) == (kind, precision, kind)
    assert index.bytes is not None and index.bytes > 8192
    assert f"Index Scan using {index.name} " in plan_of(store, version, index)
    assert version.missing_indexes() == []
    queries = vectors[:20]
    before = scans_of(store, index)
    found = by_sql(store, "items", queries, 10)
    assert scans_of(store, index) == before + 20
    if stored == "bit":  # bits tie often: at the last place any of the equal ones may stand
        assert (found[:, 0] == np.arange(20)).mean() >= 0.9
    else:
        # The lists of IVFFlat begin at random, so that what they find differs from build to build.
        least = 0.8 if kind == "ivfflat" else 0.95
        assert recall(found, exact(metric, queries, vectors, 10)) >= least


def test_candidates_are_ranked_by_the_full_vectors(store: Store) -> None:
    version, vectors = version_of(store, "l2", "float32")
    version.create_index(precision="bit")
    with store.connection() as lent:
        lent.execute("SET enable_seqscan = off")
        rows = lent.execute(
            "SELECT id, distance FROM embstore.nearest('items', %s::vector, 5)",
            (json.dumps(vectors[3].tolist()),),
        ).fetchall()
        similar = lent.execute("SELECT id FROM embstore.similar('items', '3', 4)").fetchall()
        # More than the index gives: every row is compared.
        every = lent.execute("SELECT id FROM embstore.similar('items', '3', 5000)").fetchall()
        assert lent.execute("SHOW hnsw.ef_search").fetchone() == ("100",)
        lent.execute("SET enable_seqscan = on")
    assert rows[0] == ("3", 0.0)
    own = exact("l2", vectors[3:4], vectors, 5)[0]
    np.testing.assert_allclose(
        [row[1] for row in rows], np.linalg.norm(vectors[own] - vectors[3], axis=1), rtol=1e-5
    )
    assert [row[0] for row in similar] == [row[0] for row in rows[1:]]
    assert len(every) == ROWS - 1


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_queries_beyond_float16(store: Store, metric: str) -> None:
    """The query is not what is stored: it may be larger or smaller than float16 can say."""
    version, vectors = version_of(store, metric, "float32")
    version.create_index(precision="float16")
    for scale in (1e6, 1e-12):
        query = vectors[5] * np.float32(scale)
        true = version.nearest(query, 3, exact=True).distances[0]
        with store.connection() as lent:
            rows = lent.execute(
                "SELECT distance FROM embstore.nearest('items', %s::vector, 3)",
                (json.dumps(query.tolist()),),
            ).fetchall()
        np.testing.assert_allclose([row[0] for row in rows], true, rtol=1e-6)


def test_zero_vectors_are_nobodys_neighbours(store: Store) -> None:
    vectors = clusters(ROWS, DIM)
    vectors[10:] = 0  # as bits, they are as near as any
    version = store.create_table("items").load(
        vectors, ids=range(ROWS), zero="keep", index={"precision": "bit"}, promote=True
    )
    assert version.indexes[0].precision == "bit"
    found = by_sql(store, "items", vectors[1:3], 10)
    assert np.sort(found).tolist() == [[*range(10)]] * 2
    assert found[:, 0].tolist() == [1, 2]


def test_auto_above_2000_dims(store: Store) -> None:
    table = store.create_table("items")
    for dim, precision in (2560, "float16"), (5000, "bit"):
        vectors = clusters(450, dim)
        version = table.load(vectors, ids=range(450), promote=True)
        assert version.indexes[0].precision == precision
        assert version.source["index"] == str(version.indexes[0])
        assert plan_of(store, version, version.indexes[0]).count(version.indexes[0].name) == 1
        found = by_sql(store, "items", vectors[:5], 10)
        assert recall(found, exact("cosine", vectors[:5], vectors, 10)) == 1.0


def test_what_the_smaller_forms_cannot_tell_apart(store: Store) -> None:
    table, other = store.create_table("items", metric="ip"), store.create_table("cosines")
    large = clusters(450, 2560)
    large[7, 9] = 1e5
    version = table.load(large, ids=range(450))
    assert version.index == "none"
    assert "beyond float16; their lengths differ" in version.source["index"]
    asked = {"kind": "hnsw", "precision": "float16"}
    with pytest.raises(embstore.InvalidQuery, match=r"items@2 cannot be indexed as float16: some"):
        table.load(large, ids=range(450), index=asked)
    assert [each.number for each in table.versions()] == [1]
    assert version.create_index(precision="bit") is not None  # who asks for it gets it
    small = clusters(450, 2560) * np.float32(1e-8)
    assert other.load(small, ids=range(450)).indexes[0].precision == "bit"
    positive = np.abs(clusters(450, 2560)) * np.float32(1e-8)
    version = other.load(positive, ids=range(450))
    assert version.index == "none"
    assert "450 vectors have only 1 different patterns of signs" in version.source["index"]


def test_several_replaced_and_dropped(store: Store) -> None:
    version, vectors = version_of(store, "cosine", "float32")
    size = version.bytes
    first = version.create_index("hnsw", m=8)
    second = version.create_index("ivfflat", replace=False)
    assert first is not None and second is not None
    assert version.indexes == store["items@1"].indexes == (second, first)
    assert (first.options["m"], version.index) == (8, "ivfflat")
    assert version.bytes > size
    # In place of the one in use; the other stays.
    third = version.create_index("hnsw", m=8, ef_construction=99)
    assert third is not None
    assert third.options["ef_construction"] == 99
    assert [each.name for each in version.indexes] == [third.name, first.name]
    assert names(store) == ["items_v1_hnsw", "items_v1_hnsw2"]
    assert version.drop_index("items_v1_hnsw2") == third
    assert list(version.indexes) == [first]
    with pytest.raises(embstore.NotFound, match=r"no index 'x': it has items_v1_hnsw$"):
        version.drop_index("x")
    warned: list[str] = []
    assert version.create_index("auto", warn=warned.append) is None
    assert (len(version.indexes), version.index, version.bytes) == (0, "none", size)
    assert warned == ["items@1 has no index: 1,200 rows are compared as fast one by one"]
    assert names(store) == []
    with pytest.raises(embstore.NotFound, match="items@1 has no index: it has none"):
        version.drop_index()
    with pytest.raises(embstore.InvalidQuery, match="gets no further index"):
        version.create_index(replace=False)
    np.testing.assert_array_equal(version.lookup(range(ROWS)).vectors, vectors)


def test_readers_go_on_while_it_is_replaced(store: Store) -> None:
    version, _ = version_of(store, "cosine", "float32", 8000)
    old = version.create_index("hnsw", m=4)
    seen: list[Any] = []
    with psycopg.connect(store.url, autocommit=True) as reader:
        reader.execute("SET statement_timeout = '5s'")

        def read(_: object) -> None:
            seen.append(reader.execute("SELECT id FROM embstore.similar('items', '3')").fetchall())
            seen.append(store["items@1"].indexes[0])

        new = version.create_index("hnsw", m=24, progress=read)
    assert old is not None and new is not None
    assert seen[1] == old  # until it is complete, the old one answers
    assert all(len(each) == 10 for each in seen[::2])
    assert version.indexes == (new,)
    assert names(store) == [new.name]


def test_an_idle_reader_keeps_the_old_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embstore.index.manage.GIVE_UP_S", 0.3)
    version, _ = version_of(store, "cosine", "float32")
    old = version.create_index("hnsw")
    assert old is not None
    warned: list[str] = []
    with psycopg.connect(store.url) as idle:
        before = idle.execute("SELECT count(*) FROM emb.items").fetchone()
        new = version.create_index("ivfflat", warn=warned.append)
        assert version.indexes == (new, old)
        assert f"--drop {old.name}" in warned[0]
        assert f"pid {idle.info.backend_pid}" in warned[0]
        with pytest.raises(embstore.DatabaseFailed, match=f"pid {idle.info.backend_pid}"):
            version.drop_index(old.name)
        assert idle.execute("SELECT count(*) FROM emb.items").fetchone() == before
    version.drop_index(old.name)
    assert list(version.indexes) == [new]


def test_one_at_a_time(store: Store) -> None:
    version, _ = version_of(store, "cosine", "float32")
    with psycopg.connect(store.url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('embstore index items'), 1)")
        with pytest.raises(embstore.DatabaseFailed, match="another session is changing"):
            version.create_index("hnsw")
    assert version.create_index("hnsw") is not None


def test_lost_in_postgres(store: Store, cli: Command) -> None:
    version, _ = version_of(store, "cosine", "float32")
    version.create_index("hnsw")
    with store.connection() as lent:
        lent.execute("DROP INDEX emb.items_v1_hnsw")
    assert version.missing_indexes() == ["items_v1_hnsw"]
    for command in ("show", "index"):
        done = cli(command, "items@1")
        assert done.returncode == 0
        assert "Postgres has no usable index items_v1_hnsw" in done.stderr
        assert done.stderr.count("\n") == 1
    assert len(version.nearest(clusters(1, DIM), 5).ids[0]) == 5
    version.create_index("hnsw")
    assert version.missing_indexes() == []
    assert [each.name for each in version.indexes] == names(store) == ["items_v1_hnsw2"]


BUILDER = """
import sys, embstore
with embstore.connect(sys.argv[1]) as store:
    store["items@1"].create_index("hnsw", m=100, ef_construction=1000)
"""


def test_kill_in_the_middle(store: Store) -> None:
    version, _ = version_of(store, "cosine", "float32", 20_000)
    old = version.create_index("hnsw", m=4, ef_construction=8)
    with (
        subprocess.Popen([sys.executable, "-c", BUILDER, store.url]) as builder,
        store.connection() as lent,
    ):
        for _ in range(1000):
            seen = lent.execute(
                "SELECT pid FROM pg_stat_progress_create_index WHERE tuples_done > 0"
                " OR blocks_done > 0"
            ).fetchone()
            if seen is not None:
                break
            time.sleep(0.01)
        assert seen is not None
        os.kill(builder.pid, signal.SIGKILL)
        builder.wait()
        for _ in range(1000):
            left = lent.execute(
                "SELECT FROM pg_stat_activity WHERE pid = %s", (seen[0],)
            ).fetchone()
            if left is None:
                break
            time.sleep(0.05)
        assert left is None
    assert store["items@1"].indexes == (old,)
    assert names(store) == ["items_v1_hnsw"]
    new = version.create_index("hnsw", m=5, ef_construction=10)
    assert version.indexes == (new,)
    assert len(names(store)) == 1


def test_too_many_lists_for_the_memory(store: Store) -> None:
    version, _ = version_of(store, "cosine", "float32")
    with store.connection() as lent:
        lent.execute(
            sql.SQL("ALTER DATABASE {} SET maintenance_work_mem = '8MB'").format(
                sql.Identifier(lent.info.dbname)
            )
        )
    with pytest.raises(embstore.InvalidQuery, match=r"items@1: an IVFFlat index needs \d+ MB"):
        version.create_index(lists=1000)
    with pytest.raises(embstore.InvalidQuery, match=r"array: an IVFFlat index needs \d+ MB"):
        store.table("items").load(clusters(5, 2000), ids=range(5), index="ivfflat")
    assert version.create_index("ivfflat") is not None


def test_fewer_lists_where_memory_is_short(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embstore.index.choose.ROWS_PER_LIST", 1)
    monkeypatch.setattr("embstore.index.build._memory", lambda _: (65_536, 0))
    version, _ = version_of(store, "cosine", "float32")
    index = version.create_index("ivfflat")
    assert index is not None
    assert index.options == {"lists": 300}
    assert "64 MB of maintenance_work_mem are enough for so many lists" in index.why


def test_the_command_line(cli: Command, tmp_path: Any) -> None:
    np.save(tmp_path / "v.npy", clusters(500, 8))
    done = cli("load", "items", tmp_path / "v.npy", "--ids", "row-number")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "index none (500 rows are compared as fast one by one)"
    assert "has no index: queries compare every row" in cli("index", "items@1").stdout
    done = cli("index", "items@1", "--kind", "hnsw", "--m", 24)
    assert done.stdout.startswith(
        "items@1: index hnsw on float32 (as asked), m 24, ef_construction 64\n"
    )
    assert cli("index", "items@1", "--precision", "bit", "--add").returncode == 0
    listed = json.loads(cli("index", "items@1", "--json").stdout)
    assert [each["precision"] for each in listed] == ["bit", "float32"]
    assert [each["missing"] for each in listed] == [False, False]
    shown = json.loads(cli("show", "items@1", "--json").stdout)
    assert shown["indexes"] == listed
    for command in ("index", "show"):
        assert "items_v1_hnsw2" in cli(command, "items@1").stdout
    assert cli("index", "items@1", "--drop", "items_v1_hnsw2").stdout == "dropped items_v1_hnsw2\n"
    assert cli("index", "items@1", "--kind", "none").stdout == "items@1: no index\n"
    done = cli(
        "load", "items", tmp_path / "v.npy", "--ids", "row-number",
        "--index", "ivfflat", "--index-precision", "float16", "--lists", 4,
    )  # fmt: skip
    assert "index ivfflat on float16 (as asked), lists 4" in done.stdout
    for bad, says in (
        (["--m", 1], "m is 1: it must be 2 to 100"),
        (["--drop", "x", "--add"], "--drop goes with no other option"),
    ):
        done = cli("index", "items@1", *bad)
        assert done.returncode == 2
        assert says in done.stderr
    done = cli("index", "items@1", "--drop", "x")
    assert (done.returncode, done.stderr) == (
        1,
        "embstore: items@1 has no index 'x': it has none\n",
    )


@pytest.mark.parametrize(
    ("middle", "said"), [(-3.0, True), (-0.1, False), (2.0, False), (20.0, True)]
)
def test_biases_on_one_side_are_said(
    cli: Command, tmp_path: Any, middle: float, said: bool
) -> None:
    biases = np.random.default_rng(0).normal(middle, 0.2, 500).astype(np.float32)
    units = clusters(500, 8)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    np.savez(tmp_path / "v.npz", item_factors=units, item_bias=biases)
    how = ("--ids", "row-number", "--metric", "ip", "--index", "hnsw", "--bias", "fold")
    one_sided = "turns its vectors to one side, where an HNSW index misses"
    done = cli("load", "items", tmp_path / "v.npz", *how)
    assert done.returncode == 0, done.stderr
    assert (one_sided in done.stderr) == said
    done = cli("index", "items@1", "--kind", "hnsw", "--m", 8)
    assert (one_sided in done.stderr) == said
    ones = cli("load", "users", tmp_path / "v.npz", *how, "--biases", "1")
    assert one_sided not in ones.stderr
