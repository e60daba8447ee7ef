"""Objects: arrays, frames, Arrow tables and streams, mappings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import BadInput
from .base import Opened, batch_rows
from .columns import count_mismatch
from .idfile import id_array, outside_ids
from .npy import Header, component_type, matrix_schema, to_batches
from .npz import choose, named_batches, named_schema
from .tables import opened_table


@contextmanager
def open_object(source: Any, ids: object, vectors: str | None) -> Iterator[Opened]:
    """Open something that is in memory, or streams from another library.

    Raises
    ------
    BadInput
        When it is nothing that holds vectors.
    """
    if isinstance(source, Mapping):
        yield _mapping(source, ids, vectors)
    elif isinstance(source, np.ndarray):
        yield _array(source, ids)
    elif hasattr(source, "__arrow_c_stream__") or isinstance(source, pa.RecordBatch):
        yield _stream(source, ids, vectors)
    else:
        raise BadInput(
            f"{type(source).__name__} cannot be loaded: give a path, an array with ids=, a frame,"
            " an Arrow table or stream, or a mapping of id to vector"
        )


def to_table(source: Any, name: str) -> pa.Table:
    """Return a frame or Arrow table whole, for attributes.

    Raises
    ------
    BadInput
    """
    if isinstance(source, Mapping):
        return pa.table(dict(source))
    if not hasattr(source, "__arrow_c_stream__"):
        raise BadInput(f"{name}: {type(source).__name__} is no table; give a frame or a path")
    return pa.table(source)


def _stream(source: Any, ids: object, vectors: str | None) -> Opened:
    name = type(source).__name__
    if getattr(getattr(source, "index", None), "name", None) and hasattr(source, "reset_index"):
        source = source.reset_index()  # a pandas frame whose named index holds the ids
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    rows = source.num_rows if isinstance(source, pa.Table) else None
    reader = pa.RecordBatchReader.from_stream(source)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except pa.ArrowException as error:
            raise BadInput(f"{name}: its stream broke off: {error}", source=name) from error

    return opened_table(
        name, reader.schema, batches(), ids, vectors, rows=rows, provenance={"format": name}
    )


def _array(source: np.ndarray[Any, Any], ids: object) -> Opened:
    if source.ndim != 2 or source.dtype.kind not in "fiu" or source.dtype.itemsize > 8:
        raise BadInput(
            f"the array has shape {source.shape} of {source.dtype}: vectors are a two-dimensional"
            " array of numbers, a row each"
        )
    if not len(source):
        raise BadInput("the array holds no rows: there is nothing to load")
    keys = outside_ids(ids, ())
    if keys is None:
        raise BadInput("an array holds vectors only: give their ids with ids=")
    if len(keys) != len(source):
        raise count_mismatch("array", len(source), len(keys))
    schema = matrix_schema(keys, source.dtype, source.shape[1])
    batches = to_batches(_blocks(source), keys, schema)
    return Opened("array", schema, batches, len(source), provenance={"format": "array"})


def _blocks(source: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    step = batch_rows(source.shape[1])
    return (source[at : at + step] for at in range(0, len(source), step))


def _mapping(source: Mapping[Any, Any], ids: object, vectors: str | None) -> Opened:
    if not source:
        raise BadInput("the mapping is empty: there is nothing to load")
    arrays = {key: value for key, value in source.items() if isinstance(value, np.ndarray)}
    if any(value.ndim == 2 for value in arrays.values()):
        return _named_arrays(arrays, ids, vectors)
    keys = id_array(list(source), "mapping")
    lengths = {len(np.atleast_1d(value)) for value in source.values()}
    if len(lengths) > 1:
        first = len(np.atleast_1d(next(iter(source.values()))))
        key, bad = next((k, v) for k, v in source.items() if len(np.atleast_1d(v)) != first)
        raise BadInput(
            f"mapping (id {key!r}): {len(np.atleast_1d(bad))} components where the first has"
            f" {first}",
            source="mapping",
            id=key,
        )
    try:
        matrix = np.stack([np.asarray(each) for each in source.values()])
    except ValueError as error:
        raise BadInput(f"mapping: its values are not vectors of one length ({error})") from error
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise BadInput("mapping: its values are not vectors of numbers", source="mapping")
    schema = matrix_schema(keys, matrix.dtype, matrix.shape[1])
    batches = to_batches(_blocks(matrix), keys, schema)
    return Opened("mapping", schema, batches, len(matrix), provenance={"format": "mapping"})


def _named_arrays(arrays: dict[Any, Any], ids: object, vectors: str | None) -> Opened:
    named = {str(key): value for key, value in arrays.items()}
    headers = {name: Header(value.dtype, False, value.shape) for name, value in named.items()}
    outside = outside_ids(ids, list(named))
    chosen = choose(headers, "mapping", ids if outside is None else "", vectors)
    matrix = named[chosen.vectors]
    keys = outside if outside is not None else id_array(named[chosen.ids or ""], "mapping")
    if len(keys) != len(matrix):
        raise count_mismatch("mapping", len(matrix), len(keys))
    extra = {each: np.asarray(named[each]) for each in chosen.attributes}
    schema = named_schema(keys, component_type(matrix.dtype), matrix.shape[1], extra)
    batches = named_batches(_blocks(matrix), keys, extra, schema)
    return Opened("mapping", schema, batches, len(matrix), provenance={"format": "arrays"})
