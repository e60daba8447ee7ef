"""Versions measured by what was held out: the figures of an independent library, and its faults."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embstore
from embstore import BadInput, DimensionMismatch, InvalidQuery, NotFound, SpaceMismatch, Store
from tests.fix_store import Command

# Lists by brute force over small whole numbers, with many ties, measured by RecTools as
# rectools_values.py does it.
KNOWN: dict[str, Any] = json.loads((Path(__file__).parent / "rectools.json").read_text())


def pairs(name: str) -> pa.Table:
    return pa.table(dict(zip(("user_id", "item_id"), np.array(KNOWN[name]).T, strict=True)))


@pytest.fixture
def loaded(store: Store) -> Store:
    for name in ("users", "items"):
        vectors = np.array(KNOWN[name], np.float32)
        table = store.create_table(name, metric="ip")
        table.load(vectors, ids=np.arange(len(vectors)), space="one")
        rng = np.random.default_rng(0)
        vectors = rng.standard_normal(vectors.shape, np.float32)
        table.load(vectors, ids=np.arange(len(vectors)), space="two", promote=True)
    return store


def values(of: embstore.ranking.result.Ranked) -> dict[str, float | None]:
    return {name: each.value for name, each in of.measures.items()}


@pytest.mark.parametrize("exact", [True, False])
def test_as_an_independent_library_has_it(loaded: Store, tmp_path: Path, exact: bool) -> None:
    # Users of the items' space, though others are live.
    found = loaded.evaluate(
        ["items@1", "items@2"],
        pairs("test"),
        users="users",
        history=pairs("history"),
        k=[10, 3, 3],
        exact=exact,
        cache_dir=tmp_path,
    )
    assert values(found["items@1"]) == pytest.approx(KNOWN["values"]["version"])
    assert found.popularity is not None
    assert values(found.popularity) == pytest.approx(KNOWN["values"]["popularity"])
    assert [each.users for each in found.results] == ["users@1", "users@2"]
    assert (found.k, found.users, found.pairs) == ((3, 10), 40, 123)
    first, second = (each.measures["recall@10"] for each in found.results)
    assert first.low is not None and first.high is not None and first.difference is None
    assert first.low < first.value < first.high  # type: ignore[operator]
    assert second.difference == pytest.approx(second.value - first.value)  # type: ignore[operator]
    kept = loaded["items@2"].metrics["ranking"]
    assert kept["recall@10"] == [second.value, second.low, second.high]
    assert kept["users"] == "users@2" and kept["count"] == 40


def test_users_of_their_history(store: Store, tmp_path: Path) -> None:
    """Who has no vector is the mean of the directions of what they have seen; texts are ids too."""
    table = store.create_table("items")
    table.load(np.array([[1, 0], [0, 9], [1, 1], [-1, 0.5]], np.float32), ids=list("abcd"))
    seen = pa.table({"who": ["x", "x", "y"], "what": ["a", "b", "gone"]})
    test = pa.table({"who": ["x", "y", "x"], "what": ["c", "a", "a"]})
    found = store.evaluate("items@1", test, history=seen, k=1, cache_dir=tmp_path, write=False)
    (result,) = found.results
    # Of x the mean of a and b points at c; a was seen. Of y nothing is known.
    assert (found.users, found.pairs, result.answered) == (2, 2, 1)
    assert result.measures["hit_rate@1"].value == 0.5
    assert result.measures["novelty@1"].value == 1  # nobody of two had c: as if one had
    assert store["items@1"].metrics == {}


def test_without_history(loaded: Store, tmp_path: Path) -> None:
    found = loaded.evaluate(
        "items@1", pairs("test"), users="users@1", sample=20, resamples=0, cache_dir=tmp_path
    )
    assert found.popularity is None and found.users == 20
    assert found.results[0].measures["novelty@10"].value is None
    assert found.results[0].measures["hit_rate@10"].low is None


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ("items@1", {}, InvalidQuery, "name their version"),
    ("items@1", {"users": "users@2"}, SpaceMismatch, "two trainings"),
    ("items@1", {"users": ["users@1", "users@2"]}, InvalidQuery, "2 versions of users for 1"),
    (["items@1", "items@1"], {"users": "users"}, InvalidQuery, "named twice"),
    ([], {"users": "users"}, InvalidQuery, "name a version"),
    ("items@1", {"users": "users@1", "k": 0}, InvalidQuery, "k"),
    ("items@1", {"users": "users@1", "k": []}, InvalidQuery, "no k"),
    ("items@1", {"users": "users@1", "resamples": 7}, InvalidQuery, "100 or more"),
    ("items@1", {"users": "users@1", "sample": 0}, InvalidQuery, "sample is 0"),
    ("items@9", {"users": "users@1"}, NotFound, "no version 9"),
    ("items@1", {"users": "others@1"}, DimensionMismatch, "others@1 has 3 dimensions"),
    ("texts@1", {"users": "users@1", "force": True}, BadInput, "text ids"),
    (["items@1", "texts@1"], {"users": "users@1"}, InvalidQuery, "bigint in one"),
    ("bits@1", {"history": "history"}, InvalidQuery, "bits, which have no mean"),
    ("items@1", {"users": "users@1", "history": "test"}, NotFound, "that the history has not"),
]


def test_refused(loaded: Store, tmp_path: Path) -> None:
    loaded.create_table("others", metric="ip").load(np.eye(3, dtype="f4"), ids=range(3))
    loaded.create_table("texts", metric="ip").load(np.eye(5, dtype="f4"), ids=list("abcde"))
    bits = loaded.create_table("bits", metric="hamming", precision="bit")
    bits.load(np.eye(5, dtype="u1"), ids=range(5))
    for refs, given, error, says in REFUSED:
        how = {**given, "cache_dir": tmp_path}
        if "history" in how:
            how["history"] = pairs(how["history"])
        with pytest.raises(error, match=says):
            loaded.evaluate(refs, pairs("test"), **how)
    with pytest.raises(NotFound, match="a table holds no interaction: leave the history out"):
        loaded.evaluate("items@1", pairs("test"), history=pairs("test")[:0], users="users@1")
    with pytest.raises(NotFound, match="a table holds no interaction: there is nothing"):
        loaded.evaluate("items@1", pairs("test")[:0], users="users@1")
    assert "ranking" not in loaded["items@1"].metrics


def test_at_the_command_line(loaded: Store, cli: Command, tmp_path: Path) -> None:
    for name in ("test", "history"):
        pq.write_table(pairs(name), tmp_path / f"{name}.parquet")
    files = "--interactions", tmp_path / "test.parquet", "--history", tmp_path / "history.parquet"
    done = cli(
        "evaluate", "items@1", "items@2", *files, "--users", "users", XDG_CACHE_HOME=tmp_path
    )
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head == (
        "123 held-out interactions of 40 users (test.parquet), history.parquet left out; every item"
        " compared"
    )
    assert lines[1].split()[:3] == ["version", "hit_rate@10", "recall@10"]
    assert [each.split()[0] for each in lines[3:6]] == ["popularity", "items@1", "items@2"]
    assert lines[4].split()[2].startswith("0.3165±0.")
    assert "less items@1" in done.stdout and "; *: that of a difference" in lines[-1]
    done = cli("evaluate", "items@1", *files, "--queries", "users@1")
    assert done.returncode == 2 and "--queries goes without --interactions" in done.stderr
    done = cli("evaluate", "items@1", "items@2")
    assert done.returncode == 2 and "give one REF" in done.stderr
