"""Filters: the same rows as numpy would keep, and nothing but data in the SQL."""

import datetime
import operator
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore import Store, Version
from embstore.errors import InvalidQuery
from embstore.query.filter import of_conditions
from embstore.query.where import MAX_CONDITIONS, OPERATORS, conditions, parse
from tests.fix_data import clusters, distances

ROWS = 4000
VECTORS = clusters(ROWS, 8)
RNG = np.random.default_rng(5)
FRAME = pd.DataFrame(
    {
        "id": np.arange(ROWS),
        "embedding": list(VECTORS),
        "year": RNG.integers(1990, 2020, ROWS),
        "price": RNG.uniform(0, 100, ROWS),
        "language": RNG.choice(np.array(["en", "fr", "de", None]), ROWS),
        "new": RNG.random(ROWS) < 0.5,
        "added": pd.date_range("2020-01-01", periods=ROWS, freq="h"),
        "rare": RNG.integers(0, 2000, ROWS),
        'odd "%s" name': np.arange(ROWS) % 7,
    }
)


@pytest.fixture(scope="module")
def version(shared_store: Store) -> Version:
    return shared_store.create_table("items", metric="l2").load(FRAME, index="hnsw", promote=True)


def expected(keep: Any, k: int, query: int = 0) -> list[int]:
    rows = np.flatnonzero(np.asarray(keep, dtype=bool))
    near = distances("l2", VECTORS[query : query + 1], VECTORS[rows])[0]
    return [int(each) for each in rows[np.argsort(near, kind="stable")[:k]]]


CASES: list[tuple[dict[str, Any], Any]] = [
    ({"year": 2000}, FRAME.year == 2000),
    ({"year": {">=": 2000, "<": 2005}}, FRAME.year.between(2000, 2004)),
    ({"year": [2001, 2003.0, 1999.5, 2.0**63, -1e300]}, FRAME.year.isin([2001, 2003])),
    ({"year": {">": 2005.5}}, FRAME.year > 2005),
    ({"price": {"<=": 10}}, FRAME.price <= 10),
    ({"language": ["en", "fr"]}, FRAME.language.isin(["en", "fr"])),
    ({"language": {"!=": "en"}}, FRAME.language.isin(["fr", "de"])),
    ({"language": {"not in": ["en", "fr"]}}, FRAME.language == "de"),
    ({"language": None}, FRAME.language.isna()),
    ({"language": {"!=": None}}, FRAME.language.notna()),
    ({"new": True, "year": {"<": 2000}}, FRAME.new & (FRAME.year < 2000)),
    ({"added": {">=": datetime.datetime(2020, 6, 1)}}, FRAME.added >= "2020-06-01"),
    ({"added": {"<": "2020-02-01"}}, FRAME.added < "2020-02-01"),
    ({"id": {"not in": [0, 1, 2]}}, FRAME.id > 2),
    ({'odd "%s" name': 3}, FRAME.id % 7 == 3),
    ({"rare": 7}, FRAME.rare == 7),
    ({"rare": -1}, FRAME.rare == -1),
    ({}, FRAME.id >= 0),
]


@pytest.mark.parametrize("exact", [True, False])
def test_the_rows_that_numpy_would_keep(shared_store: Store, version: Version, exact: bool) -> None:
    live = shared_store.table("items")
    for where, keep in CASES:
        true = expected(keep, 10)
        for reads in (version, live):
            found = reads.nearest(VECTORS[0], 10, where=where, exact=exact)
            assert found.counts.tolist() == [len(true)], where
            assert found.short.tolist() == [len(true) < 10]
            hits = len(set(found.ids[0].tolist()) & set(true))
            assert hits == len(true) if exact else hits >= 0.9 * len(true), where


def test_an_expression_of_sqlalchemy(shared_store: Store, version: Version) -> None:
    live = shared_store.table("items")
    for reads in (version, live):
        c = reads.columns
        where = ((c.year >= 2000) & c.language.in_(["en", "de"])) | c.language.is_(None)
        keep = ((FRAME.year >= 2000) & FRAME.language.isin(["en", "de"])) | FRAME.language.isna()
        found = reads.nearest(VECTORS[0], 10, where=where, exact=True)
        assert found.ids[0].tolist() == expected(keep, 10)
        pattern = reads.nearest(VECTORS[0], 5, where=c.language.like("%r"), exact=True)
        assert pattern.ids[0].tolist() == expected(FRAME.language == "fr", 5)
    from sqlalchemy import column

    with pytest.raises(InvalidQuery, match="no attribute 'nothing' to filter by"):
        version.nearest(VECTORS[0], where=_column("nothing") == 1)
    with pytest.raises(InvalidQuery, match="true or false is needed"):
        version.nearest(VECTORS[0], where=version.columns.year + 1)
    with pytest.raises(InvalidQuery, match=r"^where: .*does not exist"):
        version.nearest(VECTORS[0], where=column("secret") == 1)


def _column(name: str) -> Any:
    from sqlalchemy import Column, Integer

    return Column(name, Integer)


def test_unsafe_text_reads_only(shared_store: Store, version: Version) -> None:
    for text in ("year > 2010 -- and so on", ("year > %(y)s", {"y": 2010})):
        found = version.nearest(VECTORS[0], 10, unsafe_where=text, exact=True)
        assert found.ids[0].tolist() == expected(FRAME.year > 2010, 10)
    many = version.nearest(VECTORS[:2500], 3, unsafe_where="year > 2010")
    assert many.ids.shape == (2500, 3)
    with shared_store.connection() as connection:
        connection.execute("CREATE TABLE canary (x int)")
        connection.execute(
            "CREATE FUNCTION strike() RETURNS bool LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO canary VALUES (1); RETURN true; END $$"
        )
    for text, why in (
        ("strike()", "read-only transaction"),
        ("true; DROP TABLE canary", "multiple commands|syntax error"),
        ("nothing > 1", 'column "nothing" does not exist'),
        ("year >", "syntax error"),
    ):
        with pytest.raises(InvalidQuery, match=why):
            version.nearest(VECTORS[0], unsafe_where=text)
    for bad in (5, ("year > 1",), ("year > 1", 2, 3), {"year": 2}):
        with pytest.raises(InvalidQuery, match="unsafe_where is SQL text"):
            version.nearest(VECTORS[0], unsafe_where=bad)
    with pytest.raises(InvalidQuery, match="not both"):
        version.nearest(VECTORS[0], where={}, unsafe_where="true")
    with shared_store.connection() as connection:
        assert connection.execute("SELECT count(*) FROM canary").fetchone() == (0,)


REFUSED: list[tuple[Any, str]] = [
    ({"nothing": 1}, "items@1 has no attribute 'nothing' to filter by: it has id, year"),
    ({"year; DROP TABLE x": 1}, "no attribute 'year; DROP TABLE x'"),
    ({7: 1}, "no attribute 7"),
    ({"year": {"~": 1}}, "operator '~': use ="),
    ({"year": {"> 0 OR true --": 1}}, "has the operator"),
    ({"year": "2000"}, "which is bigint, compares with '2000', a str"),
    ({"year": True}, "compares with True, a bool"),
    ({"year": float("nan")}, "nothing compares with nan"),
    ({"year": 2**63}, "beyond a bigint"),
    ({"year": {}}, "without a condition"),
    ({"year": {"in": 5}}, "in takes a list"),
    ({"year": {"in": "abc"}}, "in takes a list"),
    ({"year": {"<": None}}, "nothing is < None"),
    ({"year": [2000, None]}, "compares with None"),
    ({"year": {"=": {"=": 1}}}, "compares with"),
    ({"language": 5}, "which is text, compares with 5"),
    ({"language": "a\0b"}, "holds no text"),
    ({"language": "\ud800"}, "holds no text"),
    ({"new": {"<": True}}, "is true or false"),
    ({"added": "yesterday"}, "compares with 'yesterday'"),
    ([("year", 1)], "where is a list: give a mapping"),
    ("year > 1", "where is a str: give a mapping"),
    ({"year": [1] * 1_000_001}, "at most 1000000 are taken"),
    ({f"x{i}": 1 for i in range(3)}, "no attribute 'x0'"),
]


def test_what_cannot_be_is_one_sentence(version: Version) -> None:
    for where, why in REFUSED:
        with pytest.raises(InvalidQuery) as caught:
            version.nearest(VECTORS[0], where=where)
        assert why in str(caught.value), where
        assert len(str(caught.value)) < 500
    with pytest.raises(InvalidQuery, match="conditions: at most"):
        columns = {f"c{i}": "bigint" for i in range(MAX_CONDITIONS + 1)}
        conditions(dict.fromkeys(columns, 1), columns, "items@1")


def test_in_takes_many(version: Version) -> None:
    many = list(range(100_000))
    found = version.nearest(VECTORS[0], 5, where={"id": many}, exact=True)
    assert found.ids[0].tolist() == expected(FRAME.id >= 0, 5)


TYPED: list[tuple[str, dict[str, Any]]] = [
    ("year>=2000", {"year": {">=": 2000}}),
    ("year >= 2000", {"year": {">=": 2000}}),
    ("year<>2000", {"year": {"!=": 2000}}),
    ("price<9.5", {"price": {"<": 9.5}}),
    ("language=en", {"language": "en"}),
    ("language = 'en = <fr>'", {"language": "en = <fr>"}),
    ("language in en,fr", {"language": ["en", "fr"]}),
    ('language in ("a, b", c)', {"language": ["a, b", "c"]}),
    ("language not in en", {"language": {"not in": ["en"]}}),
    ("language is null", {"language": None}),
    ("language IS NOT NULL", {"language": {"!=": None}}),
    ("new=true", {"new": True}),
    ('"odd name"=3', {"odd name": 3}),
    ("added>=2020-06-01", {"added": {">=": "2020-06-01"}}),
    ("language=", {"language": ""}),
    ("language=1; DROP TABLE x; --", {"language": "1; DROP TABLE x; --"}),
]
COLUMNS = {
    "year": "bigint",
    "price": "double precision",
    "language": "text",
    "new": "boolean",
    "odd name": "bigint",
    "added": "timestamp without time zone",
}


@pytest.mark.parametrize(("typed", "meant"), TYPED)
def test_what_is_typed_in_a_shell(typed: str, meant: dict[str, Any]) -> None:
    assert parse([typed], COLUMNS, "t") == conditions(meant, COLUMNS, "t")


@pytest.mark.parametrize(
    "typed", ["", "year", ">=2000", "year is null 5", "year=abc", "new=maybe", "nothing=1", "= 1"]
)
def test_what_cannot_be_read(typed: str) -> None:
    with pytest.raises(InvalidQuery):
        parse([typed], COLUMNS, "t")


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates(),
    st.datetimes(), st.lists(st.one_of(st.integers(), st.text(), st.floats()), max_size=4),
    st.dictionaries(st.text(), st.integers(), max_size=2),
)  # fmt: skip
keys = st.one_of(st.sampled_from([*COLUMNS, "id"]), st.text(), st.integers())
wheres = st.dictionaries(
    keys,
    st.one_of(
        values,
        st.dictionaries(st.one_of(st.sampled_from(OPERATORS), st.text()), values, max_size=3),
    ),
    max_size=3,
)


@settings(max_examples=500, deadline=None)
@given(wheres)
def test_nothing_but_conditions_or_one_error(where: dict[Any, Any]) -> None:
    try:
        found = conditions(where, COLUMNS, "t")
    except InvalidQuery:
        return
    made = of_conditions(found)
    if made is None:
        return
    text = made.clause.as_string(None)
    for name in sorted({each.column for each in found}, key=len, reverse=True):
        text = text.replace(f'"{name}"', "C")
    for place in reversed(range(len(found))):
        text = text.replace(f"%(w{place})s", "V")
    allowed = {
        "C = V", "C <> V", "C < V", "C <= V", "C > V", "C >= V", "C = ANY (V)", "C <> ALL (V)",
        "C IS NULL", "C IS NOT NULL",
    }  # fmt: skip
    assert set(text.split(" AND ")) <= allowed


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["year", "price", "language"]),
        st.dictionaries(
            st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
            st.one_of(st.integers(1990, 2020), st.floats(0, 100), st.text(max_size=3)),
            min_size=1,
            max_size=2,
        ),
        max_size=2,
    )
)
def test_answers_are_those_of_numpy(version: Version, where: dict[str, Any]) -> None:
    compare = {
        "=": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
    try:
        found = version.nearest(VECTORS[1], 5, where=where, exact=True)
    except InvalidQuery:
        return
    keep = np.ones(ROWS, bool)
    for name, wanted in where.items():
        column = FRAME[name]
        present = column.notna()
        for op, value in wanted.items():
            if name == "language" and op not in {"=", "!="}:
                return  # by the database's collation
            keep &= (
                present & compare[op](column.where(present, ""), value)
                if name == ("language")
                else compare[op](column, value)
            )
    assert found.ids[0].tolist()[: found.counts[0]] == expected(keep, 5, 1)


def test_a_selective_filter_is_answered_exactly_and_a_wide_one_by_the_index(
    shared_store: Store, version: Version
) -> None:
    with psycopg.connect(shared_store.url, autocommit=True) as watching:

        def scans() -> tuple[int, int]:
            with shared_store.reading() as connection:
                connection.execute("SELECT pg_stat_force_next_flush()")
            watching.execute("SELECT pg_stat_clear_snapshot()")
            row = watching.execute(
                "SELECT (SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE"
                " '%hnsw%'), (SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'items_v1')"
            ).fetchone()
            assert row is not None
            return int(row[0]), int(row[1])

        before = scans()
        version.nearest(VECTORS[0], 10, where={"rare": 7})
        selective = scans()
        assert selective[0] == before[0] and selective[1] > before[1]
        version.nearest(VECTORS[0], 10, where={"year": {">=": 1991}})
        wide = scans()
        assert wide[0] > selective[0] and wide[1] == selective[1]


def test_a_version_dropped_while_it_is_asked(store: Store) -> None:
    version = store.create_table("items", metric="l2").load(FRAME, promote=True)
    store.table("items").load(FRAME, promote=True)
    store.table("items").drop(1)
    for ask in (
        lambda: version.nearest(VECTORS[0]),
        lambda: version.nearest(VECTORS[:3000]),
        lambda: version.nearest(VECTORS[0], where={"year": 2000}),
        lambda: version.nearest(VECTORS[0], unsafe_where="year = 2000"),
        lambda: version.similar([1]),
        lambda: version.lookup([1]),
    ):
        with pytest.raises(embstore.NotFound, match="items@1 is retired: its vectors were dropped"):
            ask()
