"""A filter of a search in SQL: of conditions, an expression of SQLAlchemy, or a user's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.types.numeric import Float8, Int8

from .. import wire
from ..errors import DatabaseFailed, EmbstoreError, InvalidQuery
from ..io import Io
from ..relations import SCHEMA
from .target import Target, column, failed
from .where import OPERATORS, Condition, conditions


@dataclass(frozen=True)
class Filter:
    """A clause with named placeholders, and their values.

    Attributes
    ----------
    key : hashable
        Filters of one key have one clause, whatever their values.
    unsafe : bool
        The clause is a user's own text: it runs where nothing can be changed.
    """

    key: Any
    clause: sql.Composable
    parameters: dict[str, Any]
    unsafe: bool = False


def made(where: object, unsafe_where: object, target: Target) -> Filter | None:
    """Make the filter that a call asks for, over the columns of a version.

    Raises
    ------
    InvalidQuery
    """
    if unsafe_where is not None:
        if where is not None:
            raise InvalidQuery("give where or unsafe_where, not both")
        return _of_text(unsafe_where)
    if where is None:
        return None
    if isinstance(where, Mapping):
        return of_conditions(conditions(where, target.columns, target.ref))
    if isinstance(where, tuple) and all(isinstance(each, Condition) for each in where):
        return of_conditions(where)
    if type(where).__module__.startswith("sqlalchemy."):
        return _of_expression(where, target)
    conditions(where, target.columns, target.ref)  # says what it may be
    raise AssertionError


def of_conditions(found: Sequence[Condition]) -> Filter | None:
    """Return the filter for checked conditions; None for no condition."""
    clauses: list[sql.Composable] = []
    parameters = {}
    for place, each in enumerate(found):
        if each.value is None:
            form = "{} IS NOT NULL" if each.op == "!=" else "{} IS NULL"
            clauses.append(sql.SQL(form).format(column(each.column)))
            continue
        name = f"w{place}"
        clauses.append(sql.SQL(_FORMS[each.op]).format(column(each.column), sql.Placeholder(name)))
        parameters[name] = _parameter(each.value)
    if not clauses:
        return None
    key = tuple((each.column, each.op, each.value is None) for each in found)
    return Filter(key, sql.SQL(" AND ").join(clauses), parameters)


_FORMS = {op: f"{{}} {op} {{}}" for op in OPERATORS} | {
    "!=": "{} <> {}",
    "in": "{} = ANY ({})",
    "not in": "{} <> ALL ({})",
}


def _parameter(value: Any) -> Any:
    """Return a bound parameter whose type does not depend on the value: one statement for all."""
    if isinstance(value, pa.Array):
        if pa.types.is_int64(value.type):
            return wire.bigint_array(np.asarray(value))
        listed = value.to_pylist()
        return [Float8(each) for each in listed] if pa.types.is_float64(value.type) else listed
    if isinstance(value, bool | str | date):
        return value
    return Int8(value) if isinstance(value, int) else Float8(value)


def _of_expression(where: Any, target: Target) -> Filter:
    """Compile an expression over the columns of ``version.columns``, or of ``table.columns``."""
    from sqlalchemy import Boolean, Column, ColumnElement
    from sqlalchemy import column as named
    from sqlalchemy.dialects.postgresql.psycopg import dialect
    from sqlalchemy.exc import CompileError
    from sqlalchemy.sql.visitors import replacement_traverse

    if not isinstance(where, ColumnElement) or not isinstance(where.type, Boolean):
        raise InvalidQuery(
            f"where is a {type(where).__name__}: an expression that is true or false is needed,"
            f" such as version.columns.year >= 2000"
        )

    def bare(element: Any, **_: Any) -> Any:
        if not isinstance(element, Column):
            return None
        if element.name not in {*target.columns, "embedding"}:
            have = ", ".join(target.columns)
            raise InvalidQuery(
                f"{target.ref} has no attribute {element.name!r} to filter by: it has {have}"
            )
        return named(element.name, element.type)

    try:
        compiled = replacement_traverse(where, {}, bare).compile(
            dialect=dialect(),  # type: ignore[no-untyped-call]
            compile_kwargs={"render_postcompile": True},
        )
    except CompileError as error:
        raise InvalidQuery(f"where cannot be written in SQL: {error}") from error
    text = str(compiled)
    return Filter(text, sql.SQL("({})").format(sql.SQL(text)), dict(compiled.params))


def columns_of(target: Target) -> Any:
    """Return a version's id and attributes as columns of SQLAlchemy."""
    from sqlalchemy import BigInteger, Column, Double, Text, table
    from sqlalchemy.dialects.postgresql import BOOLEAN, DATE, JSONB, TIMESTAMP

    kinds: dict[str, Any] = {
        "bigint": BigInteger(),
        "double precision": Double(),
        "boolean": BOOLEAN(),
        "text": Text(),
        "date": DATE(),
        "timestamp without time zone": TIMESTAMP(),
        "timestamp with time zone": TIMESTAMP(timezone=True),
        "jsonb": JSONB(),
    }
    own = [Column(name, kinds[kind]) for name, kind in target.columns.items()]
    return table(target.name, *own, schema=SCHEMA).columns


def _of_text(given: object) -> Filter:
    text, parameters = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
    if not isinstance(text, str) or not isinstance(parameters, Mapping):
        raise InvalidQuery(
            "unsafe_where is SQL text, or a pair of a text with %(name)s in it and a mapping of"
            ' the names: ("year > %(since)s", {"since": 2000})'
        )
    # On a line of its own: a comment in it must not hide what comes after.
    clause = sql.SQL("(\n{}\n)").format(sql.SQL(text))
    return Filter(text, clause, dict(parameters), unsafe=True)


async def estimated(io: Io, target: Target, chosen: Filter) -> float:
    """Return how many rows the planner expects the filter to let through."""
    statement = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} WHERE {}").format(
        target.relation, chosen.clause
    )
    try:
        found = await io.rows(statement, chosen.parameters)
    except psycopg.Error as error:
        raise await refused(io, target, chosen, error) from error
    return float(found[0][0][0]["Plan"]["Plan Rows"])


async def refused(io: Io, target: Target, chosen: Filter, error: psycopg.Error) -> EmbstoreError:
    """Return embstore's error for one that a statement with this filter met."""
    said = await failed(io, target, error)
    if isinstance(said, DatabaseFailed) and (error.sqlstate or "").startswith(
        ("22", "25006", "42")
    ):
        what = "unsafe_where" if chosen.unsafe else "where"
        return InvalidQuery(f"{what}: {error.diag.message_primary}")
    return said
