"""A pinned version stays."""

import json
import threading

import psycopg
import pytest

import embstore
from embstore import Store, Table
from tests.fix_data import clusters
from tests.fix_store import Command


@pytest.fixture
def items(store: Store) -> Table:
    table = store.create_table("items")
    for seed in (1, 2):
        table.load(clusters(20, 4, seed), ids=range(20), index="none", promote=True)
    return table


def test_a_pinned_version_is_not_dropped(store: Store, items: Table) -> None:
    made = store.pin("items", "b", note="the baseline")
    assert (made.ref, made.pinned_by, made.note) == ("items@2", "b", "the baseline")
    items[1].pin("b")
    with store.connection() as connection:
        connection.execute("SELECT embstore.pin('items@1', 'a')")
    assert [(each.ref, each.pinned_by) for each in store.pins("items")] == [
        ("items@1", "a"),
        ("items@1", "b"),
        ("items@2", "b"),
    ]
    with pytest.raises(embstore.InvalidQuery, match="items@1 is pinned by a and b: unpin it first"):
        items.drop(1)
    with pytest.raises(
        embstore.InvalidQuery, match="items@1 is pinned by a and b, items@2 is pinned by b: unpin"
    ):
        store.drop_table("items")
    items[1].unpin("a")
    with pytest.raises(embstore.NotFound, match="items@1 is not pinned by 'a'"):
        store.unpin("items@1", "a")
    with pytest.raises(embstore.InvalidQuery, match="pinned by b"):
        items.drop(1)
    items.drop(1, force=True)
    assert [each.ref for each in store.pins()] == ["items@2"]
    with pytest.raises(embstore.NotFound, match="items@1 is retired"):
        store.pin("items@1", "c")
    with pytest.raises(embstore.InvalidQuery, match="needs the name"):
        store.pin("items@2", "")
    with pytest.raises(embstore.NotFound, match="no table"):
        store.pins("item")
    store.drop_table("items", force=True)
    assert store.pins() == []


def test_a_pin_and_a_drop_take_turns(store: Store, items: Table) -> None:
    """A pin that comes while a drop waits for it is seen by the drop."""
    errors: list[BaseException] = []

    def drop() -> None:
        try:
            items.drop(1)
        except embstore.EmbstoreError as error:
            errors.append(error)

    with psycopg.connect(store.url) as pinning:
        pinning.execute("SELECT embstore.pin('items@1', 'a')")
        dropping = threading.Thread(target=drop)
        dropping.start()
        dropping.join(0.3)
        assert dropping.is_alive() and not errors
    dropping.join()
    assert "items@1 is pinned by a" in str(errors[0])
    assert store["items@1"].lookup([1]).found.all()


def test_the_command_line(cli: Command, store: Store, items: Table) -> None:
    done = cli("pin", "items@1", "--by", "ctr-model-41", "--note", "trained on it")
    assert done.stdout == "items@1 is pinned by ctr-model-41\n"
    (pin,) = json.loads(cli("pins", "items", "--json").stdout)
    assert {
        "ref": "items@1",
        "by": "ctr-model-41",
        "note": "trained on it",
    }.items() <= pin.items()
    (shown,) = json.loads(cli("show", "items@1", "--json").stdout)["pins"]
    assert shown["by"] == "ctr-model-41"
    refused = cli("drop", "items", "--yes")
    assert refused.returncode == 1 and "items@1 is pinned by ctr-model-41" in refused.stderr
    items.load(clusters(20, 4), ids=range(20), promote=True)
    items.drop(2)
    listed = cli("versions", "items").stdout
    assert listed.count("ctr-model-41") == 1 and listed.count("freed") == 1
    done = cli("unpin", "items@1", "--by", "ctr-model-41")
    assert done.stdout == "items@1 is no longer pinned by ctr-model-41\n"
    assert store.pins() == []
