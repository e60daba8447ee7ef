"""Rows as PostgreSQL's binary COPY wants them, whole batches at a time.

A row is int16 count of fields, then per field an int32 length (-1 for NULL) and its bytes, all
big-endian; a vector's bytes are int16 dim, int16 0 and its components, those of bits int32 dim
and the bits, eight a byte. Where every field of a
batch has a fixed width, the rows are one numpy structured array. Otherwise the row is cut at the
fields of varying width, and Arrow joins the pieces row by row in C++.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..types import Attribute

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

# 2000-01-01, where PostgreSQL counts dates and times from.
_EPOCH_DAYS = 10_957
_EPOCH_US = _EPOCH_DAYS * 86_400_000_000

# Type -> its bytes on the wire, and what is taken from Arrow's value.
FIXED: dict[str, tuple[str, int]] = {
    "bigint": (">i8", 0),
    "double precision": (">f8", 0),
    "boolean": ("u1", 0),
    "date": (">i4", _EPOCH_DAYS),
    "timestamp without time zone": (">i8", _EPOCH_US),
    "timestamp with time zone": (">i8", _EPOCH_US),
}


def encode(
    ids: pa.Array,
    attributes: Sequence[Attribute],
    columns: Sequence[pa.Array],
    vectors: NDArray[Any],
    dim: int,
) -> memoryview:
    """Encode rows: id, attributes, embedding.

    Parameters
    ----------
    ids : int64 or string array (n,)
    attributes, columns
        The attributes and their arrays (n,), converted by ``attributes.to_stored``.
    vectors : array (n, dim), float32 (vector) or float16 (halfvec); bits (n, bytes), uint8
    dim : int
        Components of a vector.

    Returns
    -------
    memoryview
        The rows' bytes, without the COPY header and trailer.
    """
    row = _Row(len(ids))
    row.fixed("fields", ">i2", len(attributes) + 2)
    if pa.types.is_integer(ids.type):
        row.field(">i8", np.asarray(ids))
    else:
        row.varying(ids)
    for attribute, column in zip(attributes, columns, strict=True):
        _append(row, attribute, column)
    row.vector(vectors, dim)
    return row.joined()


def encode_columns(attributes: Sequence[Attribute], columns: Sequence[pa.Array]) -> memoryview:
    """Encode rows of columns alone, of the attributes' types; as ``encode``."""
    row = _Row(len(columns[0]))
    row.fixed("fields", ">i2", len(attributes))
    for attribute, column in zip(attributes, columns, strict=True):
        _append(row, attribute, column)
    return row.joined()


def _append(row: _Row, attribute: Attribute, column: pa.Array) -> None:
    if attribute.type == "text":
        row.varying(column)
    elif attribute.type == "jsonb":
        # jsonb's binary form is a version byte, then the text.
        column = pc.binary_join_element_wise(pa.scalar("\x01"), column, pa.scalar(""))
        row.varying(column)
    else:
        dtype, epoch = FIXED[attribute.type]
        filled = column.fill_null(False if attribute.type == "boolean" else _zero(column))
        if attribute.type == "boolean":
            values: NDArray[Any] = filled.cast(pa.uint8()).to_numpy()
        elif epoch:
            width = pa.int32() if dtype == ">i4" else pa.int64()
            values = filled.view(width).to_numpy() - epoch
        else:
            values = filled.to_numpy(zero_copy_only=False)
        if column.null_count:
            row.nullable(dtype, values, pc.is_null(column).to_numpy(zero_copy_only=False))
        else:
            row.field(dtype, values)


def _zero(column: pa.Array) -> pa.Scalar:
    width = pa.int32() if pa.types.is_date32(column.type) else pa.int64()
    if pa.types.is_floating(column.type):
        return pa.scalar(0.0, column.type)
    return pa.scalar(0, width).cast(column.type)


class _Row:
    """The pieces of a batch's rows, left to right."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._pending: list[tuple[str, Any, Any]] = []  # name, dtype, values
        self._pieces: list[pa.Array] = []

    def fixed(self, name: str, dtype: Any, values: Any) -> None:
        self._pending.append((f"{name}{len(self._pending)}", dtype, values))

    def field(self, dtype: str, values: NDArray[Any]) -> None:
        self.fixed("length", ">i4", np.dtype(dtype).itemsize)
        self.fixed("value", dtype, values)

    def vector(self, vectors: NDArray[Any], dim: int) -> None:
        width = vectors.shape[1]
        self.fixed("length", ">i4", 4 + width * vectors.itemsize)
        if vectors.dtype == np.uint8:
            self.fixed("bits", ">i4", dim)
        else:
            self.fixed("dim", ">u2", dim)
            self.fixed("unused", ">u2", 0)
        self.fixed("value", (vectors.dtype.newbyteorder(">"), (width,)), vectors)

    def varying(self, texts: pa.Array) -> None:
        lengths = pc.binary_length(texts).fill_null(-1)
        self.fixed("length", ">i4", np.asarray(lengths))
        self._flush()
        self._pieces.append(texts.cast(pa.binary()).fill_null(b""))

    def nullable(self, dtype: str, values: NDArray[Any], null: NDArray[np.bool_]) -> None:
        width = np.dtype(dtype).itemsize
        self.fixed("length", ">i4", np.where(null, -1, width))
        self._flush()
        offsets = np.zeros(self._rows + 1, np.int32)
        np.cumsum(np.where(null, 0, width), out=offsets[1:])
        data = values.astype(dtype)[~null].tobytes()
        self._pieces.append(
            pa.BinaryArray.from_buffers(
                pa.binary(), self._rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
            )
        )

    def joined(self) -> memoryview:
        packed = self._pack()
        if not self._pieces:
            return memoryview(packed.data).cast("B")
        self._flush(packed)
        joined = pc.binary_join_element_wise(*self._pieces, pa.scalar(b""))
        _, offsets, data = joined.buffers()
        ends = np.frombuffer(offsets, np.int32)[joined.offset :]
        return memoryview(data)[int(ends[0]) : int(ends[self._rows])]

    def _pack(self) -> NDArray[Any]:
        names = [name for name, _, _ in self._pending]
        formats = [dtype for _, dtype, _ in self._pending]
        packed = np.empty(self._rows, np.dtype(list(zip(names, formats, strict=True))))
        for name, _, values in self._pending:
            packed[name] = values
        self._pending = []
        return packed

    def _flush(self, packed: NDArray[Any] | None = None) -> None:
        packed = self._pack() if packed is None else packed
        width = packed.dtype.itemsize
        fixed = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(width), self._rows, [None, pa.py_buffer(packed)]
        )
        self._pieces.append(fixed.cast(pa.binary()))
