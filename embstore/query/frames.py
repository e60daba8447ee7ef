"""Columns of frames: pandas, polars, Arrow tables and batches, mappings of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import InvalidQuery
from ..types import IdType
from .target import is_text

_KINDS = "frame of pandas or polars, an Arrow table, or a mapping of names to arrays"


def column(frame: Any, name: Any) -> Any:
    """Return one column of a frame; of two with one name the first.

    Raises
    ------
    InvalidQuery
        Listing the columns.
    """
    if isinstance(frame, Mapping):
        names = list(frame)
    else:
        names = list(getattr(frame, "column_names", getattr(frame, "columns", ())))
    if not names or not hasattr(frame, "__getitem__"):
        raise InvalidQuery(f"{type(frame).__name__} is no {_KINDS}")
    if name not in names:
        listed = ", ".join(map(repr, names))
        raise InvalidQuery(f"the frame has no column {name!r}: it has {listed}")
    try:
        found = frame[name]
    except TypeError as error:  # a lazy frame of polars
        raise InvalidQuery(f"{type(frame).__name__} is no {_KINDS}: collect it first") from error
    return found.iloc[:, 0] if getattr(found, "ndim", 1) == 2 and hasattr(found, "iloc") else found


def ids(values: Any, id_type: IdType, of: str, name: Any) -> pa.Array:
    """Return a column of ids as an int64 or string array, null where there is none.

    Raises
    ------
    InvalidQuery
        When they cannot be ids of ``of``.
    """
    wanted = pa.string() if id_type is IdType.TEXT else pa.int64()
    try:
        found = _array(values)
        if pa.types.is_dictionary(found.type):
            found = found.dictionary_decode()
        if pa.types.is_null(found.type):
            return found.cast(wanted)
        # Integers with gaps are floats in pandas and numpy: whole ones, or they are no ids.
        numbers = pa.types.is_integer(found.type) or pa.types.is_floating(found.type)
        if numbers is (id_type is IdType.BIGINT) and (numbers or is_text(found.type)):
            return found.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidQuery(f"column {name!r} does not hold ids of {of}: {error}") from error
    raise InvalidQuery(f"column {name!r} holds {found.type}, and {of} has {id_type} ids")


def times(values: Any, name: Any) -> NDArray[np.int64]:
    """Return a column of times as microseconds since 1970 in UTC; those without a zone are in UTC.

    Raises
    ------
    InvalidQuery
        When they are no times, or one is missing.
    """
    try:
        found = _array(values)
        if pa.types.is_timestamp(found.type):
            # Times finer than the server's are cut off.
            found = found.cast(pa.timestamp("us", found.type.tz), safe=False)
        elif pa.types.is_date(found.type):
            found = found.cast(pa.timestamp("us"))
        elif is_text(found.type):
            found = _parsed(found)
        else:
            raise InvalidQuery(
                f"column {name!r} is of type {found.type}, not of times: as in"
                " pandas.to_datetime(..., utc=True)"
            )
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidQuery(f"column {name!r} does not hold times: {error}") from error
    if found.null_count:
        row = found.is_null().to_numpy(zero_copy_only=False).argmax()
        raise InvalidQuery(f"column {name!r}, row {row + 1}, has no time")
    return np.asarray(found.cast(pa.int64()))


def _array(values: Any) -> pa.Array:
    found = values if isinstance(values, pa.ChunkedArray) else pa.array(values, from_pandas=True)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _parsed(texts: pa.Array) -> pa.Array:
    try:
        return texts.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:  # without a zone
        return texts.cast(pa.timestamp("us"))
