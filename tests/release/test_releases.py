"""Several tables move in one step, and back in one; trainings are not mixed."""

import itertools
import threading
from collections.abc import Callable
from datetime import datetime

import psycopg
import pytest

import embstore
from embstore import Store
from embstore.release.releases import Release
from tests.fix_data import clusters
from tests.fix_store import Command

TABLES = ("brands", "items", "users")


@pytest.fixture
def trained(store: Store) -> Store:
    """Three tables, loaded from three trainings; nothing is live."""
    for name in TABLES:
        table = store.create_table(name)
        for run in (1, 2, 3):
            table.load(clusters(20, 4, run), ids=range(20), space=f"run-{run}")
    return store


def together(number: int) -> dict[str, int]:
    return dict.fromkeys(TABLES, number)


def live(store: Store) -> dict[str, int]:
    with store.connection() as connection:
        rows = connection.execute(
            "SELECT table_name, version FROM embstore.aliases WHERE alias = 'live' ORDER BY 1"
        ).fetchall()
    return dict(rows)


def test_all_move_at_one_moment_and_back(trained: Store) -> None:
    for run in (1, 2):
        done = trained.release(together(run), message=f"run {run}")
        assert isinstance(done, Release)
        assert [(each.table_name, each.version) for each in done.moves] == [
            (name, run) for name in TABLES
        ]
        assert live(trained) == together(run)
        with trained.connection() as connection:
            moments = connection.execute(
                "SELECT count(DISTINCT moved_at) FROM embstore.alias_history WHERE release = %s",
                (done.number,),
            ).fetchone()
        assert moments == (1,)
    back = trained.rollback("items", message="worse")
    assert {(each.table_name, each.version, each.previous) for each in back} == {
        (name, 1, 2) for name in TABLES
    }
    assert live(trained) == together(1)
    newest, second, first = trained.releases()
    assert (newest.action, newest.undoes, newest.message) == ("rollback", second.number, "worse")
    assert second.refs == ("brands@2", "items@2", "users@2")
    assert isinstance(second.moved_at, datetime) and second.moved_by == "embstore"
    assert trained.releases("items", limit=1) == [newest]
    with pytest.raises(embstore.NotFound, match="brands has no promote to roll back"):
        trained.rollback("brands")
    assert first.number is not None
    again = trained.release(together(1))
    assert again.number is None and len(trained.releases()) == 3


def test_a_release_is_undone_whole_or_not(trained: Store) -> None:
    trained.release(together(1))
    trained.release(together(2))
    trained.release({"users": 3}, force=True, message="urgent")
    with pytest.raises(embstore.NotFound, match="release 2 moved users and items together"):
        trained.rollback("items")
    assert live(trained) == together(2) | {"users": 3}
    assert trained.table("users").rollback().version == 2
    trained.rollback("items")
    assert live(trained) == together(1)


def test_a_table_that_was_new_is_not_live_after_a_rollback(store: Store) -> None:
    for name in ("items", "users"):
        for seed in (1, 2):
            store.create_table(name) if seed == 1 else None
            store.table(name).load(clusters(9, 4, seed), ids=range(9))
    store.promote("items@1")
    store.release({"items": 2, "users": 2})
    store.rollback("users")
    assert live(store) == {"items": 1}
    with pytest.raises(embstore.NotFound, match="users has no 'live' version"):
        store["users"]
    with store.connection() as connection:
        assert connection.execute("SELECT count(*) FROM emb.users").fetchone() == (0,)
        at = connection.execute("SELECT embstore.live_at('users', now())").fetchone()
    assert at == (None,)
    store.promote("users@1")
    assert live(store) == {"items": 1, "users": 1}


def test_trainings_are_not_mixed(trained: Store) -> None:
    with pytest.raises(embstore.SpaceMismatch, match=r"items@2 is of space run-2, users@1 is of"):
        trained.release({"items": 2, "users": 1})
    trained.release(together(1))
    with pytest.raises(embstore.SpaceMismatch, match=r"brands@1 and users@1 would be live without"):
        trained.promote("items@2")
    with (
        pytest.raises(psycopg.DatabaseError, match="would be live without"),
        trained.connection() as connection,
    ):
        connection.execute("SELECT embstore.promote('items@2')")
    with pytest.raises(embstore.SpaceMismatch, match=r"items@4 is loaded and ready, but not live"):
        trained.table("items").load(clusters(20, 4), ids=range(20), promote=True)
    assert trained["items@4"].rows == 20
    assert live(trained) == together(1)
    with pytest.raises(embstore.InvalidQuery, match="a message that says why"):
        trained.release({"items": 2}, force=True)
    forced = trained.release({"items": 2}, force=True, message="an experiment")
    assert forced.forced and forced.message == "an experiment"
    with pytest.raises(embstore.SpaceMismatch, match=r"users@1 is of space run-1 and items@2"):
        trained.recall("users", "items", 3)
    assert trained.recall("users", "items", 3, force=True).to_arrow().num_rows == 60
    trained.rollback("items")
    assert trained.recall("users", "items", 3).to_arrow().num_rows == 60
    with pytest.raises(embstore.SpaceMismatch, match="run-1"):
        trained["items@2"].evaluate("users@1", 3, write=False)


def test_releases_say_what_belongs_together(store: Store) -> None:
    for name in ("items", "users"):
        table = store.create_table(name)
        for seed in (1, 2):
            table.load(clusters(9, 4, seed), ids=range(9), promote=seed == 1)
    doubts: list[str] = []
    store.recall("users", "items", 3, warn=doubts.append)
    assert len(doubts) == 1 and "nothing says that users@1 and items@1" in doubts[0]
    store.release({"items": 2, "users": 2})
    store.recall("users", "items", 3, warn=doubts.append)
    assert len(doubts) == 1
    store.promote("items@1")
    with pytest.raises(embstore.SpaceMismatch, match="were never released together"):
        store.recall("users", "items", 3)


def test_the_space_of_a_load(store: Store) -> None:
    table = store.create_table("items")
    vectors = clusters(5, 3)
    assert table.load(vectors, ids=range(5), params={"run_id": "a1b2"}).space == "a1b2"
    assert table.load(vectors, ids=range(5), params={"run_id": "a"}, space="b").space == "b"
    assert table.load(vectors, ids=range(5)).space is None
    with pytest.raises(embstore.InvalidQuery, match="is no name"):
        table.load(vectors, ids=range(5), space=" ")


def test_two_releases_at_once_have_one_order(trained: Store) -> None:
    """Of tables named in other orders, over and over: none waits for ever, all are recorded."""
    trained.release(together(1))
    failures: list[BaseException] = []
    barrier = threading.Barrier(4)

    def move(run: int, names: tuple[str, ...]) -> None:
        try:
            barrier.wait()
            for at in range(15):
                trained.release([f"{name}@{1 + (run + at) % 3}" for name in names])
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=move, args=(run, names))
        for run in (1, 2)
        for names in (TABLES, TABLES[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(set(live(trained).values())) == 1
    for name in TABLES:
        moves = trained.table(name).history()
        for one, after in itertools.pairwise(moves):
            assert after.previous == one.version  # a chain: each began where the other ended
    for each in trained.releases():
        assert len(each.moves) == 3 and len({move.version for move in each.moves}) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.release({}), "a release of no version"),
        (lambda s: s.release(["items@1", "items@2"]), "one version of a table: items@1, items@2"),
        (lambda s: s.release({"items": 9}), "items has no version 9"),
        (lambda s: s.release({"nothing": 1}), "no table 'nothing'"),
        (lambda s: s.promote("items@1", alias="best", gates=["rows>1"]), "alias best has none"),
        (lambda s: s.rollback("nothing"), "no table 'nothing'"),
        (lambda s: s.rollback("items"), "items has no promote to roll back"),
    ],
)
def test_what_is_no_release(trained: Store, change: Callable[[Store], object], says: str) -> None:
    with pytest.raises(embstore.EmbstoreError, match=says):
        change(trained)
    assert live(trained) == {}


def test_at_the_command_line(trained: Store, cli: Command) -> None:
    import json

    done = cli("promote", "users@1", "items@1", "brands@1", "-m", "first")
    assert done.stdout.splitlines() == [
        f"{name}@live is version 1 (was nothing)" for name in TABLES
    ]
    refused = cli("promote", "items@2")
    assert refused.returncode == 1
    assert refused.stderr.startswith("embstore: brands@1 and users@1 would be live without")
    assert cli("promote", "items@2", "--force").returncode == 2
    assert cli("promote", "items@2", "--force", "-m", "test").returncode == 0
    listed = cli("releases", "--json")
    (newest, oldest) = json.loads(listed.stdout)
    assert newest["forced"] and newest["message"] == "test" and oldest["message"] == "first"
    assert [each["table"] for each in oldest["moves"]] == list(TABLES)
    assert "brands@1, items@1, users@1" in cli("releases").stdout
