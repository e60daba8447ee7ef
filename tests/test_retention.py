"""What gc drops, and what it leaves alone."""

import json
from datetime import timedelta

import psycopg
import pytest

import embstore
from embstore import Collected, Store, Table, retention
from embstore.release.drop import drop_version
from embstore.retention import duration
from tests.fix_data import clusters
from tests.fix_store import Command


def load(store: Store, name: str, versions: int, *, promote: bool = True) -> Table:
    known = {each.name for each in store.tables()}
    table = store.table(name) if name in known else store.create_table(name)
    for _ in range(versions):
        table.load(clusters(10, 3), ids=range(10), index="none", promote=promote)
    return table


def fates(found: Collected) -> dict[str, str]:
    return {each.ref: each.fate for each in found.versions}


def ready(store: Store, name: str) -> list[int]:
    return [each.number for each in store.table(name).versions()]


def test_what_stays_and_why(store: Store) -> None:
    items = load(store, "items", 9)
    store.promote("items@3", alias="candidate")
    store.pin("items@4", "ctr-model-41")
    planned = store.gc(keep=2, dry_run=True)
    assert {each.ref: (each.fate, each.why) for each in planned.versions if each.version > 2} == {
        "items@3": ("kept", "candidate"),
        "items@4": ("kept", "pinned by ctr-model-41"),
        "items@5": ("dropped", planned.dropped[2].why),
        "items@6": ("dropped", planned.dropped[3].why),
        "items@7": ("dropped", planned.dropped[4].why),
        "items@8": ("kept", "of release 8, one of the last 2 of a table, one of the 2 newest"),
        "items@9": (
            "kept",
            "live, of release 9, one of the last 2 of a table, one of the 2 newest",
        ),
    }
    assert planned.dropped[2].why.startswith("not needed for ")
    assert ready(store, "items") == list(range(1, 10))
    done = store.gc(keep=2)
    assert [each.ref for each in done.dropped] == [f"items@{i}" for i in (1, 2, 5, 6, 7)]
    assert done.freed == planned.freed == sum(each.bytes for each in done.dropped) > 0
    assert ready(store, "items") == [3, 4, 8, 9]
    assert items.rollback().version == 8
    with store.connection() as connection:
        rows = connection.execute(
            "SELECT version FROM embstore.versions"
            " WHERE status = 'retired' AND checksum IS NOT NULL"
        ).fetchall()
    assert len(rows) == 5


def test_the_last_releases_stay_whole(store: Store) -> None:
    """All that they named, also of tables that have been released more often since."""
    load(store, "items", 10, promote=False)
    load(store, "users", 2, promote=False)
    store.release({"items": 1, "users": 1})
    store.release({"items": 2, "users": 2})
    for number in (3, 4, 5):
        store.promote(f"items@{number}")
    store.promote("items@6")
    store.rollback("items")
    store.rollback("items")
    # What stands of items is 4, 3, 2, 1; the last three moves led to 6, 5 and 4.
    assert fates(store.gc(keep=3, tables=["items"])) == {
        **{f"items@{number}": "kept" for number in range(1, 7)},  # 1 and 2 with those of users
        "items@7": "dropped",
        **{f"items@{number}": "kept" for number in (8, 9, 10)},
    }
    load(store, "items", 4)
    # The newest are 12, 13 and 14; of users' two releases items@1 and items@2 are still part.
    assert fates(store.gc(keep=3, dry_run=True)) == {
        **{f"items@{number}": "dropped" for number in (3, 4, 5, 6, 8, 9, 10, 11)},
        **{f"items@{number}": "kept" for number in (1, 2, 12, 13, 14)},
        "users@1": "kept",
        "users@2": "kept",
    }
    assert [each.ref for each in store.gc(keep=1).dropped if each.version < 3] == [
        "items@1",
        "users@1",
    ]


def test_rollback_goes_back_as_often_as_promised(store: Store) -> None:
    items = load(store, "items", 6)
    items.rollback()
    items.rollback()
    store.gc(keep=3)
    assert [items.rollback().version, items.rollback().version] == [3, 2]
    assert ready(store, "items")[:3] == [2, 3, 4]


def test_age_is_since_it_was_needed_last(store: Store) -> None:
    load(store, "items", 4)
    load(store, "items", 1, promote=False)
    with store.connection() as connection:
        connection.execute("UPDATE embstore.versions SET ready_at = now() - interval '40 days'")
        connection.execute(
            "UPDATE embstore.alias_history SET moved_at = now() - interval '9 days'"
            " WHERE version = 3"
        )
        # A clock that was set back: this one's age is 0, not less.
        connection.execute(
            "UPDATE embstore.versions SET ready_at = now() + interval '1 day' WHERE version = 1"
        )
    found = store.gc(keep=0, older_than="10d", dry_run=True)
    assert fates(found) == {
        "items@1": "kept",
        "items@2": "kept",  # live until 9 days ago
        "items@3": "kept",  # live until now
        "items@4": "kept",
        "items@5": "dropped",
    }
    assert found.versions[1].why == "younger than 10 d: 9 d"
    assert (
        fates(store.gc(keep=0, older_than=timedelta(days=8), dry_run=True))["items@2"] == "dropped"
    )
    assert fates(store.gc(keep=0, older_than=timedelta(), dry_run=True))["items@1"] == "dropped"


def test_what_is_read_is_left(cli: Command, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LONG_S", 0.1)
    load(store, "items", 4)
    load(store, "users", 3)
    with psycopg.connect(store.url) as reader, psycopg.connect(store.url) as old:
        reader.execute("SELECT * FROM emb.items_v1 LIMIT 1")
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT version FROM embstore.aliases").fetchall()
        store.promote("users@1")
        store.promote("users@3")
        store.promote("users@3", alias="candidate")
        with store.connection() as waiting:
            waiting.execute("SELECT pg_sleep(0.15)")
        for dry_run in (True, False):
            found = store.gc(keep=1, dry_run=dry_run)
            assert fates(found) == {
                "items@1": "skipped",
                "items@2": "dropped",
                "items@3": "dropped",
                "items@4": "kept",
                "users@1": "skipped",
                "users@2": "dropped",
                "users@3": "kept",
            }
            first, second = found.skipped
            assert first.why.startswith(f"read by pid {reader.info.backend_pid} (embstore, idle in")
            assert f"may still be read by pid {old.info.backend_pid}" in second.why
        done = cli("gc", "users", "--keep", 1, "--json")
        assert done.returncode == 0
        assert "users@1 is left for the next time: users@1 may still be read" in done.stderr
        assert json.loads(done.stdout)["freed"] == 0
    assert [each.ref for each in store.gc(keep=1).dropped] == ["items@1", "users@1"]


def test_a_version_that_is_needed_meanwhile_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(store, "items", 4)

    def late(connection: object, engine: object, table: str, version: int, **how: object) -> None:
        if version == 1:
            store.promote("items@1")
            store.promote("items@4")
        if version == 2:
            store.pin("items@2", "a")
        drop_version(connection, engine, table, version, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(retention, "drop_version", late)
    found = store.gc(keep=2)
    assert fates(found) == dict.fromkeys([f"items@{i}" for i in (1, 2, 3, 4)], "kept")
    assert found.versions[0].why.startswith("of release 5")
    assert found.versions[1].why == "pinned by a"


def test_the_command_line(cli: Command, store: Store) -> None:
    load(store, "items", 5)
    planned = cli("gc", "--keep", 2, "--older-than", "0s", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.splitlines()[-1].startswith("would drop 3 versions, ")
    assert planned.stdout.count("would be dropped") == 3
    assert cli("gc", "--older-than", "30").returncode == 2
    missing = cli("gc", "nothing")
    assert (missing.returncode, "no table 'nothing'" in missing.stderr) == (1, True)
    assert cli("gc").stdout.splitlines()[-1].startswith("dropped 2 versions, ")
    assert ready(store, "items") == [3, 4, 5]


def test_durations() -> None:
    assert duration("30d") == timedelta(days=30)
    assert duration("1d 12h") == timedelta(hours=36)
    assert duration("2w") == timedelta(days=14)
    assert duration("90m") == timedelta(hours=1.5)
    for wrong in ("", "30", "d", "-3d", "3 days", "3y", "1e3d", "9" * 30 + "d"):
        with pytest.raises(embstore.InvalidQuery, match="duration"):
            duration(wrong)


def test_what_cannot_be_asked(store: Store) -> None:
    with pytest.raises(embstore.InvalidQuery, match="negative"):
        store.gc(keep=-1)
    with pytest.raises(embstore.InvalidQuery, match="negative"):
        store.gc(older_than=timedelta(days=-1))
    with pytest.raises(embstore.NotFound, match="no table"):
        store.gc(tables=["nothing"])
    assert store.gc().versions == ()
