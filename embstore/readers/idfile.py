"""Ids from elsewhere: an array, or a file (.npy, one id a line, or a table's column)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import BadInput
from .columns import MAX_BIGINT, check_id_type
from .npy import read_ids as read_npy_ids
from .source import File

_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"


def outside_ids(ids: object, names: Sequence[str]) -> pa.Array | None:
    """Return ids given apart from the source; None when they are inside it."""
    if ids is None or (isinstance(ids, str) and ids in names):
        return None
    if isinstance(ids, str) and not os.path.exists(ids):
        raise BadInput(
            f"{ids!r} is neither a file of ids nor one of {', '.join(map(repr, names)) or 'none'}",
            column="id",
        )
    if isinstance(ids, str | os.PathLike):
        return read_ids(ids)
    return id_array(ids, "ids")


def id_array(ids: Any, name: str) -> pa.Array:
    """Return any sequence of ids as an int64 or string array.

    Raises
    ------
    BadInput
        When they are of another type, or beyond bigint.
    """
    try:
        if isinstance(ids, np.ndarray):
            ids = ids.ravel()
            if ids.dtype.kind == "S":
                ids = np.char.decode(ids, "utf-8")
            if ids.dtype.kind == "U":
                ids = ids.astype(object)
        elif not isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = ids if hasattr(ids, "__arrow_array__") else list(ids)
        array = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids)
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadInput(
            f"{name}: these cannot be ids, which are integers or text ({error})", source=name
        ) from error
    check_id_type(array.type, name, "id")
    if not pa.types.is_integer(array.type):
        return array.cast(pa.string())
    if array.type == pa.uint64() and len(array):
        large = pc.greater(array, pa.scalar(MAX_BIGINT, pa.uint64()))
        if pc.any(large).as_py():
            row = pc.index(large, True).as_py()
            raise BadInput(
                f"{name} row {row + 1}: id {array[row].as_py()} is beyond bigint; load the ids as"
                " text",
                source=name,
                row=row + 1,
                id=array[row].as_py(),
            )
    return array.cast(pa.int64())


def read_ids(given: str | os.PathLike[str]) -> pa.Array:
    """Read a file of ids: .npy, a table with an id column, or text with one id a line."""
    from . import detect, read_attributes

    file = File.find(given)
    format = detect(file, text_default="lines")
    if format == "npy":
        ids = id_array(read_npy_ids(file), file.name)
    elif format in {"lines", "word2vec"}:
        ids = _lines(file)
    else:
        ids = read_attributes(given).column(0)
        ids = pa.concat_arrays(ids.chunks) if ids.num_chunks else pa.array([], ids.type)
    file.check_unchanged()
    return ids


def _lines(file: File) -> pa.Array:
    with file.reading("a list of ids"), file.seekable() as stream:
        lines = stream.read().decode("utf-8-sig").split("\n")
        if lines and not lines[-1]:
            lines.pop()
        texts = pa.array([line.removesuffix("\r") for line in lines], pa.string())
        whole = pc.all(pc.match_substring_regex(texts, _INTEGER)).as_py()
        return texts.cast(pa.int64()) if len(texts) and whole else texts
