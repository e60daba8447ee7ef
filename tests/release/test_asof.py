"""What was live at a time, and the join of a training set with it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import embstore
from embstore import Store
from embstore.release.asof import history
from tests.fix_data import clusters

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def microseconds(times: list[datetime]) -> NDArray[np.int64]:
    return np.array(
        [(each - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for each in times]
    )


def stamp(store: Store, table: str, moments: list[datetime]) -> None:
    """Give the moves of a table's live these times, the first first."""
    with store.connection() as connection:
        for move, at in zip(store.table(table).history(), moments, strict=True):
            connection.execute(
                "UPDATE embstore.alias_history SET moved_at = %s WHERE move = %s", (at, move.move)
            )


@pytest.fixture(scope="module")
def lived(shared_store: Store) -> Store:
    """Items 1, 2, 1 (rolled back), 3 from days 10, 20, 30, 40; users 1 and 2 from days 5 and 25."""
    items = shared_store.create_table("items")
    for seed in (1, 2, 3):
        items.load(clusters(50, 4, seed)[: 47 + seed], ids=range(47 + seed), index="none")
    for number in (1, 2):
        items[number].promote()
    items.rollback()
    items[3].promote()
    stamp(shared_store, "items", [day(10), day(20), day(30), day(40)])
    users = shared_store.create_table("users", metric="ip")
    for seed in (4, 5):
        users.load(clusters(30, 3, seed), ids=[f"ü{i}" for i in range(30)], promote=True)
    stamp(shared_store, "users", [day(5), day(25)])
    return shared_store


def training_set(rows: int = 400) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    offsets = rng.integers(11 * 86_400 * 10**6, 60 * 86_400 * 10**6, rows)
    times = np.datetime64("2026-01-01T00:00:00", "us") + offsets
    times[:3] = [np.datetime64(day(each).replace(tzinfo=None), "us") for each in (20, 25, 30)]
    return {
        "item_id": rng.integers(0, 48, rows),
        "user_id": np.array([f"ü{i}" for i in rng.integers(0, 30, rows)], dtype=object),
        "seen_id": rng.integers(0, 48, rows),
        "ts": times,
    }


TABLES = {"item_id": "items", "user_id": "users", "seen_id": "items"}


def test_each_row_gets_what_was_live_at_its_time(lived: Store, tmp_path: Path) -> None:
    import pandas as pd
    import polars as pl

    rows = training_set()
    plain = pd.DataFrame(rows)
    zoned = plain.assign(ts=plain.ts.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
    written = plain.assign(ts=plain.ts.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    arrow = pa.table(rows)
    with lived.connection() as connection:
        live: dict[str, NDArray[np.int64]] = {
            table: np.array(
                connection.execute(
                    "SELECT embstore.live_at(%s, t) FROM unnest(%s::timestamptz[])"
                    " WITH ORDINALITY AS u (t, at) ORDER BY at",
                    (table, [each.replace(tzinfo=UTC) for each in rows["ts"].tolist()]),
                ).fetchall()
            )[:, 0]
            for table in ("items", "users")
        }
    assert live["items"][[0, 2]].tolist() == [2, 1]
    expected = []
    for column, table in TABLES.items():
        for at, version in zip(rows[column], live[table], strict=True):
            seed = version if table == "items" else 3 + version
            number = int(str(at).removeprefix("ü"))
            expected.append(
                clusters(50, 4, seed)[number] if table == "items" else clusters(30, 3, seed)[number]
            )
    parts = [np.stack(expected[i * 400 : (i + 1) * 400]) for i in range(3)]
    for frame in (rows, plain, zoned, written, arrow, pl.from_arrow(arrow)):
        found = lived.features_as_of(frame, TABLES, "ts")
        np.testing.assert_array_equal(found.vectors, np.concatenate(parts, axis=1))
        assert found.found.all() and found.found.shape == (400, 3)
    assert found.columns == {
        "item_id": slice(0, 4),
        "user_id": slice(4, 7),
        "seen_id": slice(7, 11),
    }
    np.testing.assert_array_equal(found.versions["item_id"], live["items"])
    np.testing.assert_array_equal(found.versions["user_id"], live["users"])
    np.testing.assert_array_equal(found.rows, np.arange(400))
    for _ in range(2):  # written, then opened
        local = lived.features_as_of(rows, TABLES, "ts", replicas=True, cache_dir=tmp_path)
        np.testing.assert_array_equal(local.vectors, found.vectors)


def test_what_is_missing(lived: Store) -> None:
    frame: dict[str, list[Any]] = {
        "item_id": [3, None, 49, 49, 7],
        "ts": [day(11), day(11), day(11), day(41), day(2)],
    }
    tables = {"item_id": "items"}
    for rows, says in {
        (0, 1): "column 'item_id', row 2, has no id",
        (0, 2): r"items@1 has no id 49",
        (0, 4, 4): r"items had no live version at the time of 2 of 3 rows, of 2026-01-03T00:00:00Z"
        r" to 2026-01-03T00:00:00Z: missing='skip'",
    }.items():
        part = {name: [values[row] for row in rows] for name, values in frame.items()}
        with pytest.raises(embstore.NotFound, match=says):
            lived.features_as_of(part, tables, "ts")
    stored = {
        (row, version): clusters(50, 4, version)[row] for row in (3, 49) for version in (1, 3)
    }
    zero = lived.features_as_of(frame, tables, "ts", "zero")
    nothing = [0, 0, 0, 0]
    np.testing.assert_array_equal(
        zero.vectors, [stored[3, 1], nothing, nothing, stored[49, 3], nothing]
    )
    assert zero.found[:, 0].tolist() == [True, False, False, True, False]
    assert zero.versions["item_id"].tolist() == [1, 1, 1, 3, 0]
    nan = lived.features_as_of(frame, tables, "ts", "nan")
    assert np.isnan(nan.vectors).all(axis=1).tolist() == [False, True, True, False, True]
    skip = lived.features_as_of(frame, tables, "ts", "skip")
    np.testing.assert_array_equal(skip.vectors, [stored[3, 1], stored[49, 3]])
    assert skip.rows.tolist() == [0, 3] and skip.versions["item_id"].tolist() == [1, 3]
    with pytest.raises(embstore.NotFound, match="no live version"):
        lived.features_as_of(frame, tables, "ts", "mean")
    some = {name: values[:4] for name, values in frame.items()}
    mean = lived.features_as_of(some, tables, "ts", "mean")
    np.testing.assert_allclose(mean.vectors[1], clusters(50, 4, 1)[:48].mean(axis=0), atol=1e-5)
    nobody = {name: values[1:2] for name, values in frame.items()}
    null = lived.features_as_of(nobody, tables, "ts", "mean")
    np.testing.assert_array_equal(null.vectors, mean.vectors[1:2])
    assert lived.features_as_of(
        {"item_id": [], "ts": pa.array([], pa.timestamp("us"))}, tables, "ts"
    ).vectors.shape == (0, 4)


@pytest.mark.parametrize(
    ("frame", "tables", "says"),
    [
        ({"x": [1], "ts": [BEGIN]}, {"y": "items"}, "no column 'y': it has 'x', 'ts'"),
        ({"x": [1], "ts": [1767225600]}, {"x": "items"}, "int64, not of times"),
        ({"x": [1], "ts": [None]}, {"x": "items"}, "int64|null|no time"),
        ({"x": [1, 2], "ts": [BEGIN, None]}, {"x": "items"}, "'ts', row 2, has no time"),
        ({"x": [1], "ts": ["soon"]}, {"x": "items"}, "'ts' does not hold times"),
        ({"x": [1, 2], "ts": [BEGIN]}, {"x": "items"}, "2 rows, and there are 1 times"),
        ({"x": ["a"], "ts": [day(50)]}, {"x": "items"}, "items has bigint ids"),
        ({"x": [1], "ts": [BEGIN]}, {"x": "items@2"}, "name the table"),
        ({"x": [1], "ts": [BEGIN]}, {}, "no table"),
        ([1, 2], {"x": "items"}, "list is no frame"),
    ],
)
def test_what_cannot_be_joined(lived: Store, frame: Any, tables: dict[str, str], says: str) -> None:
    with pytest.raises(embstore.InvalidQuery, match=says):
        lived.features_as_of(frame, tables, "ts")


def test_versions_of_another_dim_or_dropped(store: Store) -> None:
    items = store.create_table("items")
    for dim in (4, 4, 3):
        items.load(clusters(20, dim), ids=range(20), promote=True)
    stamp(store, "items", [day(1), day(2), day(3)])
    frame: dict[str, list[Any]] = {
        "id": [1, 2, 3, 4],
        "ts": [day(1), day(1.5), day(2), day(3)],
    }
    with pytest.raises(
        embstore.DimensionMismatch,
        match=r"items@1 has 4 dimensions and items@3, of rows from 2026-01-04T00:00:00Z on, 3",
    ):
        store.features_as_of(frame, {"id": "items"}, "ts")
    frame = {name: values[:3] for name, values in frame.items()}
    items.drop(1)
    with pytest.raises(
        embstore.NotFound,
        match=r"items@1 was live at the time of 2 of 3 rows, of 2026-01-02T00:00:00Z to"
        r" 2026-01-02T12:00:00Z, and was dropped since: .*pin",
    ):
        store.features_as_of(frame, {"id": "items"}, "ts")
    skip = store.features_as_of(frame, {"id": "items"}, "ts", "skip")
    assert skip.rows.tolist() == [2]
    assert store.features_as_of(frame, {"id": "items"}, "ts", "nan").versions["id"].tolist() == [
        1,
        1,
        2,
    ]
    items.drop(2)
    with pytest.raises(embstore.NotFound, match="no row's time"):
        store.features_as_of(frame, {"id": "items"}, "ts", "nan")


def test_a_row_does_not_see_ids_that_joined_later(store: Store) -> None:
    base = clusters(20, 4)
    items = store.create_table("items").load(base[:15], ids=range(15), promote=True)
    stamp(store, "items", [day(1)])
    items.append(base[15:], ids=range(15, 20))
    with store.connection() as connection:
        connection.execute(
            "UPDATE emb.items_v1 SET appended_at = %s WHERE appended_at IS NOT NULL", (day(3),)
        )
    frame = {"id": [3, 17, 17, 17], "ts": [day(2), day(2), day(3), day(4)]}
    found = store.features_as_of(frame, {"id": "items"}, "ts", "nan")
    assert found.found[:, 0].tolist() == [True, False, True, True]
    assert np.isnan(found.vectors[1]).all()
    np.testing.assert_array_equal(found.vectors[[0, 2, 3]], base[[3, 17, 17]])
    with pytest.raises(embstore.NotFound, match="no id 17"):
        store.features_as_of(frame, {"id": "items"}, "ts")


def test_halves_and_bits(store: Store) -> None:
    halves = store.create_table("halves")
    halves.load(clusters(20, 4), ids=range(20), precision="float16", promote=True)
    bits = np.random.default_rng(0).integers(0, 2, (20, 11))
    store.create_table("leaves", metric="hamming").load(bits, ids=range(20), promote=True)
    frame = {"a": [3, 17], "b": [4, 5], "ts": [day(36500)] * 2}
    found = store.features_as_of(frame, {"a": "halves", "b": "leaves"}, "ts")
    stored = clusters(20, 4).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found.vectors, np.concatenate([stored[[3, 17]], bits[4:6]], 1))


def test_a_join_holds_its_versions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drop between the plan and the read would leave half of an answer."""
    from embstore.query import packed
    from embstore.release import drop, join

    items = store.create_table("items")
    for seed in (1, 2):
        items.load(clusters(20, 4, seed), ids=range(20), promote=True)
    stamp(store, "items", [day(1), day(2)])
    monkeypatch.setattr(drop, "GIVE_UP_S", 0.1)
    refused = []
    read = packed.fetch

    async def dropping(*given: Any) -> Any:
        with pytest.raises(embstore.DatabaseFailed) as error:
            items.drop(1)
        refused.append(str(error.value))
        return await read(*given)

    monkeypatch.setattr(join, "fetch", dropping)
    frame = {"id": [1, 2], "ts": [day(1), day(2)]}
    assert store.features_as_of(frame, {"id": "items"}, "ts").found.all()
    assert len(refused) == 2 and "waiting for pid" in refused[0]


def test_history_agrees_with_sql(store: Store) -> None:
    """Also where the clock was set back between two moves, and where nothing was live."""
    store.create_table("items")
    rng = np.random.default_rng(0)
    with store.connection() as connection:
        for _ in range(30):
            connection.execute("DELETE FROM embstore.alias_history")
            moves = [
                (int(at), int(version))
                for at, version in rng.integers(0, [20, 4], (rng.integers(0, 12), 2))
            ]
            for at, version in moves:
                connection.execute(
                    "INSERT INTO embstore.alias_history (table_name, alias, version, action,"
                    " moved_at, moved_by)"
                    " VALUES ('items', 'live', nullif(%s, 0), 'promote', %s, 'x')",
                    (version, day(at)),
                )
            times = [day(each / 2) for each in range(-1, 42)]
            rows = connection.execute(
                "SELECT coalesce(embstore.live_at('items', t), 0) FROM unnest(%s::timestamptz[])"
                " WITH ORDINALITY AS u (t, at) ORDER BY at",
                (times,),
            ).fetchall()
            found = history(connection, "items").at(microseconds(times))
            assert found.tolist() == [version for (version,) in rows], moves


def test_the_store_as_of_a_time(lived: Store) -> None:
    then = lived.as_of(day(21))
    assert then["items"].number == 2 and then["users"].number == 1
    assert then.versions() == {"items": 2, "users": 1}
    assert lived.as_of("2026-01-08").versions() == {"users": 1}
    assert lived.as_of("2026-01-27T01:00:00+02:00")["users"].number == 2
    assert lived.as_of(datetime(2999, 1, 1)).versions() == {"items": 3, "users": 2}
    features = then.features({"items": [3, 4], "users": ["ü1", "ü2"]})
    np.testing.assert_array_equal(features.vectors[:, :4], clusters(50, 4, 2)[[3, 4]])
    assert features.versions == {"items": 2, "users": 1}
    with pytest.raises(embstore.NotFound, match="items had no live version at 2026-01-08"):
        lived.as_of("2026-01-08")["items"]
    with pytest.raises(embstore.InvalidName, match="no table name"):
        then["items@1"]
    for wrong in ("yesterday", 5):
        with pytest.raises(embstore.InvalidQuery, match="is no time"):
            lived.as_of(wrong)  # type: ignore[arg-type]
    with psycopg.connect(lived.url) as connection:
        row = connection.execute(
            "SELECT embstore.live_at('items', '2026-01-22+00'),"
            " embstore.live_at('items', '2025-01-01'), embstore.live_at('nothing', now())"
        ).fetchone()
    assert row == (2, None, None)
