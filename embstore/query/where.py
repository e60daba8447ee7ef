"""Filters: which rows may be answers, as conditions that are data and never SQL.

::

    {"year": 2000}                          year = 2000
    {"year": {">=": 1990, "<": 2000}}       1990 <= year < 2000
    {"language": ["en", "fr"]}              one of these
    {"language": {"not in": ["en"]}}        none of these
    {"author": None}                        is missing; {"author": {"!=": None}} is there

All conditions must hold. As in SQL, a missing value fulfils none but ``None``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import InvalidQuery
from ..load.attributes import STORED

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in", "not in")
MAX_CONDITIONS = 100
MAX_VALUES = 1_000_000
_ORDER = {"<", "<=", ">", ">="}


@dataclass(frozen=True, slots=True)
class Condition:
    """``column op value``, checked against the column's type.

    Attributes
    ----------
    column : str
        An attribute, or ``id``.
    op : str
        One of ``OPERATORS``.
    value : int, float, bool, str, date, datetime or None; for in and not in an Arrow array
        None goes with = and !=: is missing, is there.
    """

    column: str
    op: str
    value: Any


def conditions(where: object, columns: Mapping[str, str], ref: str) -> tuple[Condition, ...]:
    """Check a mapping against the columns (name to SQL type) that ``ref`` has.

    Raises
    ------
    InvalidQuery
        Naming the column, operator or value at fault.
    """
    if not isinstance(where, Mapping):
        raise InvalidQuery(
            f"where is a {type(where).__name__}: give a mapping such as"
            ' {"year": {">=": 2000}}, or an expression over the columns of'
            f" {ref}"
        )
    found = []
    for column, wanted in where.items():
        each = wanted if isinstance(wanted, Mapping) else {_implied(wanted): wanted}
        if not each:
            raise InvalidQuery(f"where names {column!r} without a condition")
        found += [_condition(column, op, value, columns, ref) for op, value in each.items()]
    if len(found) > MAX_CONDITIONS:
        raise InvalidQuery(f"where has {len(found)} conditions: at most {MAX_CONDITIONS} are taken")
    return tuple(found)


_WRITTEN = re.compile(
    r"""\s* (?: "(?P<quoted> [^"]+ )" | (?P<name> [^\s=<>!"]+ ) ) \s*
        (?P<op> <= | >= | != | <> | == | = | < | > | \b(?:not\s+)?in\b | \bis\s+(?:not\s+)?null\b )
        \s* (?P<value> .* ) \s* $""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_SPELLED = {"==": "=", "<>": "!="}


def parse(written: Sequence[str], columns: Mapping[str, str], ref: str) -> tuple[Condition, ...]:
    """Read conditions as they are typed in a shell: ``year>=2000``, ``language in en,fr``.

    Also ``author is null`` and ``author is not null``. A value is read by its column's type; one
    with commas is put in double quotes within a list.

    Raises
    ------
    InvalidQuery
    """
    found = []
    for text in written:
        match = _WRITTEN.match(text)
        if match is None:
            raise InvalidQuery(
                f"the condition {text!r} cannot be read: write COLUMN OP VALUE, such as"
                " 'year>=2000', 'language in en,fr' or 'author is null'"
            )
        column = match["quoted"] or match["name"]
        op = " ".join(match["op"].lower().split())
        op = _SPELLED.get(op, op)
        value: Any = match["value"]
        if op.endswith("null"):
            if value:
                raise InvalidQuery(f"the condition {text!r} goes on after null")
            op, value = ("!=" if "not" in op else "="), None
        elif op.endswith("in"):
            value = [_read(each, column, columns) for each in _listed(value)]
        else:
            value = _read(value, column, columns)
        found.append(_condition(column, op, value, columns, ref))
    if len(found) > MAX_CONDITIONS:
        raise InvalidQuery(f"{len(found)} conditions: at most {MAX_CONDITIONS} are taken")
    return tuple(found)


def _implied(value: object) -> str:
    many = isinstance(value, list | tuple | set | frozenset | np.ndarray | pa.Array)
    return "in" if many else "="


def _condition(
    column: object, op: object, value: object, columns: Mapping[str, str], ref: str
) -> Condition:
    if not isinstance(column, str) or column not in columns:
        have = ", ".join(columns)
        raise InvalidQuery(f"{ref} has no attribute {column!r} to filter by: it has {have}")
    op = _SPELLED.get(op, op) if isinstance(op, str) else op
    if op not in OPERATORS:
        raise InvalidQuery(
            f"the filter on {column!r} has the operator {op!r}: use {', '.join(OPERATORS)}"
        )
    kind = columns[column]
    if value is None:
        if op not in {"=", "!="}:
            raise InvalidQuery(f"the filter on {column!r}: nothing is {op} None; use = or !=")
        return Condition(column, op, None)
    if kind == "jsonb":
        raise InvalidQuery(f"{column!r} holds JSON: only None can be asked of it")
    if kind == "boolean" and op in _ORDER:
        raise InvalidQuery(f"{column!r} is true or false: use = or !=")
    if op in {"in", "not in"}:
        return Condition(column, op, _several(column, value, kind))
    return Condition(column, op, _typed(column, value, kind))


def _several(column: str, values: Any, kind: str) -> pa.Array:
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise InvalidQuery(f"the filter on {column!r}: in takes a list, not {values!r:.100}")
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if isinstance(values, pa.Array):
        listed = values.to_pylist()
    if len(listed) > MAX_VALUES:
        raise InvalidQuery(
            f"the filter on {column!r} lists {len(listed)} values: at most {MAX_VALUES} are taken"
        )
    typed = [_typed(column, each, kind) for each in listed]
    if kind == "bigint" and any(isinstance(each, float) for each in typed):
        # A fraction equals no integer, nor does what is beyond a bigint.
        typed = [int(each) for each in typed if each == int(each) and -(2**63) <= each < 2**63]
    return pa.array(typed, STORED[kind])


def _typed(column: str, value: Any, kind: str) -> Any:
    """Return the value in its column's type."""
    if isinstance(value, np.generic):
        value = value.item()
    if kind in {"bigint", "double precision"}:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidQuery(f"the filter on {column!r}: nothing compares with {value}")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise InvalidQuery(f"the filter on {column!r}: {value} is beyond a bigint")
            return value
    elif kind == "boolean":
        if isinstance(value, bool):
            return value
    elif kind == "text":
        if isinstance(value, str):
            return _storable(column, value)
    elif (moment := _moment(value, kind)) is not None:
        return moment
    raise InvalidQuery(
        f"the filter on {column!r}, which is {kind}, compares with {value!r:.100}, a"
        f" {type(value).__name__}"
    )


def _storable(column: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        pass
    else:
        if "\0" not in value:
            return value
    raise InvalidQuery(f"the filter on {column!r}: Postgres holds no text such as {value!r:.100}")


def _moment(value: object, kind: str) -> date | datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, date):
        return None
    if kind == "date":
        if isinstance(value, datetime):
            return value.date() if value.time() == datetime.min.time() else None
        return value
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    zoned = kind == "timestamp with time zone"
    if zoned and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value if zoned or value.tzinfo is None else None


def _listed(text: str) -> list[str]:
    import csv

    inner = text.strip()
    if inner[:1] + inner[-1:] in {"()", "[]"}:
        inner = inner[1:-1]
    return next(csv.reader([inner], skipinitialspace=True), [])


def _read(text: str, column: str, columns: Mapping[str, str]) -> Any:
    """Return what was typed as a value of its column; what cannot be is refused later."""
    kind, text = columns.get(column), text.strip()
    if text[:1] in {'"', "'"} and text[-1:] == text[:1] and len(text) > 1:
        text = text[1:-1]
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in {"bigint", "double precision"}:
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text
