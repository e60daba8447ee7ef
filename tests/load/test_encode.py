"""The COPY encoder: what comes back is bit for bit what was sent."""

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embstore import Store
from embstore.load.checksum import Checksum

fixture_is_fine = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

bigints = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
dims = st.one_of(st.integers(1, 40), st.sampled_from([127, 1024, 1999, 2000]))


def table_of(store: Store, name: str, **how: Any) -> Any:
    known = {table.name for table in store.tables()}
    return store.table(name) if name in known else store.create_table(name, metric="l2", **how)


@settings(fixture_is_fine, max_examples=40)
@given(
    data=st.data(),
    dim=dims,
    ids=st.one_of(
        st.lists(bigints, min_size=1, max_size=8, unique=True),
        st.lists(texts, min_size=1, max_size=8, unique=True),
    ),
)
def test_vectors_and_ids_round_trip(
    store: Store, data: st.DataObject, dim: int, ids: list[Any]
) -> None:
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
    vectors = data.draw(hnp.arrays(np.float32, (len(ids), dim), elements=floats))
    kind = "text" if isinstance(ids[0], str) else "bigint"
    version = table_of(store, f"t_{kind}").load(vectors, ids=ids, index="none")
    keys, back = version.to_numpy()
    assert keys.tolist() == ids
    np.testing.assert_array_equal(back.view(np.uint32), vectors.view(np.uint32))


@settings(fixture_is_fine, max_examples=25)
@given(
    data=st.data(),
    dim=st.integers(1, 50),
    rows=st.integers(1, 6),
)
def test_float16_is_numpys(store: Store, data: st.DataObject, dim: int, rows: int) -> None:
    floats = st.floats(-65504, 65504, width=32)
    vectors = data.draw(hnp.arrays(np.float32, (rows, dim), elements=floats))
    version = table_of(store, "halves", precision="float16").load(
        vectors, ids=range(rows), index="none"
    )
    batch = next(iter(version.batches()))
    back = batch.column("embedding").flatten().to_numpy()
    np.testing.assert_array_equal(
        back.view(np.uint16), vectors.astype(np.float16).ravel().view(np.uint16)
    )


attributes = {
    "whole": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "large": (pa.int64(), bigints),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "flag": (pa.bool_(), st.booleans()),
    "word": (
        pa.string(),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    ),
    "day": (pa.date32(), st.dates(datetime.date(1, 1, 2), datetime.date(9999, 12, 30))),
    "moment": (
        pa.timestamp("us"),
        st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)),
    ),
    "instant": (
        pa.timestamp("us", "UTC"),
        st.datetimes(
            datetime.datetime(1970, 1, 2),
            datetime.datetime(2200, 1, 1),
            timezones=st.just(datetime.UTC),
        ),
    ),
}


@settings(fixture_is_fine, max_examples=30)
@given(
    rows=st.lists(
        st.tuples(*(st.one_of(st.none(), values) for _, values in attributes.values())),
        min_size=1,
        max_size=8,
    )
)
def test_attributes_round_trip(store: Store, rows: list[tuple[Any, ...]]) -> None:
    columns = {
        name: pa.array([row[i] for row in rows], kind)
        for i, (name, (kind, _)) in enumerate(attributes.items())
    }
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2.0 * len(rows), dtype="f4")), 2)
    source = pa.table({"id": pa.array(range(len(rows))), **columns, "embedding": flat})
    back = table_of(store, "attributed").load(source, index="none").to_arrow()
    for name, (kind, _) in attributes.items():
        assert back.column(name).cast(kind).to_pylist() == columns[name].to_pylist(), name


def test_nested_attributes_are_json(store: Store) -> None:
    source = pa.table({"id": [1, 2], "v": [[1.0, 2.0], [3.0, 4.0]], "tags": [["a", "b"], None]})
    version = store.create_table("t").load(source, vectors="v")
    assert version.lookup([1, 2], show=["tags"]).attributes["tags"].tolist() == [["a", "b"], None]


@given(
    vectors=hnp.arrays(np.float32, (7, 5), elements=st.floats(width=32)),
    order=st.permutations(range(7)),
    cut=st.integers(0, 7),
)
@pytest.mark.parametrize("text", [False, True])
def test_checksum_adds_up_in_any_order(
    vectors: Any, order: list[int], cut: int, text: bool
) -> None:
    ids = pa.array([f"id{i}" for i in range(7)]) if text else pa.array(range(7))
    whole, parts = Checksum(), Checksum()
    whole.update(ids, vectors)
    mixed, shuffled = vectors[order], ids.take(pa.array(order))
    parts.update(shuffled.slice(0, cut), mixed[:cut])
    parts.update(shuffled.slice(cut), mixed[cut:])
    assert str(whole) == str(parts)
    changed = Checksum()
    other = vectors.copy()
    other.view(np.uint32)[3, 2] ^= 1
    changed.update(ids, other)
    assert str(changed) != str(whole)
