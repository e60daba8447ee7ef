""".npy: one array. The header is read here, because numpy believes its sizes and can unpickle."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput
from .base import EMBEDDING, ID, Opened, batch_rows
from .columns import count_mismatch
from .source import File, read_exactly

MAGIC = b"\x93NUMPY"
# numpy writes 64 to some hundred bytes.
MAX_HEADER = 64 << 10


@dataclass(frozen=True)
class Header:
    """What the header declares."""

    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of data that follow."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: Any, name: str) -> tuple[Header, int]:
    """Read the header; returns it and its length in bytes.

    Raises
    ------
    BadInput
        When it is no header, or the array holds Python objects or other things than numbers.
    """
    start = read_exactly(stream, 8, name)
    if not start.startswith(MAGIC) or start[6] not in (1, 2, 3):
        raise BadInput(f"{name} is no .npy file of version 1 to 3", source=name)
    width = 2 if start[6] == 1 else 4
    size = int.from_bytes(read_exactly(stream, width, name), "little")
    if size > MAX_HEADER:
        raise BadInput(f"{name}: its header claims {size} bytes: it is damaged", source=name)
    text = read_exactly(stream, size, name).decode("latin1" if start[6] < 3 else "utf-8")
    fields = ast.literal_eval(text.strip())
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise BadInput(f"{name}: its header is no .npy header", source=name)
    shape = fields["shape"]
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise BadInput(f"{name}: its header has shape {shape!r}: it is damaged", source=name)
    if not isinstance(fields["descr"], str):
        raise BadInput(
            f"{name} holds records, not numbers: save the fields as arrays of their own",
            source=name,
        )
    dtype = np.dtype(fields["descr"])
    if dtype.hasobject:
        raise BadInput(
            f"{name} holds Python objects, which are never unpickled: save it as an array of"
            " numbers or text",
            source=name,
        )
    if dtype.kind not in "fiuSU" or (dtype.kind == "f" and dtype.itemsize > 8) or not dtype.itemsize:
        raise BadInput(
            f"{name} holds {dtype}: vectors are float16, float32, float64 or integers", source=name
        )
    return Header(dtype, bool(fields["fortran_order"]), shape), 8 + width + size


def check_vectors(header: Header, name: str) -> None:
    """Refuse an array that is no matrix of numbers.

    Raises
    ------
    BadInput
    """
    if len(header.shape) != 2 or header.dtype.kind not in "fiu":
        raise BadInput(
            f"{name} has shape {header.shape} of {header.dtype}: vectors are a two-dimensional"
            " array of numbers, a row each",
            source=name,
        )
    if not header.shape[0]:
        raise BadInput(f"{name} holds no rows: there is nothing to load", source=name)


def component_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the float type that a batch of this array has."""
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float32)


def blocks(stream: Any, header: Header, name: str) -> Iterator[NDArray[Any]]:
    """Read the rows of a matrix in blocks, from a stream that stands behind the header."""
    rows, dim = header.shape
    step = batch_rows(dim * max(1, header.dtype.itemsize // 4))
    if header.fortran:
        yield from _fortran_blocks(stream, header, name, step)
        return
    for at in range(0, rows, step):
        count = min(step, rows - at)
        data = read_exactly(stream, count * dim * header.dtype.itemsize, name)
        yield np.frombuffer(data, header.dtype).reshape(count, dim)


def _fortran_blocks(stream: Any, header: Header, name: str, step: int) -> Iterator[NDArray[Any]]:
    """Read column after column: in a plain file the parts of each block, else all at once."""
    rows, dim = header.shape
    if not isinstance(stream, pa.OSFile):
        data = read_exactly(stream, header.nbytes, name)
        matrix = np.frombuffer(data, header.dtype).reshape(dim, rows).T
        for at in range(0, rows, step):
            yield np.ascontiguousarray(matrix[at : at + step])
        return
    start, width = stream.tell(), header.dtype.itemsize
    for at in range(0, rows, step):
        count = min(step, rows - at)
        block = np.empty((count, dim), header.dtype)
        for column in range(dim):
            stream.seek(start + (column * rows + at) * width)
            block[:, column] = np.frombuffer(
                read_exactly(stream, count * width, name), header.dtype
            )
        yield block


def to_batches(
    arrays: Iterator[NDArray[Any]], ids: pa.Array, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Pair blocks (n, dim) with their ids."""
    at = 0
    for block in arrays:
        flat = pa.array(block.astype(component_type(block.dtype), copy=False).ravel())
        own = ids.slice(at, len(block))
        yield pa.RecordBatch.from_arrays(
            [own, pa.FixedSizeListArray.from_arrays(flat, block.shape[1])], schema=schema
        )
        at += len(block)


def matrix_schema(ids: pa.Array, dtype: np.dtype[Any], dim: int) -> pa.Schema:
    """Return the schema of `to_batches`."""
    component = pa.from_numpy_dtype(component_type(dtype))
    return pa.schema([(ID, ids.type), (EMBEDDING, pa.list_(component, dim))])


@contextmanager
def open_npy(file: File, ids: object, vectors: str | None) -> Iterator[Opened]:
    """Open a matrix; its ids come from elsewhere."""
    from .idfile import outside_ids

    if ids is None:
        raise BadInput(
            f"{file.name} holds vectors only: give their ids with --ids FILE (ids= in Python)",
            source=file.name,
        )
    keys = outside_ids(ids, ())
    assert keys is not None
    with file.reading("a .npy array"), file.stream() as stream:
        header, length = read_header(stream, file.name)
        check_vectors(header, file.name)
        _check_size(file, header, length)
        rows, dim = header.shape
        if len(keys) != rows:
            raise count_mismatch(file.name, rows, len(keys))
        schema = matrix_schema(keys, header.dtype, dim)

        def batches() -> Iterator[pa.RecordBatch]:
            with file.reading("a .npy array"):
                yield from to_batches(blocks(stream, header, file.name), keys, schema)
                _check_end(stream, file.name)

        yield Opened(file.name, schema, batches(), rows, provenance=file.provenance("npy"))


def read_ids(file: File) -> NDArray[Any]:
    """Read a one-dimensional array of integers or text."""
    with file.reading("a .npy array of ids"), file.stream() as stream:
        header, length = read_header(stream, file.name)
        if len(header.shape) != 1 or header.dtype.kind not in "iuSU":
            raise BadInput(
                f"{file.name} has shape {header.shape} of {header.dtype}: ids are a"
                " one-dimensional array of integers or text",
                source=file.name,
            )
        _check_size(file, header, length)
        data = read_exactly(stream, header.nbytes, file.name)
        _check_end(stream, file.name)
        return np.frombuffer(data, header.dtype).astype(header.dtype.newbyteorder("="))


def read_matrix(file: File) -> NDArray[Any]:
    """Read a whole matrix, for queries."""
    with file.reading("a .npy array"), file.stream() as stream:
        header, length = read_header(stream, file.name)
        check_vectors(header, file.name)
        _check_size(file, header, length)
        return np.concatenate(list(blocks(stream, header, file.name)))


def _check_size(file: File, header: Header, length: int) -> None:
    """Compare what the header claims with what is there, before anything is allocated."""
    if file.packed is None and length + header.nbytes != file.size:
        raise BadInput(
            f"{file.name} declares {header.nbytes} bytes of data and has {file.size - length}: it"
            " is truncated or damaged",
            source=file.name,
        )


def _check_end(stream: Any, name: str) -> None:
    if stream.read(1):
        raise BadInput(f"{name} goes on behind its array: it is damaged", source=name)


