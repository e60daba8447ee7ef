"""What auto chooses and what is refused: no server is asked."""

from typing import Any

import pytest

from embstore.errors import InvalidQuery
from embstore.index.choose import Wanted, check, choose
from embstore.types import Index, Metric, Precision

AUTO = [
    (3000, 64, "float32", "none (3,000 rows are compared as fast one by one)"),
    (3001, 64, "float32", "hnsw on float32 (3,001 rows are too many to compare one by one)"),
    (600, 1536, "float32", "none (600 rows"),
    (1000, 1536, "float32", "hnsw on float32 (1,000 rows"),
    (10**6, 2000, "float32", "hnsw on float32 (1,000,000 rows"),
    (400, 2560, "float32", "none (400 rows"),
    (500, 2560, "float32", "hnsw on float16 (2560 dims are more than HNSW takes of float32), m 16"),
    (500, 5000, "float32", "hnsw on bit (5000 dims are more than HNSW takes of float16), m 16"),
    (10**5, 4000, "float16", "hnsw on float16 (100,000 rows"),
    (10**5, 4001, "float16", "hnsw on bit (4001 dims are more than HNSW takes of float16)"),
    (10**5, 64_000, "bit", "hnsw on bit (100,000 rows"),
    (10**5, 64_001, "bit", "none (64001 bits are more than HNSW takes)"),
]


def chosen(given: Any, rows: int, dim: int, stored: str = "float32", **how: Any) -> str:
    precision = Precision(stored)
    metric = Metric.HAMMING if precision is Precision.BIT else Metric.COSINE
    found = choose(Wanted.of(given), rows, dim, metric, precision, **how)
    return str(found) if isinstance(found, Index) else f"none ({found})"


@pytest.mark.parametrize(("rows", "dim", "stored", "says"), AUTO)
def test_auto(rows: int, dim: int, stored: str, says: str) -> None:
    assert chosen("auto", rows, dim, stored).startswith(says)


def test_a_form_that_does_not_fit_is_passed_by() -> None:
    unfit = {Precision.FLOAT16: "too large for it"}
    assert chosen("auto", 10**5, 2560, unfit=unfit).startswith(
        "hnsw on bit (2560 dims are more than HNSW takes of float32; too large for it)"
    )
    unfit[Precision.BIT] = "no signs"
    assert chosen("auto", 10**5, 2560, unfit=unfit) == (
        "none (2560 dims are more than HNSW takes; too large for it; no signs)"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("hnsw", "hnsw on float32 (as asked), m 16, ef_construction 64"),
        ({"m": 40}, "hnsw on float32 (as asked), m 40, ef_construction 80"),
        ({"precision": "bit"}, "hnsw on bit (as asked), m 16, ef_construction 64"),
        ({"lists": 7}, "ivfflat on float32 (as asked), lists 7"),
        ("ivfflat", "ivfflat on float32 (as asked), lists 200"),
        ("none", "none (as asked)"),
    ],
)
def test_what_is_asked_for(given: Any, says: str) -> None:
    assert chosen(given, 200_000, 64) == says


BAD = [
    ("magic", "there is no index kind 'magic'"),
    (7, "index is 7"),
    ({"kind": "hnsw", "links": 3}, "no option 'links'"),
    ({"kind": "hnsw", "m": 1}, "m is 1: it must be 2 to 100"),
    ({"kind": "hnsw", "m": 101}, "m is 101"),
    ({"kind": "hnsw", "m": True}, "m is True"),
    ({"kind": "hnsw", "m": 24, "ef_construction": 40}, "at least 48, twice m"),
    ({"kind": "hnsw", "ef_construction": 31}, "at least 32, twice m"),
    ({"kind": "hnsw", "ef_construction": 1001}, "ef_construction is 1001"),
    ({"kind": "hnsw", "lists": 3}, "an index of kind hnsw has no lists"),
    ({"kind": "ivfflat", "lists": 0}, "lists is 0"),
    ({"kind": "ivfflat", "lists": 40_000}, "lists is 40000"),
    ({"kind": "ivfflat", "m": 3}, "an index of kind ivfflat has no m"),
    ({"kind": "none", "m": 3}, "an index of kind none has no m"),
    ({"precision": "float8"}, "'float8' is no precision of an index"),
    ({"m": 3, "lists": 3}, "an index of kind ivfflat has no m"),
]


@pytest.mark.parametrize(("given", "says"), BAD)
def test_options_that_cannot_be(given: Any, says: str) -> None:
    with pytest.raises(InvalidQuery, match=says):
        Wanted.of(given)


@pytest.mark.parametrize(
    ("given", "dim", "metric", "stored", "says"),
    [
        ({"kind": "ivfflat"}, 8, "jaccard", "bit", "IVFFlat index does not compare by jaccard"),
        ({"kind": "hnsw"}, 64_001, "hamming", "bit", "64001 bits.*fewer trees"),
        ({"precision": "float16"}, 8, "hamming", "bit", "vectors of bit cannot be indexed as fl"),
        ({"precision": "float32"}, 8, "l2", "float16", "use float16 or bit"),
        ({"precision": "float32"}, 2001, "l2", "float32", "2001 dim.*precision float16 or bit,"),
        ({"precision": "float16"}, 4001, "l2", "float32", "4001 dim.*precision bit, index none"),
        ({"kind": "ivfflat", "precision": "float32"}, 2001, "l2", "float32", "IVFFlat takes of"),
    ],
)
def test_what_pgvector_does_not_take(
    given: Any, dim: int, metric: str, stored: str, says: str
) -> None:
    with pytest.raises(InvalidQuery, match=f"^items: .*{says}"):
        check(Wanted.of(given), dim, Metric(metric), Precision(stored), "items")
