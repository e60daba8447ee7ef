"""Bare vectors of the benchmarks: .fvecs of corpus-texmex, .fbin of Big ANN.

http://corpus-texmex.irisa.fr gives each row its dim, an int32, and then the components.
https://big-ann-benchmarks.com has two uint32 in front, the rows and the dim, and then all rows.
Both are little-endian. Neither says its type: the ending does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Kind, row_blocks
from ..base import Opened, Wanted, batch_rows
from ..matrices import open_blocks, unnamed_ids
from ..registry import Format
from ..source import File, read_exactly

_VECS = {"fvecs": "<f4", "bvecs": "u1", "ivecs": "<i4"}
_BINS = {"fbin": "<f4", "f16bin": "<f2", "u8bin": "u1", "i8bin": "i1", "ibin": "<i4"}
# Enough to tell a dim from four other bytes; what can be stored is checked later.
_LARGEST_DIM = 1 << 20


def open_vecs(format: str, file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a file in which each row says its dim; ids come from elsewhere.

    Raises
    ------
    BadInput
    """
    keys = unnamed_ids(file.name, wanted)
    stream = file.seekable(held)
    stream.seek(0, 2)
    size = stream.tell()
    stream.seek(0)
    dim = int.from_bytes(read_exactly(stream, 4, file.name), "little", signed=True)
    dtype = np.dtype(_VECS[format])
    width = 4 + dim * dtype.itemsize
    if dim < 1 or size % width:
        raise BadInput(
            f"{file.name} has {size} bytes, which are no whole number of rows of {dim} dimensions,"
            " as its first row declares: it is truncated or damaged",
            source=file.name,
            row=1,
        )
    stream.seek(0)
    return open_blocks(
        file.name,
        _rows(stream, dtype, (size // width, dim), file.name),
        Kind((size // width, dim), dtype),
        keys,
        {},
        file.provenance(format),
    )


def _rows(
    stream: Any, dtype: np.dtype[Any], shape: tuple[int, int], name: str
) -> Iterator[NDArray[Any]]:
    rows, dim = shape
    record = np.dtype([("dim", "<i4"), ("vector", dtype, (dim,))])
    step = batch_rows(dim)
    for at in range(0, rows, step):
        data = read_exactly(stream, min(step, rows - at) * record.itemsize, name)
        block = np.frombuffer(data, record)
        other = np.flatnonzero(block["dim"] != dim)
        if len(other):
            row = at + int(other[0]) + 1
            raise BadInput(
                f"{name} row {row} declares {block['dim'][other[0]]} dimensions where the first"
                f" row has {dim}: it is damaged or something else",
                source=name,
                row=row,
            )
        yield block["vector"]


def open_bin(format: str, file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a matrix behind its two sizes; ids come from elsewhere.

    Raises
    ------
    BadInput
    """
    keys = unnamed_ids(file.name, wanted)
    stream = file.stream(held)
    head = read_exactly(stream, 8, file.name)
    rows, dim = (int.from_bytes(each, "little") for each in (head[:4], head[4:]))
    dtype = np.dtype(_BINS[format])
    declared = rows * dim * dtype.itemsize
    if file.packed is None and 8 + declared != file.size:
        raise BadInput(
            f"{file.name} declares {rows} rows of {dim} dimensions, {declared} bytes, and has"
            f" {file.size - 8}: it is truncated or damaged",
            source=file.name,
        )

    def blocks() -> Iterator[NDArray[Any]]:
        yield from row_blocks(stream, dtype, (rows, dim), file.name)
        if stream.read(1):
            raise BadInput(
                f"{file.name} goes on behind its {rows} rows: it is damaged", source=file.name
            )

    kind = Kind((rows, dim), dtype)
    return open_blocks(file.name, blocks(), kind, keys, {}, file.provenance(format))


def _sniff(endings: tuple[str, ...], at: int, head: bytes, file: File) -> bool:
    """Tell by the ending if the dim is one: its bytes alone can look like another format's."""
    dim = int.from_bytes(head[at : at + 4], "little")
    return file.ending in endings and 1 <= dim <= _LARGEST_DIM


def _format(name: str, where: int, open: Any, help: str) -> Format:
    endings = (f".{name}", ".fp16bin") if name == "f16bin" else (f".{name}",)
    return Format(
        name, f"a .{name} file", endings, help, partial(open, name), partial(_sniff, endings, where)
    )


FORMATS = (
    *(
        _format(name, 0, open_vecs, f"{np.dtype(dtype)} vectors, each behind its dim (texmex)")
        for name, dtype in _VECS.items()
    ),
    *(
        _format(name, 4, open_bin, f"a {np.dtype(dtype)} matrix behind its sizes (Big ANN)")
        for name, dtype in _BINS.items()
    ),
)
