"""Alignment: the rotation that is found, the vectors that come of it, and what is refused."""

import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.linalg import orthogonal_procrustes

from embstore import (
    BadInput,
    DimensionMismatch,
    InvalidQuery,
    NotFound,
    SpaceMismatch,
    Store,
    Version,
)
from embstore.compare.rotation import Procrustes, rotate
from embstore.types import Progress
from tests.fix_data import Array, clusters
from tests.fix_store import Command

DIM = 12


def turn(dim: int = DIM, seed: int = 0) -> Array:
    """An orthogonal matrix."""
    square = np.random.default_rng(seed).standard_normal((dim, dim))
    return np.asarray(np.linalg.qr(square)[0])


def retrained(base: Array, seed: int = 0) -> Array:
    """The same vectors in other axes, and a little else."""
    noise = 0.1 * np.random.default_rng(seed + 50).standard_normal(base.shape)
    return np.asarray((base + noise) @ turn(base.shape[1], seed), np.float32)


def stream(ids: Array, values: Array) -> pa.RecordBatchReader:
    """What can be read once, in several batches."""
    flat = pa.array(values.ravel(), pa.float64())
    embedding = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = pa.table({"id": ids, "title": [f"t{each}" for each in ids], "embedding": embedding})
    return table.to_reader(max_chunksize=70)


def residual(a: Array, b: Array) -> float:
    a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (a, b))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("unit", [False, True])
def test_rotation_is_that_of_scipy(unit: bool) -> None:
    old = clusters(300, DIM).astype(np.float64)
    new = old @ turn() + 0.2 * clusters(300, DIM, seed=5)
    fit = Procrustes(DIM, unit=unit)
    for at in range(0, 300, 90):
        fit.add(new[at : at + 90].astype(np.float32), old[at : at + 90])
    fit.add(np.zeros((1, DIM)), np.zeros((1, DIM)))  # no direction, no part in it
    found = fit.solve()
    if unit:
        old, new = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (old, new))
    matrix, _ = orthogonal_procrustes(new, old)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-5)
    np.testing.assert_allclose(found.matrix @ found.matrix.T, np.eye(DIM), atol=1e-12)
    norm = np.linalg.norm(old)
    assert found.residual == pytest.approx(np.linalg.norm(rotate(new, matrix) - old) / norm)
    assert found.before == pytest.approx(np.linalg.norm(new - old) / norm, rel=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "ip"])
def test_align_brings_the_axes_back(store: Store, metric: str) -> None:
    base, users = clusters(400, DIM), clusters(50, DIM, seed=2)
    ids = np.arange(400)
    items = store.create_table("items", metric=metric)
    readers = store.create_table("users", metric=metric, precision="float16")
    items.load(base, ids=ids, space="run-7", promote=True)
    tags = pa.array([json.dumps({"n": each}) for each in range(390)])
    attributes = pa.table({"id": ids[10:], "tags": [{"n": each} for each in range(390)]})
    new = items.load(
        retrained(base)[10:], ids=ids[10:], attributes=attributes, space="run-8", trainer="als",
        params={"dim": DIM}, metrics={"auc": 0.8, "index_recall": 1}, note="nightly",
    )  # fmt: skip
    read = readers.load(users, ids=[f"u{i}" for i in range(50)], space="run-8")
    done = store.align([new.ref, read.ref], "items@1")
    assert [each.ref for each in done] == ["items@3", "users@2"]
    both = done[0].source["aligned"]
    assert both["from"] == "items@2" and both["to"] == "items@1" and both["ids"] == 390
    assert both["residual"] < 0.2 < 1 < both["before"]
    after = done[0].lookup(ids[10:]).vectors
    if metric == "cosine":
        assert both["residual"] == pytest.approx(residual(after, base[10:]), rel=1e-4)
    # Inside the training nothing has changed: between the tables neither.
    before = new.lookup(ids[10:]).vectors
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-4)
    names = [f"u{i}" for i in range(50)]
    np.testing.assert_allclose(
        done[1].lookup(names).vectors @ after.T, read.lookup(names).vectors @ before.T, atol=0.05
    )
    assert done[0].space == done[1].space == "run-8 aligned to items@1"
    assert (done[0].trainer, done[0].params) == ("als", {"dim": DIM})
    assert done[0].metrics == {"auc": 0.8} and done[0].source["note"] == "nightly"
    assert done[0].attributes == new.attributes and done[0].attributes[0].type == "jsonb"
    assert done[0].to_arrow()["tags"].to_pylist() == tags.to_pylist()
    assert store["items"].number == 1
    # The rotation is kept, for both, and maps what the training gives anew.
    matrix = done[0].rotation()
    assert matrix is not None and new.rotation() is None
    np.testing.assert_array_equal(matrix, done[1].rotation())
    np.testing.assert_allclose(before @ matrix, after, atol=1e-5)
    # Aligned again, it is the rotation of both steps.
    items.load(retrained(base, seed=9), ids=ids)
    again = store.align(["items@3"], "items@4")[0]
    turned = again.rotation()
    assert turned is not None
    np.testing.assert_allclose(before @ turned, again.lookup(ids[10:]).vectors, atol=1e-5)
    raw = readers.load(users, ids=names, space=done[0].space)
    with pytest.raises(SpaceMismatch, match="items@3 and users@3 were not aligned by the same"):
        store.align(["items@3", raw.ref], "items@4")


def test_load_aligned_from_a_stream(store: Store, tmp_path: Path) -> None:
    base, ids = clusters(300, DIM), np.arange(300)
    items = store.create_table("items")
    with pytest.raises(NotFound, match="items"):
        items.load(base, ids=ids, align_to="live")
    items.load(base, ids=ids, promote=True)
    new = np.vstack([retrained(base), clusters(5, DIM, seed=8)]).astype(np.float64)
    new[7, 3], new[100, 2], new[200] = np.nan, 1e39, 0
    keys = np.arange(305)
    with pytest.raises(BadInput, match=r"row 8 \(id 7\): value 4 is NaN"):
        items.load(stream(keys, new), align_to="live")
    rejects = tmp_path / "rejects.csv"
    seen: list[Progress] = []
    found = items.load(
        stream(keys, new), align_to="live", on_bad="skip", rejects=rejects, progress=seen.append
    )
    with rejects.open() as file:
        listed = [(each["row"], each["reason"][:12]) for each in csv.DictReader(file)]
    assert listed == [("8", "value 4 is N"), ("101", "value 3 is 1"), ("201", "all values a")]
    fit = found.source["aligned"]
    assert fit["to"] == "items@1" and fit["ids"] == 297 and found.rows == 302
    good = np.setdiff1d(ids, [7, 100, 200])
    after = found.lookup(good).vectors
    assert residual(after, base[good]) == pytest.approx(fit["residual"], rel=1e-4)
    assert residual(new[good], base[good]) == pytest.approx(fit["before"], rel=1e-4)
    assert fit["residual"] < 0.2 < 1 < fit["before"]
    # New ids are rotated with the rest; the columns stay with their rows.
    matrix = found.rotation()
    assert matrix is not None
    np.testing.assert_allclose(found.lookup([302]).vectors[0], new[302] @ matrix, atol=1e-5)
    assert found.lookup([302], show=["title"]).attributes["title"][0] == "t302"
    assert {each.phase for each in seen} >= {"align", "rows"}
    # The same for another table of the training.
    users = clusters(20, DIM, seed=4)
    also = store.create_table("users").load(users, ids=range(20), align_to=found.ref)
    np.testing.assert_allclose(also.lookup(range(20)).vectors, users @ matrix, atol=1e-5)
    assert also.source["aligned"]["by"] == "items@3" and also.source["aligned"]["to"] == "items@1"
    np.testing.assert_array_equal(also.rotation(), matrix)
    assert not list(Path(tempfile.gettempdir()).glob("embstore-align-*"))


def test_refusals(store: Store) -> None:
    base = clusters(100, DIM)
    items = store.create_table("items")
    items.load(base, ids=range(100), space="a")
    few = f"have 11 ids in common .* a rotation of {DIM} dimensions needs at least {DIM}"
    users = store.create_table("users")
    with pytest.raises(InvalidQuery, match=few):
        items.load(base, ids=range(89, 189), align_to="items@1")
    with pytest.raises(DimensionMismatch, match="8 dimensions and items@1 12"):
        items.load(clusters(20, 8), ids=range(20), align_to="items@1")
    with pytest.raises(InvalidQuery, match=r"items@1 was not aligned itself.* items@1 users@N"):
        users.load(base, ids=range(100), align_to="items@1")
    leaves = store.create_table("leaves", metric="hamming")
    leaves.load(base > 0, ids=range(100), promote=True)
    with pytest.raises(InvalidQuery, match="bits, which are not rotated"):
        leaves.load(base > 0, ids=range(100), align_to="live")
    new = items.load(base, ids=range(89, 189), space="b").ref
    assert users.load(base, ids=range(100), space="a").number == 1  # no refusal has made one
    for refs, error, match in (
        (new, InvalidQuery, few),
        ("items@1", InvalidQuery, "name the newer"),
        ("users@1", InvalidQuery, "none of users@1 is of table items"),
        ([new, "items@1"], InvalidQuery, "two versions of items"),
        ([new, "users@1"], SpaceMismatch, f"users@1 is of space a and {new} of b"),
        ([new, "leaves@1"], InvalidQuery, "leaves@1 holds bits"),
    ):
        with pytest.raises(error, match=match):
            store.align(refs, "items@1")
    with store.connection() as connection:
        assert connection.execute("SELECT count(*) FROM embstore.alignments").fetchone() == (0,)
        row = connection.execute("SELECT count(*) FROM embstore.versions").fetchone()
    assert row == (4,)


@pytest.fixture
def pair(store: Store) -> Iterator[Version]:
    base = clusters(200, DIM)
    store.create_table("items").load(stream(np.arange(200), base), promote=True)
    yield store["items"]


def test_command_line(store: Store, cli: Command, pair: Version, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", retrained(pair.lookup(range(200)).vectors))
    np.save(tmp_path / "ids.npy", np.arange(200))
    arguments = ("items", tmp_path / "v.npy", "--ids", tmp_path / "ids.npy")
    done = cli("load", *arguments, "--align-to", "live")
    assert done.returncode == 0, done.stderr
    assert "aligned to items@1, 200 ids: residual 0.0" in done.stdout
    store.table("items").load(tmp_path / "v.npy", ids=tmp_path / "ids.npy")
    done = cli("align", "items@3", "--to", "items@1", "--json")
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout)
    assert made["ref"] == "items@4" and made["aligned"]["from"] == "items@3"
    # By a load or afterwards, it is the same.
    a, b = (store[ref].lookup(range(200)).vectors for ref in ("items@2", "items@4"))
    np.testing.assert_allclose(a, b, atol=1e-5)
