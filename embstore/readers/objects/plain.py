"""Objects: arrays, frames, Arrow tables and streams, mappings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Kind, check_vectors, choose, matrix_batches, matrix_schema, value_array
from ..base import Opened, Wanted, batch_rows
from ..ids import id_array, outside_ids
from ..matrices import need_ids, open_matrix
from ..registry import model_of
from ..source import reading
from ..tables import opened_table

_OTHERWISE = "mend it and load again"


def open_object(source: Any, wanted: Wanted) -> Opened:
    """Open something that is in memory, or streams from another library.

    Raises
    ------
    BadInput
        When it is nothing that holds vectors.
    """
    name = "array" if isinstance(source, np.ndarray) else type(source).__name__
    name = "mapping" if isinstance(source, Mapping) else name
    model = model_of(source)
    with reading(name, model.title if model else "vectors", _OTHERWISE):
        if model is not None:
            opened = model.open(source, wanted)
        elif isinstance(source, Mapping):
            opened = _mapping(source, wanted)
        elif isinstance(source, np.ndarray):
            opened = _array(source, wanted)
        elif hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
            opened = _stream(source, name, wanted)
        else:
            raise BadInput(
                f"{name} cannot be loaded: give a path, an array with ids=, a frame, an Arrow table"
                " or stream, a mapping of id to vector, or a trained model of those that"
                " embstore formats lists",
                source=name,
            )
    return replace(opened, batches=_guarded(opened.batches, opened.name))


def _guarded(batches: Iterator[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    with reading(name, "vectors", _OTHERWISE):
        yield from batches


def to_table(source: Any, name: str) -> pa.Table:
    """Return a frame or Arrow table whole, for attributes.

    Raises
    ------
    BadInput
    """
    with reading(name, "a table", _OTHERWISE):
        if isinstance(source, Mapping):
            return pa.table(dict(source))
        if isinstance(source, pa.RecordBatch):
            return pa.Table.from_batches([source])
        if hasattr(source, "__arrow_c_stream__"):
            return pa.table(source)
    raise BadInput(
        f"{name}: {type(source).__name__} is no table; give a frame or a path", source=name
    )


def _stream(source: Any, name: str, wanted: Wanted) -> Opened:
    rows = source.num_rows if isinstance(source, pa.Table | pa.RecordBatch) else None
    if not hasattr(source, "__arrow_c_stream__"):
        batch = pa.record_batch(source)
        reader = pa.RecordBatchReader.from_batches(batch.schema, [batch])
    else:
        reader = pa.RecordBatchReader.from_stream(source)
    return opened_table(name, reader.schema, reader, wanted, rows=rows, provenance={"format": name})


def _array(source: NDArray[Any], wanted: Wanted) -> Opened:
    if isinstance(source, np.ma.MaskedArray):
        raise BadInput("array has a mask: fill it or remove its rows first", source="array")
    check_vectors(source.shape, source.dtype, "array")
    keys = need_ids(outside_ids(wanted.ids, ()), "array")
    return open_matrix("array", np.asarray(source), keys, {}, {"format": "array"})


def _mapping(source: Mapping[Any, Any], wanted: Wanted) -> Opened:
    if not source:
        raise BadInput("mapping is empty: there is nothing to load", source="mapping")
    if any(getattr(value, "ndim", 0) == 2 for value in source.values()):
        return _named_arrays(source, wanted)
    if wanted.ids is not None or wanted.vectors is not None:
        raise BadInput(
            "mapping of id to vector: its keys are the ids; leave ids= and vectors= out",
            source="mapping",
        )
    keys = id_array(list(source), "mapping")
    dtype, dim = _common_kind(source)
    schema = matrix_schema(keys, dtype, dim)
    values, step = iter(source.values()), batch_rows(dim)

    def blocks() -> Iterator[NDArray[Any]]:
        while block := list(islice(values, step)):
            yield np.stack([np.asarray(each) for each in block])

    batches = matrix_batches(blocks(), keys, schema)
    return Opened("mapping", schema, batches, len(source), provenance={"format": "mapping"})


def _common_kind(source: Mapping[Any, Any]) -> tuple[np.dtype[Any], int]:
    """Return the type that holds all vectors, and their dim."""
    dtypes: set[np.dtype[Any]] = set()
    dim = None
    for row, (key, value) in enumerate(source.items()):
        vector = np.asarray(value)
        if vector.ndim != 1 or vector.dtype.kind not in "fiu" or vector.dtype.itemsize > 8:
            problem = "no vector of numbers"
        elif dim is not None and len(vector) != dim:
            problem = f"{len(vector)} components where the first has {dim}"
        elif not len(vector):
            problem = "the vector has no components"
        else:
            dim = len(vector)
            dtypes.add(vector.dtype)
            continue
        raise BadInput(
            f"mapping row {row + 1} (id {key!r}): {problem}; mend or remove it and load again",
            source="mapping",
            row=row + 1,
            id=key,
        )
    floats = {each if each.kind == "f" else np.dtype(np.float32) for each in dtypes}
    return np.result_type(*floats), dim or 0


def _named_arrays(source: Mapping[Any, Any], wanted: Wanted) -> Opened:
    named = {str(key): _plain(value) for key, value in source.items()}
    kinds = {name: Kind(each.shape, each.dtype) for name, each in named.items()}
    outside = outside_ids(wanted.ids, list(named), "mapping")
    inside = wanted.ids if isinstance(wanted.ids, str) and outside is None else None
    chosen = choose(kinds, "mapping", inside, wanted.vectors, outside is not None)
    keys = outside
    if chosen.ids is not None:
        keys = id_array(named[chosen.ids], f"mapping ({chosen.ids})")
    assert keys is not None
    extra = {each: value_array(named[each]) for each in chosen.attributes}
    return open_matrix("mapping", named[chosen.vectors], keys, extra, {"format": "arrays"})


def _plain(value: Any) -> NDArray[Any]:
    """Return a value as an array; what is none counts for nothing in the choice."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError):
        return np.empty((), object)
