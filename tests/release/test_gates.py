"""Gates: what they measure, and that live stays as it is when one fails."""

import json

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embstore
from embstore import Store
from embstore.release.gates import MEASURES, OPERATORS, Gate, GateResult
from tests.fix_data import clusters
from tests.fix_store import Command


@pytest.fixture
def items(store: Store) -> embstore.Table:
    """items@1 is live, of 100 ids; items@2 lacks ten of them, and is longer by a half."""
    table = store.create_table("items")
    vectors = clusters(100, 8)
    used = {"used": np.arange(100), "id": np.arange(100)}
    table.load(vectors, ids=range(100), attributes=used, promote=True)
    table.load(1.5 * vectors[10:], ids=range(10, 100))
    return table


def test_every_gate_says_its_value(store: Store, items: embstore.Table) -> None:
    done = store.release(
        {"items": 2},
        gates=[
            "coverage>=0.9",
            "coverage(used) >= 0.99",
            "items:overlap@5 >= 0.6",
            "recall@5.min >= 1",
            "norm_drift<0.6",
            "duplicates<=0",
            "rows=90",
            "dim==8",
            "sql(SELECT count(*) FILTER (WHERE id < 10) = 0 FROM {new})",
            "sql(SELECT min(n.id) - min(o.id) FROM {new} n, {live} o) <= 10",
        ],
    )
    values = [gate["value"] for gate in done.gates]
    assert values[:1] == [0.9]
    assert values[1] == pytest.approx(1 - 45 / 4950)
    assert values[2] == 1.0  # those that went do not count against those that stay
    assert values[3:] == [1.0, pytest.approx(0.53, abs=0.01), 0.0, 90, 8, True, 10.0]
    assert all(gate["passed"] for gate in done.gates)
    assert store.releases()[0].gates == done.gates


def test_a_gate_that_fails_leaves_live_alone(store: Store, items: embstore.Table) -> None:
    with pytest.raises(
        embstore.GateFailed, match=r"items@2 coverage>=0.95: is 0.9; nothing"
    ) as bad:
        items[2].promote(gates=["coverage>=0.95", "rows>=50"])
    assert [(each.gate, each.passed) for each in bad.value.results] == [
        ("coverage>=0.95", False),
        ("rows>=50", True),
    ]
    assert items.live.number == 1 and len(store.releases()) == 1
    items[2].promote(gates=["coverage>=0.95"], force=True, message="the old ones are gone")
    newest = store.releases()[0]
    assert newest.forced and newest.message == "the old ones are gone"
    assert [(gate["gate"], gate["passed"]) for gate in newest.gates] == [("coverage>=0.95", False)]


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("coverage(nothing)>=0.5", "has no numeric attribute 'nothing'"),
        ("recall@5(users)>=0.5", "no table 'users'"),
        ("sql(SELECT 1)", "must return true or false"),
        ("sql(SELECT NULL::int)>0", "which is no number"),
        ("sql(SELECT id FROM {new})>0", "one row of one column"),
        ("sql(SELECT true; DROP TABLE emb.items_v1)", "cannot insert multiple commands"),
        ("sql(DELETE FROM {live} RETURNING true)", "read-only"),
        ("sql(COMMIT)", "one row of one column"),
        ("sql(SELECT nonsense)", "nonsense"),
    ],
)
def test_what_cannot_be_measured_does_not_pass(
    store: Store, items: embstore.Table, gate: str, says: str
) -> None:
    if "recall" in gate:
        items[2].create_index("hnsw")
    with pytest.raises(embstore.GateFailed, match=says):
        items[2].promote(gates=[gate])
    assert items.live.rows == 100 and items.live.number == 1


def test_kept_gates_hold_for_everybody(store: Store, items: embstore.Table) -> None:
    items.gates = ["coverage>=0.95", "items:rows>=50", "coverage>=0.95"]
    assert items.gates == ["coverage>=0.95", "rows>=50"]
    with pytest.raises(embstore.GateFailed, match=r"coverage>=0.95: is 0.9"):
        items[2].promote()
    with (
        psycopg.connect(store.url) as connection,
        pytest.raises(psycopg.DatabaseError, match="items has gates, which SQL does not measure"),
    ):
        connection.execute("SELECT embstore.promote('items@2')")
    with pytest.raises(
        embstore.GateFailed, match="items@3 is loaded and ready, but not live"
    ) as bad:
        items.load(clusters(40, 8), ids=range(40), promote=True)
    assert [each.passed for each in bad.value.results] == [False, False]
    assert items.live.number == 1 and store["items@3"].rows == 40
    assert items.load(clusters(110, 8), ids=range(110), promote=True).number == items.live.number
    with psycopg.connect(store.url) as connection:
        connection.execute(
            "SELECT embstore.release('{items@2}', message => 'by hand', forced => true)"
        )
    assert items.live.number == 2
    items[3].promote(alias="candidate")  # gates are for live
    items.gates = []
    items[3].promote()
    store.create_table("empty").gates = ["rows>1"]
    store.drop_table("empty")


def test_a_first_version_has_nothing_to_be_compared_with(store: Store) -> None:
    table = store.create_table("items")
    table.gates = ["coverage>=0.9", "overlap@10>=0.9", "norm_drift<=0.1", "rows>=5"]
    table.load(clusters(9, 4), ids=range(9), promote=True)
    first = store.releases()[0]
    assert [gate["value"] for gate in first.gates] == [None, None, None, 9]
    assert first.gates[0]["note"] == "nothing is live to compare with"


def test_the_queries_of_the_release_itself(store: Store) -> None:
    items = store.create_table("items", metric="ip")
    users = store.create_table("users", metric="ip")
    vectors = clusters(400, 8)
    items.load(vectors, ids=range(400), index="hnsw", space="a")
    for seed in (1, 2):
        users.load(clusters(30, 8, seed), ids=range(30), space="ba"[seed - 1], promote=seed == 1)
    done = store.release(["users@2", "items@1"], gates=["items:recall@10(users)>=0.5"])
    (gate,) = done.gates
    assert "30 queries: users@2" in gate["note"]


def test_live_may_not_move_while_gates_are_measured(
    store: Store, items: embstore.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embstore.release import promote

    def slowly(*arguments: object) -> list[GateResult]:
        with psycopg.connect(store.url) as other:
            other.execute("SELECT embstore.promote('items@3')")
        return [GateResult("items@2", "rows>1", 90, 1, True, "")]

    items.load(clusters(100, 8), ids=range(100))
    monkeypatch.setattr(promote, "measure", slowly)
    with pytest.raises(embstore.DatabaseFailed, match="moved from version 1 to version 3"):
        items[2].promote(gates=["rows>1"])
    assert items.live.number == 3


@pytest.mark.parametrize(
    "text",
    ["", "coverage", "coverage>=much", "speed>1", "rows@10>1", "rows(x)>1", "recall.p99>0.5",
     "coverage>=1_0", "rows>=nan", "sql()", "overlap@0>1", "overlap@1001>1", "norm_drift.p5<1"],
)  # fmt: skip
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(embstore.InvalidQuery, match="is no gate"):
        Gate.parse(text)


@given(
    st.sampled_from(sorted(MEASURES)),
    st.sampled_from(sorted(OPERATORS)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "items:", "items : "]),
)
def test_a_gate_is_read_as_it_is_written(
    name: str, op: str, bound: float, value: float, table: str
) -> None:
    gate = Gate.parse(f"{table}{name} {op} {bound!r}")
    assert (gate.name, gate.op, gate.bound) == (name, op, bound)
    assert gate.table == ((table and "items") or None)
    assert Gate.parse(gate.text) == Gate(**{**vars(gate), "table": None})
    assert gate.holds(value) == OPERATORS[op](value, bound)


@given(st.text())
def test_any_text_is_a_gate_or_refused(text: str) -> None:
    try:
        Gate.parse(text)
    except embstore.InvalidQuery as error:
        assert "is no gate" in str(error)


def test_at_the_command_line(store: Store, items: embstore.Table, cli: Command) -> None:
    assert cli("gates", "items").stdout.startswith("items has no gates: embstore gates items set")
    done = cli("gates", "items", "set", "coverage>=0.95", "rows>=50", "--json")
    assert json.loads(done.stdout) == ["coverage>=0.95", "rows>=50"]
    failed = cli("promote", "items@2", "--gate", "dim=8")
    assert failed.returncode == 1
    lines = [line.split() for line in failed.stdout.splitlines()]
    assert lines[2][:6] == ["items@2", "coverage>=0.95", "0.9", "FAILED", "of", "the"]
    assert failed.stderr == (
        "embstore: items@2 coverage>=0.95: is 0.9; nothing has changed: look at it"
        " (embstore compare), or force it with a message\n"
    )
    as_json = cli("promote", "items@2", "--json")
    assert as_json.returncode == 1
    assert [each["passed"] for each in json.loads(as_json.stdout)["gates"]] == [False, True]
    assert cli("gates", "items", "remove", "coverage>=0.95").stdout == "rows>=50\n"
    assert "items@live is version 2 (was version 1)" in cli("promote", "items@2").stdout
    assert cli("gates", "items", "add", "speed>1").returncode == 1
