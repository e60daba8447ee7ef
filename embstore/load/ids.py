"""Ids: brought to the table's type, without ever changing what they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..readers.columns import INTEGER
from ..readers.sieve import BadRows, failing
from ..types import MAX_ID_BYTES, IdType

_NO_INTEGER = "no integer, and the ids are bigint"
_BEYOND = "beyond bigint (--id-type text loads all as text)"


def id_type_of(kind: pa.DataType) -> IdType:
    """Return the id type that suits an Arrow type."""
    return IdType.BIGINT if pa.types.is_integer(kind) else IdType.TEXT


def to_id_type(ids: pa.Array, wanted: IdType) -> pa.Array:
    """Return the ids as int64 or string.

    Raises
    ------
    BadRows
        Of ids that are null, empty, too long, hold NUL, are no valid UTF-8, or (for bigint) are no
        integers.
    """
    if ids.null_count:
        raise _bad(pc.is_null(ids), "the id is missing")
    if pa.types.is_integer(ids.type):
        return ids.cast(pa.int64()) if wanted is IdType.BIGINT else ids.cast(pa.string())
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid:
        bad = failing(ids, lambda part: part.validate(full=True))
        raise BadRows(bad, "the id is not valid UTF-8", None, "id") from None
    if wanted is IdType.BIGINT:
        whole = pc.match_substring_regex(ids, INTEGER)
        if not pc.all(whole).as_py():
            raise _bad(pc.invert(whole), lambda row: f"id {ids[row].as_py()!r} is {_NO_INTEGER}")
        try:
            return ids.cast(pa.int64())
        except pa.ArrowInvalid:
            bad = failing(ids, lambda part: part.cast(pa.int64()))
            raise BadRows(
                bad, lambda row: f"id {ids[row].as_py()} is {_BEYOND}", None, "id"
            ) from None
    lengths = pc.binary_length(ids)
    limits = pc.min_max(lengths).as_py() if len(ids) else {"min": 1, "max": 1}
    if limits["min"] == 0:
        raise _bad(pc.equal(lengths, 0), "the id is empty")
    if limits["max"] > MAX_ID_BYTES:
        raise _bad(
            pc.greater(lengths, MAX_ID_BYTES),
            lambda row: f"the id is {lengths[row]} bytes long, the limit is {MAX_ID_BYTES}",
        )
    nul = pc.match_substring(ids, "\0")
    if pc.any(nul).as_py():
        raise _bad(nul, "the id holds the character NUL, which Postgres cannot store")
    return ids


def _bad(mask: pa.BooleanArray, problem: str | Callable[[int], str]) -> BadRows:
    return BadRows(np.flatnonzero(mask.to_numpy(zero_copy_only=False)), problem, None, "id")
