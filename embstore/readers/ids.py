"""Ids from elsewhere: an array, a vocabulary, the row numbers, or a file of them.

A file is .npy, a table with an id column, a JSON vocabulary or list, or text with one id a line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import BadInput, NotFound
from .base import ID, Ids, Picked, RowNumbers
from .columns import as_integers, beyond_bigint
from .layout import check_id_type, listed
from .places import shown
from .source import File, reading
from .tensors import as_numpy, is_tensor

# A text that is called otherwise has an id a line, whatever it looks like.
_TABLES = {".csv", ".jsonl", ".ndjson", ".json"}
_TABS = {".tsv", ".tab"}
_HELP = "ids are integers or text, one per vector"


def outside_ids(ids: object, names: Sequence[str], name: str = "") -> Ids | None:
    """Return ids given apart from the source; None when they are inside it.

    Parameters
    ----------
    ids : object
        What the user gave; a str that is one of ``names`` is inside. A mapping is a vocabulary:
        its values are the row numbers from 0. ``"row-number"`` counts the rows.
    names : sequence of str
        What the source, which messages call ``name``, has inside.

    Raises
    ------
    BadInput, NotFound
    """
    if ids is None or (isinstance(ids, str) and ids in names):
        return None
    if isinstance(ids, Picked):
        return ids
    if isinstance(ids, Mapping):
        return vocabulary(ids, "ids")
    if not isinstance(ids, str | os.PathLike):
        return id_array(ids, "ids")
    if ids == RowNumbers.name:
        return RowNumbers()
    try:
        return read_ids(ids)
    except NotFound as error:
        if not names:
            raise
        raise BadInput(
            f"{name}: {shown(ids)!r} is neither a file of ids nor one of {listed(names)}",
            source=name,
            column="id",
        ) from error


def id_array(ids: Any, name: str) -> pa.Array:
    """Return any sequence of ids as an int64 or string array.

    Raises
    ------
    BadInput
        When they are of another type, or beyond bigint.
    """
    try:
        array = _as_arrow(ids)
    except BadInput:
        raise
    except Exception as error:  # an object of the user's, which may raise anything
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{name}: these cannot be ids ({reason}); {_HELP}", source=name) from error
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return array.cast(pa.int64())
    check_id_type(array.type, name, "id")
    if not pa.types.is_integer(array.type):
        return array.cast(pa.string())
    if len(large := beyond_bigint(array)):
        row = int(large[0])
        raise BadInput(
            f"{name} row {row + 1}: id {array[row].as_py()} is beyond bigint; load the ids as text",
            source=name,
            row=row + 1,
            id=array[row].as_py(),
            column="id",
        )
    return array.cast(pa.int64())


def vocabulary(rows: Mapping[Any, Any], name: str) -> Picked:
    """Return the keys of a mapping of id to row number, in the order of the rows.

    Raises
    ------
    BadInput
        When the values are no row numbers, or one of them has two ids.
    """
    numbers = np.asarray(list(rows.values()))
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or (numbers < 0).any():
        raise BadInput(f"{name}: a vocabulary gives each id a row number from 0", source=name)
    order = np.argsort(numbers, kind="stable")
    keys, numbers = list(rows), numbers[order].astype(np.int64)
    twice = np.flatnonzero(numbers[1:] == numbers[:-1])
    if len(twice):
        first, second = keys[order[twice[0]]], keys[order[twice[0] + 1]]
        raise BadInput(
            f"{name}: the vocabulary gives row {numbers[twice[0]]} (from 0) two ids, {first!r} and"
            f" {second!r}",
            source=name,
            id=second,
        )
    return Picked(id_array([keys[i] for i in order], name), numbers)


def _as_arrow(ids: Any) -> pa.Array:
    if isinstance(ids, range):
        ids = np.arange(ids.start, ids.stop, ids.step, dtype=np.int64)
    if is_tensor(ids):
        ids = as_numpy(ids)
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1:
            raise BadInput(f"the ids have shape {ids.shape}: give them in one dimension")
        ids = ids.astype(ids.dtype.newbyteorder("="), copy=False)
        if ids.dtype.kind == "S":
            ids = np.char.decode(ids, "utf-8")
        if ids.dtype.kind == "U":
            ids = ids.astype(object)
    elif hasattr(ids, "__arrow_c_stream__"):
        ids = pa.chunked_array(ids)
    elif not isinstance(ids, pa.Array):
        ids = list(ids)
    array = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids)
    if isinstance(array, pa.ChunkedArray):
        return pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array


def read_ids(given: str | os.PathLike[str]) -> Ids:
    """Read a file of ids: .npy, a table, a JSON vocabulary or list, or text with an id a line.

    Raises
    ------
    BadInput, NotFound
    """
    from . import read_attributes
    from .files.npy import read_ids as read_npy_ids

    file = File.find(given)
    told = _told(file)
    if "npy" in told:
        with reading(file.name, "a .npy array of ids"):
            ids: Ids = id_array(read_npy_ids(file), file.name)
    elif (listed := _json(file)) is not None:
        ids = listed
    elif _is_table(file, told):
        ids = id_array(read_attributes(given).column(0), file.name)
    else:
        with reading(file.name, "ids, one a line"):
            ids = _lines(file)
    file.check_unchanged()
    return ids


def read_id_table(given: object) -> pa.Table | None:
    """Read a table of ids and more, ids first; None if these are other ids, or a file of others.

    Raises
    ------
    BadInput, NotFound
    """
    from . import read_attributes

    if not isinstance(given, str | os.PathLike) or given == RowNumbers.name:
        return None
    file = File.find(given)
    if not _is_table(file, _told(file)) or _json(file) is not None:
        return None
    return read_attributes(given)


def _told(file: File) -> list[str]:
    """Return the names of the formats that the content may be of."""
    from .registry import formats

    head = file.head()
    return [each.name for each in formats() if each.sniff and each.sniff(head, file)]


def _is_table(file: File, told: Sequence[str]) -> bool:
    if file.ending in _TABS:
        # One column of TensorBoard's projector has no header.
        line = file.head().split(b"\n")[0].strip()
        return b"\t" in line or line == ID.encode()
    return file.ending in _TABLES or bool({"parquet", "arrow"} & set(told))


def _json(file: File) -> Ids | None:
    """Read a list of ids, or a vocabulary; None if the file is called otherwise or is lines."""
    if file.ending != ".json":
        return None
    with ExitStack() as held:
        try:
            found = json.loads(file.seekable(held).read().decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None  # JSON lines
    if isinstance(found, list):
        return id_array(found, file.name)
    if isinstance(found, dict) and all(type(each) is int for each in found.values()):
        return vocabulary(found, file.name)
    return None


def _lines(file: File) -> pa.Array:
    with ExitStack() as held:
        text = file.seekable(held).read().decode("utf-8-sig").replace("\r\n", "\n")
    if "\0" in text:
        raise BadInput(
            f"{file.name} holds no text, so no ids: is it another file?", source=file.name
        )
    texts = pa.array(text.removesuffix("\n").split("\n"), pa.string())
    whole = as_integers(texts)
    return texts if whole is None else whole
