"""Ids: brought to the table's type, without ever changing what they say."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import BadInput
from ..types import MAX_ID_BYTES, IdType

# What int64 prints: no sign but minus, no leading zero, so that "007" never becomes 7.
_CANONICAL = r"^(0|-?[1-9][0-9]{0,18})$"


def id_type_of(kind: pa.DataType) -> IdType:
    """Return the id type that suits an Arrow type."""
    return IdType.BIGINT if pa.types.is_integer(kind) else IdType.TEXT


def to_id_type(ids: pa.Array, wanted: IdType, source: str, unit: str, first: int) -> pa.Array:
    """Return the ids as int64 or string; ``first`` is the number of the first row.

    Raises
    ------
    BadInput
        Naming the first row whose id is null, empty, too long, holds NUL, is no valid UTF-8, or
        (for bigint) is no integer.
    """

    def refuse(row: int, problem: str) -> BadInput:
        place = f"{source} {unit} {first + row}"
        return BadInput(
            f"{place}: {problem}; mend or remove the row and load again",
            source=source,
            row=first + row,
            column="id",
        )

    if ids.null_count:
        raise refuse(_first(pc.is_null(ids)), "the id is missing")
    if pa.types.is_integer(ids.type):
        return ids.cast(pa.int64()) if wanted is IdType.BIGINT else ids.cast(pa.string())
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid as error:
        bad = (i for i in range(len(ids)) if not _decodes(ids[i]))
        raise refuse(next(bad, 0), "the id is not valid UTF-8") from error
    if wanted is IdType.BIGINT:
        whole = pc.match_substring_regex(ids, _CANONICAL)
        if not pc.all(whole).as_py():
            row = _first(pc.invert(whole))
            raise refuse(row, f"id {ids[row].as_py()!r} is no integer, and the ids are bigint")
        try:
            return ids.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise BadInput(
                f"{source}: an id lies outside bigint ({error}); load with id_type='text'",
                source=source,
                column="id",
            ) from error
    lengths = pc.binary_length(ids)
    limits = pc.min_max(lengths).as_py() if len(ids) else {"min": 1, "max": 1}
    if limits["min"] == 0:
        raise refuse(_first(pc.equal(lengths, 0)), "the id is empty")
    if limits["max"] > MAX_ID_BYTES:
        row = _first(pc.greater(lengths, MAX_ID_BYTES))
        raise refuse(
            row, f"the id is {lengths[row].as_py()} bytes long, the limit is {MAX_ID_BYTES}"
        )
    nul = pc.match_substring(ids, "\0")
    if pc.any(nul).as_py():
        raise refuse(_first(nul), "the id holds the character NUL, which Postgres cannot store")
    return ids


def _first(mask: pa.BooleanArray) -> int:
    return int(pc.index(mask, True).as_py())


def _decodes(scalar: pa.Scalar) -> bool:
    try:
        scalar.as_py()
    except UnicodeDecodeError:
        return False
    return True
