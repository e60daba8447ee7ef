import datetime

import psycopg
import pytest

import embstore
from embstore import Store, Table
from tests.fix_data import clusters


@pytest.fixture
def items(store: Store) -> Table:
    table = store.create_table("items")
    for seed in range(4):
        table.load(clusters(20, 4, seed), ids=range(20))
    return table


def test_rollback_undoes_one_promote_after_the_other(store: Store, items: Table) -> None:
    for version in (1, 2, 3):
        items[version].promote(message=f"to {version}")
    assert items.rollback(message="bad").version == 2
    assert items.rollback().version == 1
    with pytest.raises(embstore.NotFound, match="no promote to roll back"):
        items.rollback()
    items[4].promote()
    assert items.rollback().version == 1
    moves = items.history()
    assert [(move.action, move.version) for move in moves] == [
        ("promote", 1),
        ("promote", 2),
        ("promote", 3),
        ("rollback", 2),
        ("rollback", 1),
        ("promote", 4),
        ("rollback", 1),
    ]
    assert [move.message for move in moves[:4]] == ["to 1", "to 2", "to 3", "bad"]
    with store.connection() as connection:
        row = connection.execute("SELECT DISTINCT version FROM emb.items").fetchone()
    assert row == (1,)


def test_other_aliases(store: Store, items: Table) -> None:
    items[2].promote()
    items[3].promote(alias="candidate")
    assert store["items@candidate"].number == 3
    assert items["candidate"].number == 3
    assert store["items"].number == items.live.number == 2
    loaded = items.load(clusters(20, 4), ids=range(20), promote="candidate")
    assert store["items@candidate"].number == loaded.number
    assert items.live.number == 2


def test_references(store: Store, items: Table) -> None:
    before = datetime.datetime.now(datetime.UTC).isoformat()
    items[1].promote()
    between = datetime.datetime.now(datetime.UTC).isoformat()
    items[2].promote()
    assert store[f"items@{between}"].number == 1
    assert store["items@2999-01-01"].number == 2
    for ref, says in {
        f"items@{before}": "no live version at",
        "items@9": "no version 9",
        "items@soon": "no 'soon' version",
        "items@1; DROP TABLE x": "no reference",
        "items@": "no reference",
        "nothing@1": "no table",
        "": "no table",
        "a'b@1": "no table",
    }.items():
        with pytest.raises(embstore.EmbstoreError, match=says):
            store[ref]


def test_a_release_is_all_or_nothing(store: Store, items: Table) -> None:
    users = store.create_table("users")
    users.load(clusters(5, 4), ids=range(5))
    store.promote("items@1", "users@1")
    with pytest.raises(embstore.NotFound, match="users has no version 7"):
        store.promote("items@2", "users@7")
    assert items.live.number == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Items",
        "1items",
        "items-a",
        "items v",
        "x" * 49,
        "ítems",
        'a"b',
        "a;b",
        "a.b",
        "../a",
        "items_v7",
        "%s",
        "$$",
        "pg_\\",
    ],
)
def test_names(store: Store, name: str) -> None:
    with pytest.raises(embstore.InvalidName):
        store.create_table(name)
    with pytest.raises(embstore.EmbstoreError):
        store.promote("items@1", alias=name if name != "items_v7" else "A")


def test_drop(store: Store, items: Table) -> None:
    items[1].promote()
    with pytest.raises(embstore.InvalidQuery, match="items@1 is live"):
        items.drop(1)
    items[2].promote()
    items.drop(1)
    with pytest.raises(embstore.NotFound, match="items@1 is retired"):
        store["items@1"]
    with pytest.raises(embstore.NotFound, match="items@1 is retired"):
        items.rollback()
    assert items.live.number == 2
    assert [each.number for each in items.versions()] == [2, 3, 4]
    old = items[3]
    items.drop(3)
    with pytest.raises(embstore.NotFound, match="items@3 is retired"):
        old.lookup([1])
    store.drop_table("items")
    with store.connection() as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'emb'::regnamespace"
        ).fetchone()
    assert left == (0,)


def test_drop_spares_an_old_snapshot(store: Store, items: Table) -> None:
    items[1].promote()
    with psycopg.connect(store.url) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT version FROM embstore.aliases").fetchall()
        items[2].promote()
        with pytest.raises(embstore.DatabaseFailed, match=f"pid {old.info.backend_pid}"):
            items.drop(1)
        assert old.execute("SELECT DISTINCT version FROM emb.items").fetchall() == [(1,)]
    items.drop(1)


def test_dropping_does_not_wait_for_ever(
    store: Store, items: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embstore.release import drop

    monkeypatch.setattr(drop, "GIVE_UP_S", 0.2)
    with psycopg.connect(store.url) as reader:
        reader.execute("SELECT * FROM emb.items_v3 LIMIT 1")
        with pytest.raises(embstore.DatabaseFailed, match=f"pid {reader.info.backend_pid}"):
            items.drop(3)
        assert store["items@3"].lookup([1]).found.all()
