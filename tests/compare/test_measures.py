"""Each measure against numpy, on components and on bits, with ids that came and went."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embstore import InvalidQuery, Store
from embstore.catalog import VersionRow, resolve
from embstore.compare import measures
from embstore.compare.overlap import Overlap, overlap
from embstore.connection import Connection
from tests.fix_data import Array, clusters, distances

ROWS, DIM, K = 600, 16, 5
OLD = np.arange(ROWS)
NEW = np.arange(40, ROWS + 20)[::-1]


def vectors(metric: str) -> tuple[Array, Array]:
    """Of the old ids and, with noise, of the new ones; the first two of each repeat."""
    whole = clusters(ROWS + 20, DIM)
    old, new = whole[OLD], 2 * whole[NEW] + clusters(len(NEW), DIM, seed=3) * 0.3
    for each in (old, new):
        each[1] = each[0]
    return (old > 0, new > 0) if metric in {"hamming", "jaccard"} else (old, new)


def table(ids: Array, values: Array) -> pa.Table:
    flat = pa.array(values.ravel().astype(np.float32))
    embedding = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    weight = np.where(ids % 3 == 0, ids + 1.0, 0.5)
    return pa.table({"id": ids, "weight": weight, "title": ids.astype(str), "embedding": embedding})


@pytest.fixture(scope="module")
def lent(shared_store: Store) -> Iterator[Connection]:
    for metric, precision in METRICS:
        items = shared_store.create_table(f"items_{metric}", metric=metric, precision=precision)
        for ids, values in zip((OLD, NEW), vectors(metric), strict=True):
            items.load(table(ids, values), index="none")
    with shared_store.connection() as connection:
        yield connection


METRICS = [("cosine", "float32"), ("ip", "float16"), ("l2", "float32"), ("jaccard", None)]
EACH = pytest.mark.parametrize("metric", [metric for metric, _ in METRICS])


def rows(lent: Connection, metric: str) -> tuple[VersionRow, VersionRow]:
    return resolve(lent, f"items_{metric}@1"), resolve(lent, f"items_{metric}@2")


def test_ids(lent: Connection) -> None:
    old, new = rows(lent, "cosine")
    assert measures.coverage(lent, old, new) == (ROWS - 40) / ROWS
    weight = np.where(OLD % 3 == 0, OLD + 1.0, 0.5)
    expected = weight[np.isin(OLD, NEW)].sum() / weight.sum()
    assert measures.coverage(lent, old, new, "weight") == pytest.approx(expected)
    found = measures.id_changes(lent, old, new, sample=7)
    assert (found.added, found.removed, found.common) == (20, 40, ROWS - 40)
    assert found.coverage == measures.coverage(lent, old, new)
    assert set(found.removed_sample) < set(range(40)) and len(set(found.removed_sample)) == 7
    assert set(found.added_sample) < set(range(ROWS, ROWS + 20))
    with pytest.raises(InvalidQuery, match=r"no numeric attribute 'title'.* it has weight"):
        measures.coverage(lent, old, new, "title")


@EACH
def test_norms_and_duplicates(lent: Connection, shared_store: Store, metric: str) -> None:
    old, new = rows(lent, metric)
    found = [measures.norms(lent, shared_store.engine, each) for each in (old, new)]
    for norms, values in zip(found, vectors(metric), strict=True):
        if metric == "jaccard":
            lengths: Any = values.sum(axis=1)
        else:
            lengths = np.linalg.norm(values.astype(old.precision.value).astype(float), axis=1)
        expected = [lengths.mean(), *np.quantile(lengths, [0.05, 0.5, 0.95])]
        assert [norms.mean, norms.p5, norms.median, norms.p95] == pytest.approx(expected, rel=1e-6)
    drift = abs(found[1].median / found[0].median - 1)
    assert measures.norm_drift(*found) == pytest.approx(drift)
    values = vectors(metric)[0]
    counts = np.unique(values, axis=0, return_counts=True)[1]
    share = measures.duplicates(lent, shared_store.engine, old)
    assert share == counts[counts > 1].sum() / ROWS > 0


def by_hand(metric: str) -> dict[int, float]:
    """The share of kept neighbours of each common id, ties by id."""
    common = np.intersect1d(OLD, NEW)
    near = []
    for ids, values in zip((OLD, NEW), vectors(metric), strict=True):
        own = values[np.argsort(ids)][np.isin(np.sort(ids), common)]
        stored = own.astype(np.float16 if metric == "ip" else np.float32)
        far = distances(metric, stored, stored)
        np.fill_diagonal(far, np.inf)
        near.append(common[np.argsort(far.round(12), axis=1, kind="stable")[:, :K]])
    shared = [
        len(set(a) & set(b)) / K for a, b in zip(*(each.tolist() for each in near), strict=True)
    ]
    return dict(zip(common.tolist(), shared, strict=True))


@EACH
def test_overlap(lent: Connection, metric: str) -> None:
    old, new = rows(lent, metric)
    expected = by_hand(metric)
    found = overlap(lent, old, new, K, sample=None)
    assert found.error == 0 and found.common == len(found) == len(expected)
    assert dict(zip(found.ids.tolist(), found.values.tolist(), strict=True)) == pytest.approx(
        expected
    )
    assert 0.2 < found.mean < 0.9  # there is something to tell
    drawn = overlap(lent, old, new, K, sample=200, seed=4)
    assert len(drawn) == 200 and drawn.common == found.common
    # Cochran, 1977, equation 2.20: nearly all of the error goes as nearly all ids are drawn.
    spread = drawn.values.std(ddof=1) / math.sqrt(200) * math.sqrt(1 - 200 / found.common)
    assert drawn.error == pytest.approx(spread)
    assert abs(drawn.mean - found.mean) < 4 * drawn.error < 0.1
    again = overlap(lent, old, new, K, sample=200, seed=4)
    np.testing.assert_array_equal(again.ids, drawn.ids)
    assert set(drawn.ids) != set(overlap(lent, old, new, K, sample=200, seed=5).ids)
    assert overlap(lent, old, old, K, sample=50).mean == 1


def test_overlap_across_dims_and_without_neighbours(store: Store) -> None:
    items = store.create_table("items")
    base = clusters(50, 8)
    items.load(base, ids=[f"i{i}" for i in range(50)])
    wide = np.hstack([base, np.zeros((50, 8), np.float32)])
    items.load(wide, ids=[f"i{i}" for i in range(50)])
    items.load(base[:1], ids=["i7"])
    with store.connection() as connection:
        one, two, alone = (resolve(connection, f"items@{n}") for n in (1, 2, 3))
        found: Overlap = overlap(connection, one, two, sample=20)
        assert found.mean == 1 and found.ids.dtype == object
        assert overlap(connection, one, two, 1000, sample=None).k == 49
        with pytest.raises(InvalidQuery, match="items@3 have less than two ids"):
            overlap(connection, one, alone)
        base[3] = 0
        items.load(base, ids=[f"i{i}" for i in range(50)], zero="keep")
        still = overlap(connection, one, resolve(connection, "items@4"), sample=None)
        assert still.common == len(still) == 49 and still.mean == 1 and still.error == 0
    assert (drift := store.compare("items@1", "items@4").drift) is not None
    assert drift.count == 49 and drift.mean < 1e-6
    store.create_table("numbers").load(base[4:], ids=range(46))
    with pytest.raises(InvalidQuery, match="items@1 has text ids and numbers@1 bigint ids"):
        store.compare("items@1", "numbers@1")
