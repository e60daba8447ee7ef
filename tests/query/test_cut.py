"""Thresholds, groups, pages and exclusions: against numpy, by the index and without it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from embstore import Store, Version
from embstore.errors import InvalidQuery
from tests.fix_data import clusters, distances

ROWS = 6000
VECTORS = clusters(ROWS, 8)
AUTHORS = np.array([f"a{i % 300}" if i % 11 else None for i in range(ROWS)], dtype=object)
NEAR = distances("l2", VECTORS[:20], VECTORS)


@pytest.fixture(scope="module", params=["bigint", "text"])
def version(shared_store: Store, request: pytest.FixtureRequest) -> Version:
    ids: Any = np.arange(ROWS)
    if request.param == "text":
        ids = [f"{i:05}" for i in range(ROWS)]
    frame = pd.DataFrame({"id": ids, "embedding": list(VECTORS), "author": AUTHORS})
    table = shared_store.create_table(request.param, metric="l2")
    return table.load(frame, index="hnsw", promote=True)


def rows(found: NDArray[Any]) -> list[int]:
    return [int(each) for each in found if each is not None and each != -1]


def best(query: int, keep: NDArray[np.bool_]) -> list[int]:
    order = np.argsort(NEAR[query], kind="stable")
    return [int(each) for each in order if keep[each]]


def test_max_distance(version: Version) -> None:
    limit = float(np.median(np.sort(NEAR, axis=1)[:, 7]))
    found = version.nearest(VECTORS[:20], 10, max_distance=limit)
    assert found.ids.shape[1] == found.counts.max() <= 10
    for query in range(20):
        within = int((NEAR[query] <= limit).sum())
        assert found.counts[query] == min(10, within)
        assert found.short[query] == (within < 10)
        own = rows(found.ids[query])
        assert own == best(query, NEAR[query] <= limit)[:10]
        assert np.isnan(found.distances[query, len(own) :]).all()
        assert np.isnan(found.scores[query, len(own) :]).all()
    assert found.short.any() and not found.short.all()
    assert version.nearest(VECTORS[0], 10, max_distance=-1).ids.shape == (1, 0)


@pytest.mark.parametrize("exact", [True, False])
def test_groups_are_limited_and_k_is_full(version: Version, exact: bool) -> None:
    found = version.nearest(
        VECTORS[:20], 30, per_group="author", group_limit=2, exact=exact, show=["author"]
    )
    assert found.counts.tolist() == [30] * 20
    hits = 0
    for query in range(20):
        seen: dict[Any, int] = {}
        expected = []
        for row in best(query, np.ones(ROWS, bool)):
            seen[AUTHORS[row]] = seen.get(AUTHORS[row], 0) + 1
            if AUTHORS[row] is None or seen[AUTHORS[row]] <= 2:
                expected.append(row)
        hits += len(set(rows(found.ids[query])) & set(expected[:30]))
        if exact:
            assert rows(found.ids[query]) == expected[:30]
    assert hits >= 0.95 * 600
    # One a group, of 300 and those without: all of them, though k asks for more.
    every = version.nearest(VECTORS[0], 2000, per_group="author", exact=exact)
    assert every.counts.tolist() == [300 + int(sum(each is None for each in AUTHORS))]
    assert every.short.all()


@pytest.mark.parametrize("exact", [True, False])
def test_pages_are_one_list(version: Version, exact: bool) -> None:
    whole = version.nearest(VECTORS[3], 60, exact=exact)
    pages = [version.nearest(VECTORS[3], 12, offset=at, exact=exact) for at in range(0, 60, 12)]
    assert rows(np.concatenate([each.ids[0] for each in pages])) == rows(whole.ids[0])
    similar = [version.similar(whole.ids[0][:2], 5, offset=at).ids for at in (0, 5, 10)]
    together = np.concatenate(similar, axis=1)
    assert all(len(set(each)) == 15 for each in together.tolist())
    grouped = [
        version.nearest(VECTORS[3], 10, offset=at, per_group="author", exact=exact).ids[0]
        for at in (0, 10, 20)
    ]
    assert len(set(rows(np.concatenate(grouped)))) == 30
    beyond = version.nearest(VECTORS[3], 10, offset=ROWS - 4, exact=True)
    assert beyond.counts.tolist() == [4] and beyond.short.all()
    assert version.nearest(VECTORS[3], 10, offset=ROWS).counts.tolist() == [0]


def test_pages_do_not_overlap_where_all_is_equally_near(store: Store) -> None:
    same = np.tile(np.ones(4, np.float32), (3500, 1))
    version = store.create_table("t", metric="l2").load(same, ids=range(3500), index="hnsw")
    for exact in (True, False):
        pages = [
            version.nearest(same[0], 10, offset=at, exact=exact).ids[0] for at in range(0, 200, 10)
        ]
        assert len(set(rows(np.concatenate(pages)))) == 200
        assert all((np.diff(each) > 0).all() for each in pages)  # ties in order of the id


def test_exclusions_leave_k_full(version: Version) -> None:
    wide = version.nearest(VECTORS[:20], 40, exact=True)
    exclude: list[Any] = [wide.ids[i, :i].tolist() for i in range(20)]
    exclude[5] = None
    found = version.nearest(VECTORS[:20], 10, exclude=exclude, exact=True)
    assert found.counts.tolist() == [10] * 20
    for i in range(20):
        start = 0 if i == 5 else i
        assert found.ids[i].tolist() == wide.ids[i, start : start + 10].tolist()
    own = [version.nearest(VECTORS[0], 1).ids[0, 0]]
    more = version.similar(own * 2, 10, exclude=[[], wide.ids[0, 1:4].tolist()], exact=True)
    assert more.ids[0].tolist() == wide.ids[0, 1:11].tolist()
    assert more.ids[1].tolist() == wide.ids[0, 4:14].tolist()
    for bad, why in (
        ([[]] * 3, "3 lists for 20 queries"),
        (7, "a sequence that holds"),
        ("ab", "a sequence that holds"),
        ([[1.5]] * 20, "ids"),
        ([3] * 20, "ids must be a list"),
    ):
        with pytest.raises(InvalidQuery, match=why):
            version.nearest(VECTORS[:20], exclude=bad)


def test_a_million_queries_are_one_call(version: Version) -> None:
    """Ten thousand here; the shape of the work is the same: blocks over several connections."""
    queries = np.tile(VECTORS[:1000], (10, 1))
    seen: list[tuple[int, int]] = []
    found = version.nearest(queries, 3, progress=lambda done, total: seen.append((done, total)))
    one = version.nearest(VECTORS[:1000], 3)
    assert found.ids.shape == (10_000, 3)
    assert (found.ids == np.tile(one.ids, (10, 1))).all()
    assert sorted(seen) == [(n * 1000, 10_000) for n in range(1, 11)]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"offset": -1}, "offset is -1: ask for 0"),
        ({"offset": 1.5}, "offset is 1.5: it must be a whole number"),
        ({"max_distance": "far"}, "max_distance is 'far'"),
        ({"max_distance": float("nan")}, "max_distance is nan"),
        ({"per_group": "nothing"}, "has no attribute 'nothing'"),
        ({"per_group": "author", "group_limit": 0}, "group_limit is 0"),
        ({"group_limit": 2}, "group_limit goes with per_group"),
        ({"search": {"probes": 2}}, "the hnsw index of .*@1 takes ef_search"),
        ({"search": {"ef_search": 0}}, "a positive whole number"),
        ({"search": {"ef_search": "5; DROP"}}, "a positive whole number"),
        ({"k": 0}, "k is 0"),
        ({"k": 2**31}, "k is 2147483648"),
        ({"k": "5"}, "k is '5'"),
    ],
)
def test_what_cannot_be_asked(version: Version, how: dict[str, Any], why: str) -> None:
    for ask, of in (
        (version.nearest, VECTORS[0]),
        (version.similar, [version.to_arrow()["id"][0]]),
    ):
        with pytest.raises(InvalidQuery, match=why):
            ask(of, **how)
