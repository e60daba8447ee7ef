"""Attributes: which SQL type a column gets, and a side table joined on id."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import BadInput
from ..readers.base import ID
from ..readers.sieve import BadRows, Place, Sieve, failing
from ..relations import MAX_IDENTIFIER_BYTES
from ..types import Attribute, IdType
from .ids import to_id_type

RESERVED = {"id", "embedding", "version"}

# Few types, so that the same column keeps its type from one training to the next: an int32 of
# today and an int64 of tomorrow are both bigint.
STORED = {
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "date": pa.date32(),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "jsonb": pa.string(),
}


def sql_type(kind: pa.DataType) -> str | None:
    """Return the SQL type for an Arrow type; None when there is none."""
    is_ = pa.types
    if is_.is_integer(kind):
        return "bigint"
    if is_.is_floating(kind) or is_.is_decimal(kind):
        return "double precision"
    if is_.is_boolean(kind):
        return "boolean"
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_null(kind):
        return "text"
    if is_.is_date(kind):
        return "date"
    if is_.is_timestamp(kind):
        try:
            return f"timestamp {'with' if kind.tz else 'without'} time zone"
        except UnicodeDecodeError:  # a damaged file's
            return None
    if is_.is_nested(kind) or isinstance(kind, pa.JsonType):
        return "jsonb"
    return None


def columns_of(schema: pa.Schema, source: str) -> list[Attribute]:
    """Return the attributes that the fields of ``schema`` make.

    Raises
    ------
    BadInput
        Naming the column that cannot be stored.
    """
    found: dict[str, Attribute] = {}
    for each in schema:
        column, kind = each.name, sql_type(each.type)
        if not column or "\0" in column or len(column.encode()) > MAX_IDENTIFIER_BYTES:
            problem = f"its name must be 1 to {MAX_IDENTIFIER_BYTES} bytes long"
        elif column in RESERVED:
            problem = "that name is embstore's own"
        elif column in found:
            problem = "it is there twice"
        elif kind is None:
            problem = f"type {each.type} has no SQL type here"
        else:
            found[column] = Attribute(column, kind)
            continue
        raise BadInput(
            f"{source}: column {column!r} cannot become an attribute: {problem}; rename, convert"
            " or leave it out",
            source=source,
            column=column,
        )
    return list(found.values())


def to_stored(array: pa.Array, attribute: Attribute, ids: pa.Array) -> pa.Array:
    """Convert a column to the Arrow type that is stored for its SQL type.

    Raises
    ------
    BadRows
        Of values that it cannot hold.
    """
    try:
        return _stored(array, attribute)
    except pa.ArrowInvalid:

        def problem(row: int) -> str:
            try:
                _stored(array.slice(row, 1), attribute)
            except pa.ArrowInvalid as error:
                return f"column {attribute.name!r} cannot be stored as {attribute.type} ({error})"
            raise AssertionError

        bad = failing(array, lambda part: _stored(part, attribute))
        raise BadRows(bad, problem, ids, attribute.name) from None


def _stored(array: pa.Array, attribute: Attribute) -> pa.Array:
    if isinstance(array.type, pa.JsonType):
        array = array.storage
        for each in array.to_pylist():
            _check_json(each)
    elif attribute.type == "jsonb" and not pa.types.is_string(array.type):
        # Nested columns are rare and small beside the vectors; json does them row by row.
        try:
            array = pa.array([_json(each) for each in array.to_pylist()], pa.string())
        except UnicodeError:
            raise pa.ArrowInvalid("a text is not valid UTF-8") from None
    target = STORED[attribute.type]
    stored = array if array.type == target else array.cast(target, safe=False)
    if pa.types.is_unsigned_integer(array.type):
        stored = array.cast(target)  # safe: refuses what bigint cannot hold
    if attribute.type in {"text", "jsonb"}:
        stored.validate(full=True)
        if pc.any(pc.match_substring(stored, "\0")).as_py():
            raise pa.ArrowInvalid("a text holds the character NUL")
    return stored


def _json(value: object) -> str | None:
    if value is None:
        return None
    try:
        text = json.dumps(value, default=str, allow_nan=False)
    except ValueError:
        raise pa.ArrowInvalid("JSON has neither NaN nor infinity") from None
    _check_nul(text)
    return text


def _check_json(text: str | None) -> None:
    """Refuse what Postgres would, which does not say in which row."""
    if text is None:
        return
    try:
        json.dumps(json.loads(text), allow_nan=False)
    except (ValueError, RecursionError):
        raise pa.ArrowInvalid("it is no JSON") from None
    _check_nul(text)


def _check_nul(text: str) -> None:
    # As json writes it, and not a backslash with text behind it.
    if re.search(r"(?<!\\)(\\\\)*\\u0000", text):
        raise pa.ArrowInvalid("a text holds the character NUL")


class SideTable:
    """Attributes from a table of their own, joined on id.

    Held in memory once; each batch finds its rows by one hash join.
    """

    def __init__(self, table: pa.Table, source: str, id_type: IdType) -> None:
        self.source = source
        ids = table.column(ID).combine_chunks()
        if isinstance(ids, pa.ChunkedArray):
            ids = pa.concat_arrays(ids.chunks) if ids.num_chunks else pa.array([], ids.type)
        self._ids = Sieve().sift(
            pa.record_batch([ids], [ID]),
            Place(source),
            0,
            lambda b: to_id_type(b.column(0), id_type),
        )
        counted = pc.value_counts(self._ids)
        again = counted.filter(pc.greater(counted.field("counts"), 1))
        if len(again):
            value = again.field("values")[0].as_py()
            raise BadInput(
                f"{source}: id {value!r} is there more than once; attributes need one row per id",
                source=source,
                id=value,
            )
        self._rest = table.drop_columns([ID]).combine_chunks()
        self.attributes = columns_of(self._rest.schema, source)
        self.matched = 0

    def join(self, ids: pa.Array) -> list[pa.Array]:
        """Return this table's columns for ``ids``, null where an id is not in it."""
        places = pc.index_in(ids, value_set=self._ids)
        self.matched += len(ids) - places.null_count
        rows = self._rest.take(places)
        return [_single(rows.column(i)) for i in range(rows.num_columns)]


def _single(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def agree(own: Sequence[Attribute], known: Sequence[Attribute], table: str, source: str) -> None:
    """Refuse an attribute whose type differs from what the table's view has.

    Raises
    ------
    BadInput
    """
    types = {each.name: each.type for each in known}
    for each in own:
        there = types.get(each.name, each.type)
        if there != each.type:
            raise BadInput(
                f"{source}: column {each.name!r} would be {each.type}, but it is {there} in the"
                f" earlier versions of {table}; convert or rename it",
                source=source,
                column=each.name,
            )
