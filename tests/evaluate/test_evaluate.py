"""Recall as it is measured, against brute force; and what is made of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

import embstore
from embstore import Evaluation, Store, Version
from embstore.evaluate.queries import Queries
from embstore.evaluate.truth import exact
from tests.fix_data import Array, clusters, distances
from tests.fix_store import Command, Server

ROWS, DIM = 1500, 12
# Few links: so that there is something to miss.
POOR = {"kind": "hnsw", "m": 2, "ef_construction": 4}


def items_and_users(metric: str = "ip") -> tuple[Array, Array]:
    """Factors as trainers make them: their lengths vary, and users lie elsewhere than items."""
    rng = np.random.default_rng(7)
    items: Array = rng.standard_normal((ROWS, DIM)) * np.exp(rng.standard_normal((ROWS, 1)))
    users: Array = rng.standard_normal((120, DIM))
    if metric in {"hamming", "jaccard"}:
        return clusters(ROWS, 64) > 0, clusters(120, 64, seed=1) > 0
    return items.astype(np.float32), users.astype(np.float32)


def brute_force(
    version: Version, queries: Array, k: int, search: dict[str, int], own: Array | None = None
) -> Array:
    """Recall of each query by the ids that come back, distances in float64, ties counting."""
    ids, vectors = version.to_numpy()
    far = distances(version.metric, queries, vectors)
    if own is not None:
        far[np.arange(len(own)), own] = np.inf
        found = version.similar(own, k, search=search).ids
    else:
        found = version.nearest(queries, k, search=search).ids
    assert (ids == np.arange(len(ids))).all()
    last = np.sort(far, axis=1)[:, k - 1 : k]
    return np.asarray((np.take_along_axis(far, found, axis=1) <= last + 1e-5).mean(axis=1))


@pytest.mark.parametrize(
    ("metric", "precision", "index"),
    [
        ("ip", "float32", POOR),
        ("cosine", "float32", POOR),
        ("l2", "float16", POOR),
        ("ip", "float32", {"kind": "ivfflat", "lists": 30}),
        ("l2", "float32", {"kind": "hnsw", "precision": "float16", "m": 2, "ef_construction": 4}),
        ("hamming", None, POOR),
        ("jaccard", None, POOR),
    ],
)
def test_recall_is_that_of_brute_force(
    store: Store, metric: str, precision: str | None, index: dict[str, Any]
) -> None:
    items, users = items_and_users(metric)
    version = store.create_table("items", metric=metric).load(
        items, ids=range(ROWS), index=index, precision=precision
    )
    if precision == "float16":
        users = users.astype(np.float16).astype(np.float32)
    name = "probes" if index["kind"] == "ivfflat" else "ef_search"
    values = [2, 5, 30] if name == "probes" else [10, 20, 300]
    found = version.evaluate(users, search=values, write=False)
    assert (found.queries, found.count, found.k) == ("an array", len(users), 10)
    assert [each.search for each in found.settings] == [{name: value} for value in values]
    for each in found.settings:
        recall = brute_force(version, users, 10, dict(each.search))
        assert each.mean == pytest.approx(recall.mean(), abs=1e-6)
        assert each.p5 == pytest.approx(np.percentile(recall, 5), abs=1e-6)
        assert each.min == pytest.approx(recall.min(), abs=1e-6)
        assert each.ms > 0
    assert found.settings[0].mean < 1


def test_own_vectors_are_left_out_of_their_answers(store: Store) -> None:
    items, _ = items_and_users()
    version = store.create_table("items", metric="ip").load(items, ids=range(ROWS), index=POOR)
    found = version.evaluate(k=5, sample=None, search=[10], write=False)
    assert (found.queries, found.count) == ("its own vectors", ROWS)
    recall = brute_force(version, items, 5, {"ef_search": 10}, own=np.arange(ROWS))
    assert found.settings[0].mean == pytest.approx(recall.mean(), abs=1e-6)


def test_own_vectors_are_found_by_text_ids(store: Store) -> None:
    version = store.create_table("items", metric="l2").load(
        clusters(300, 4), ids=[f"i{n}" for n in range(300)], index="none"
    )
    # Were they in the exact answer, one neighbour of each would be missed.
    assert [each.min for each in version.evaluate(write=False).settings] == [1.0]


def test_equal_vectors_count_for_each_other(store: Store) -> None:
    vectors = np.repeat(clusters(100, 4), 15, axis=0)
    version = store.create_table("items", metric="l2").load(vectors, ids=range(ROWS), index="hnsw")
    queries = vectors[::15]
    found = version.evaluate(queries, search=[40], write=False).settings[0]
    recall = brute_force(version, queries, 10, {"ef_search": 40})
    assert found.mean == pytest.approx(recall.mean(), abs=1e-6)
    assert found.mean > 0.9  # which ten of the fifteen are found is anybody's choice


def test_a_sample_is_the_same_each_time_and_another_with_another_seed(store: Store) -> None:
    items, users = items_and_users()
    version = store.create_table("items", metric="ip").load(items, ids=range(ROWS), index=POOR)
    store.create_table("users", metric="ip").load(users, ids=range(120), promote=True)
    asked: dict[str, Any] = {"search": [10], "write": False}
    first = version.evaluate("users", sample=50, **asked)
    again = version.evaluate("users@1", sample=50, **asked)
    other = version.evaluate("users", sample=50, seed=1, **asked)
    assert (first.queries, first.count) == ("users@1", 50)
    assert first.settings[0].mean == again.settings[0].mean != other.settings[0].mean
    assert version.evaluate(users, sample=50, **asked).count == 50
    assert version.evaluate(users, sample=None, **asked).count == 120


def test_the_sweep_and_the_setting_in_use(store: Store) -> None:
    items, users = items_and_users()
    table = store.create_table("items", metric="ip")
    poor = table.load(items, ids=range(ROWS), index=POOR).evaluate(users, k=30)
    assert [each.value for each in poor.settings] == [30, 40, 100, 200, 400, 1000]
    assert poor.used is not None
    assert poor.used.search == {"ef_search": 100}
    means = [each.mean for each in poor.settings]
    assert means == sorted(means)
    lists = table.load(items, ids=range(ROWS), index={"kind": "ivfflat", "lists": 30})
    values = [each.value for each in lists.evaluate(users).settings]
    assert values == [1, 2, 5, 11, 22, 30]
    none = table.load(items, ids=range(ROWS), index="none").evaluate(users)
    assert none.index is None
    assert [(each.search, each.mean, each.min) for each in none.settings] == [({}, 1.0, 1.0)]
    assert none.used == none.settings[0]


def test_zero_vectors_are_no_queries_and_no_answers(store: Store) -> None:
    items, users = items_and_users()
    items[::100] = 0
    users[::10] = 0
    version = store.create_table("items").load(items, ids=range(ROWS), index="hnsw", zero="keep")
    store.create_table("users").load(users, ids=range(120), zero="keep", promote=True)
    found = version.evaluate("users", search=[1000])
    assert found.count == 108
    assert found.settings[0].mean > 0.9
    few = store.create_table("few").load(items[[0, 1, 2, 100]], ids=range(4), zero="keep")
    assert few.evaluate().settings[0].mean == 1.0


def test_zero_vectors_take_no_place_in_the_exact_answer(store: Store) -> None:
    vectors = -np.abs(clusters(140, 4))
    vectors[:100] = 0
    version = store.create_table("items").load(vectors, ids=range(140), zero="keep")
    queries = Queries("ones", np.ones((1, 4), np.float32), 0)
    with store.reading() as connection:
        truth = exact(connection, version._row, queries, 10)
    far = np.sort(distances("cosine", queries.vectors, vectors[100:]), axis=1)[:, :10]
    np.testing.assert_allclose(truth.distances, far, atol=1e-6)


def test_the_figures_are_kept_beside_the_trainers_metrics(store: Store) -> None:
    items, users = items_and_users()
    version = store.create_table("items", metric="ip").load(
        items, ids=range(ROWS), index=POOR, metrics={"recall": 0.31}
    )
    version.evaluate(users, search=[10], write=False)
    assert version.metrics == {"recall": 0.31}
    found = version.evaluate(users, search=[10, 100], seed=3)
    kept = store["items@1"].metrics
    assert version.metrics == kept
    assert kept["recall"] == 0.31
    recall = kept["index_recall"]
    assert recall == found.as_json()
    assert found.used is not None
    assert (recall["ef_search"], recall["mean"]) == (100, found.used.mean)
    assert (recall["k"], recall["queries"], recall["count"], recall["seed"]) == (
        10,
        "an array",
        120,
        3,
    )
    assert [each["ef_search"] for each in recall["settings"]] == [10, 100]


def test_bad_questions_are_refused(store: Store, tmp_path: Path) -> None:
    items, users = items_and_users()
    version = store.create_table("items", metric="ip").load(items, ids=range(ROWS), index=POOR)
    with pytest.raises(embstore.DimensionMismatch, match=r"items@1 has 12 .*an array\) have 5$"):
        version.evaluate(users[:, :5])
    with pytest.raises(embstore.DimensionMismatch, match="load them with biases=1"):
        version.evaluate(users[:, :11])
    with pytest.raises(embstore.NotFound, match="no table 'users'"):
        version.evaluate("users")
    with pytest.raises(embstore.NotFound, match=r"users\.npy"):
        version.evaluate(tmp_path / "users.npy")
    with pytest.raises(embstore.InvalidQuery, match="NaN"):
        version.evaluate(np.full((2, DIM), np.nan))
    with pytest.raises(embstore.InvalidQuery, match="there are no queries"):
        version.evaluate(users[:0])
    for wrong, what in (
        ({"k": 0}, "k is 0"),
        ({"k": 1001}, "k is 1001"),
        ({"sample": 0}, "sample is 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"search": [0]}, "ef_search is 0"),
        ({"search": [1001]}, "ef_search is 1001"),
        ({"search": []}, "no ef_search to measure"),
    ):
        with pytest.raises(embstore.InvalidQuery, match=what):
            version.evaluate(users, **wrong)
    with store.connection() as connection:
        connection.execute("DROP INDEX emb.items_v1_hnsw")
    with pytest.raises(embstore.InvalidQuery, match="no usable index items_v1_hnsw"):
        version.evaluate(users)
    none = store.table("items").load(items, ids=range(ROWS), index="none")
    with pytest.raises(embstore.InvalidQuery, match="items@2 has no index"):
        none.evaluate(users, search=[10])


def test_who_may_not_write_is_told_before_the_work(store: Store, pg: Server, database: str) -> None:
    items, users = items_and_users()
    store.create_table("items", metric="ip").load(items, ids=range(ROWS), index=POOR, promote=True)
    with psycopg.connect(pg.url(database), autocommit=True) as admin:
        admin.execute("CREATE ROLE only_reads LOGIN IN ROLE embstore_reader PASSWORD 'r'")
    try:
        url = pg.tcp_url(database, "r").replace("//embstore:", "//only_reads:")
        with embstore.connect(url) as reader:
            with pytest.raises(embstore.DatabaseFailed, match="may not write to the catalog"):
                reader["items"].evaluate(users, search=[10])
            assert reader["items"].evaluate(users, search=[10], write=False).count == 120
    finally:
        with psycopg.connect(pg.url(database), autocommit=True) as admin:
            admin.execute("DROP OWNED BY only_reads")
            admin.execute("DROP ROLE only_reads")


def folded(store: Store, **how: Any) -> Version:
    """Items with folded biases, and the users who ask for them."""
    items, users = items_and_users()
    bias = np.random.default_rng(0).standard_normal(ROWS).astype(np.float32)
    if not any(each.name == "users" for each in store.tables()):
        store.create_table("users", metric="ip").load(
            users, ids=range(120), bias="fold", biases=1, promote=True
        )
        store.create_table("items", metric="ip")
    frame = {"id": np.arange(ROWS), "embedding": items, "bias": bias}
    return store.table("items").load(frame, bias="fold", **how)


def in_use(found: Evaluation) -> float:
    assert found.used is not None
    return found.used.mean


def test_a_load_reaches_its_target_on_folded_biases(store: Store) -> None:
    sparse = {"kind": "hnsw", "m": 5, "ef_construction": 10}
    said: list[str] = []
    version = folded(
        store, index=sparse, target_recall=0.98, queries="users", warn=said.append, promote=True
    )
    (index,) = version.indexes
    reached = index.search["ef_search"]
    assert not said
    kept = version.metrics["index_recall"]
    assert (kept["queries"], kept["count"], kept["ef_search"]) == ("users@1", 120, reached)
    assert f"ef_search {reached} with 120 queries of users@1" in index.why
    assert index.why in version.source["index"]
    measured = version.evaluate("users", search=[10, reached], write=False)
    assert measured.settings[0].mean < 0.9
    assert in_use(measured) == pytest.approx(kept["mean"]) == measured.settings[1].mean
    assert in_use(measured) >= 0.98
    # It is the smallest of those that were tried, and the answers are those of its setting.
    below = [each["mean"] for each in kept["settings"] if each["ef_search"] < reached]
    assert below
    assert max(below) < 0.98
    users = store["users"].to_numpy()[1]
    same = version.nearest(users, search={"ef_search": reached}).ids
    assert (version.nearest(users).ids == same).all()
    assert (store.table("items").nearest(users).ids == same).all()


def test_a_load_never_promises_what_only_exact_search_reaches(store: Store) -> None:
    said: list[str] = []
    version = folded(
        store, index=POOR, target_recall=0.999, queries="users", warn=said.append, promote=True
    )
    assert (version.index, version.indexes) == ("none", ())
    (sentence,) = said
    assert sentence.startswith(
        "items@1 has no index: only exact search reaches recall@10 of 0.999: hnsw has 0."
    )
    assert sentence.endswith("at ef_search 1000 with 120 queries of users@1")
    assert "only exact search reaches" in version.source["index"]
    kept = version.metrics["index_recall"]
    assert kept["index"] is None
    assert "mean" not in kept
    assert kept["settings"][-1]["ef_search"] == 1000
    with store.connection() as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_indexes WHERE schemaname = 'emb' AND tablename = 'items_v1'"
        ).fetchone()
    assert left == (1,)  # the primary key
    assert in_use(version.evaluate("users", write=False)) == 1


def test_a_better_graph_is_built_where_the_usual_one_misses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embstore.index import choose

    monkeypatch.setattr(choose, "M", 2)
    monkeypatch.setattr(choose, "EF_CONSTRUCTION", 4)
    version = folded(store, index="hnsw", target_recall=0.99, queries="users")
    (index,) = version.indexes
    assert index.options == {"m": 32, "ef_construction": 200}
    assert "the usual graph has recall@10 of 0." in index.why
    assert index.name == "items_v1_hnsw"
    assert version.missing_indexes() == []
    assert in_use(version.evaluate("users", write=False)) >= 0.99


@pytest.mark.parametrize(
    ("index", "target", "name"),
    [
        ({"kind": "ivfflat", "lists": 40}, 0.5, "probes"),
        ({"kind": "hnsw", "precision": "bit"}, 0.2, "ef_search"),
    ],
)
def test_other_kinds_have_their_own_settings(
    store: Store, index: dict[str, Any], target: float, name: str
) -> None:
    version = folded(store, index=index, target_recall=target, queries="users", target_k=20)
    (made,) = version.indexes
    kept = version.metrics["index_recall"]
    assert (kept["k"], kept[name]) == (20, made.search[name])
    assert kept["mean"] >= target
    measured = version.evaluate("users", 20, search=[made.search[name]], write=False)
    assert in_use(measured) == pytest.approx(kept["mean"])


def test_tune_sets_the_search_of_a_ready_version(store: Store) -> None:
    version = folded(store, index={"kind": "hnsw", "m": 5, "ef_construction": 10}, promote=True)
    before = version.indexes
    assert before[0].search["ef_search"] == 100
    found = version.tune(0.98, "users")
    assert found.used is not None
    (index,) = version.indexes
    assert index.search["ef_search"] == found.used.value != 100
    assert found.used.mean >= 0.98
    assert version.metrics["index_recall"] == found.as_json()
    assert store["items"].indexes == version.indexes
    lower = version.tune(0.7, "users")
    assert lower.used is not None
    assert index.search["ef_search"] > (lower.used.value or 0)
    assert version.indexes[0].why.count("recall@10") == 1
    version.create_index("hnsw", m=2, ef_construction=4)  # too thin to find all
    now = version.indexes
    with pytest.raises(embstore.InvalidQuery, match=r"items@1 does not reach .* stays as it is"):
        version.tune(1.0, "users")
    assert store["items"].indexes == now
    version.drop_index()
    with pytest.raises(embstore.InvalidQuery, match="items@1 has no index"):
        version.tune(0.98, "users")


def test_without_queries_a_load_asks_its_own_vectors(store: Store) -> None:
    version = store.create_table("items").load(
        clusters(4000, 8), ids=range(4000), target_recall=0.95
    )
    kept = version.metrics["index_recall"]
    assert (kept["queries"], kept["count"]) == ("its own vectors", 1000)
    assert kept["mean"] >= 0.95


def test_few_rows_need_no_target(store: Store) -> None:
    version = store.create_table("items").load(clusters(50, 8), ids=range(50), target_recall=1)
    assert (version.indexes, version.metrics) == ((), {})


def test_bad_targets_are_refused_before_any_row(store: Store) -> None:
    items, users = items_and_users()
    table = store.create_table("items", metric="ip")
    for wrong in (0, 1.5, float("nan"), -1, "0.9", True):
        with pytest.raises(embstore.InvalidQuery, match="above 0 and at most 1"):
            table.load(items, ids=range(ROWS), target_recall=wrong)  # type: ignore[arg-type]
    with pytest.raises(embstore.InvalidQuery, match="give both, or neither"):
        table.load(items, ids=range(ROWS), queries=users)
    with pytest.raises(embstore.InvalidQuery, match="index none finds all"):
        table.load(items, ids=range(ROWS), queries=users, target_recall=0.9, index="none")
    with pytest.raises(embstore.InvalidQuery, match="k is 0"):
        table.load(items, ids=range(ROWS), queries=users, target_recall=0.9, target_k=0)
    with pytest.raises(embstore.NotFound, match="no table 'users'"):
        table.load(items, ids=range(ROWS), queries="users", target_recall=0.9)
    with pytest.raises(embstore.DimensionMismatch, match="biases=1"):
        table.load(items, ids=range(ROWS), queries=users[:, :-1], target_recall=0.9)
    assert table.versions() == []
    assert table.load(items, ids=range(ROWS)).number == 1


def test_a_load_that_fails_while_it_is_measured_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embstore.evaluate import target

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, "measure", fails)
    with pytest.raises(KeyboardInterrupt):
        folded(store, index=POOR, target_recall=0.9, queries="users")
    assert store.table("items").versions() == []
    with store.connection() as connection:
        left = connection.execute("SELECT to_regclass('emb.items_v1')").fetchone()
    assert left == (None,)


def test_command(store: Store, cli: Command, tmp_path: Path) -> None:
    items, users = items_and_users()
    np.savez(tmp_path / "items.npz", ids=np.arange(ROWS), vectors=items)
    np.savez(tmp_path / "users.npz", ids=np.arange(120), vectors=users)
    done = cli("load", "users", tmp_path / "users.npz", "--metric", "ip", "--promote")
    assert done.returncode == 0, done.stderr
    load = ("load", "items", tmp_path / "items.npz", "--metric", "ip", "--index", "hnsw")
    done = cli(*load, "--target-recall", "0.9", "--queries", "users", "--promote")
    assert done.returncode == 0, done.stderr
    assert "with 120 queries of users@1" in done.stdout
    done = cli("evaluate", "items", "--queries", "users", "--ef-search", "10,50", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["ref"] == "items@1"
    assert [each["ef_search"] for each in document["settings"]] == [10, 50]
    assert store["items"].metrics["index_recall"]["settings"] == document["settings"]
    done = cli("evaluate", "items", "--no-write", "--sample", "50")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "items@1, index items_v1_hnsw: recall@10 of 50 queries of its own"
    )
    assert "(in use)" in done.stdout
    assert "vectors of items@1 itself" in done.stderr
    assert store["items"].metrics["index_recall"]["count"] == 120
    for wrong, what in (
        (("--queries", "nobody"), "there is no table 'nobody'"),
        (("--queries", tmp_path / "none.npy"), "none.npy: there is no such file"),
    ):
        done = cli("evaluate", "items", *wrong)
        assert (done.returncode, done.stdout) == (1, "")
        assert what in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert cli("evaluate", "items", "--ef-search", "ten").returncode == 2
    done = cli("index", "items", "--target-recall", "0.5", "--queries", "users", "--target-k", "20")
    assert done.returncode == 0, done.stderr
    assert "recall@20 of" in done.stdout
    assert cli("index", "items", "--queries", "users").returncode == 2
    assert cli(*load, "--target-recall", "1.5").returncode == 1
