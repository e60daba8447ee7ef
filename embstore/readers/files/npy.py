""".npy: one array. The header is read here, because numpy believes its sizes and can unpickle."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Kind, block_rows, check_vectors, row_blocks
from ..base import Opened, Wanted
from ..matrices import open_blocks, unnamed_ids
from ..registry import Format
from ..source import File, aside, read_exactly

MAGIC = b"\x93NUMPY"
# numpy writes 64 to some hundred bytes.
MAX_HEADER = 64 << 10
_ITEM = (
    r"\s*(?:'descr'\s*:\s*(?:'(?P<descr{0}>[^'\\]*)'|(?P<records{0}>\[.*\]))"
    r"|'fortran_order'\s*:\s*(?P<fortran{0}>True|False)"
    r"|'shape'\s*:\s*\((?P<shape{0}>[0-9L,\s]*)\))\s*"
)
# The literal that numpy writes, in any order; evaluating it would be another parser to trust.
_FIELDS = re.compile(
    r"\s*\{" + ",".join(_ITEM.format(i) for i in range(3)) + r",?\s*\}\s*", re.DOTALL | re.ASCII
)
_DTYPE = re.compile(r"[<>=|]?(b1|[fiuSU][1-9][0-9]{0,8})", re.ASCII)


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
    found = _FIELDS.fullmatch(text)
    fields: dict[str, str] = {}
    for key, value in (found.groupdict() if found else {}).items():
        if value is not None:
            fields[key[:-1]] = value
    if not {"fortran", "shape"} < fields.keys():
        raise BadInput(
            f"{name} cannot be read as a .npy array: its header is none that numpy writes; it is"
            " damaged or something else",
            source=name,
        )
    if "records" in fields:
        raise BadInput(
            f"{name} holds records, not numbers: save the fields as arrays of their own",
            source=name,
        )
    dtype = _dtype(fields["descr"], name)
    return Header(dtype, fields["fortran"] == "True", _shape(fields["shape"])), 8 + width + size


def _dtype(written: str, name: str) -> np.dtype[Any]:
    if "O" in written:
        raise BadInput(
            f"{name} holds Python objects, which are never unpickled; save it with numpy.save of a"
            " float array (ids: of integers or text)",
            source=name,
        )
    dtype = np.dtype(written) if _DTYPE.fullmatch(written) else None
    if dtype is None or (dtype.kind == "f" and dtype.itemsize > 8):
        shown = {"c8": "complex64", "c16": "complex128"}.get(written[1:], written)
        raise BadInput(
            f"{name} holds {shown}: vectors are float16, float32, float64 or integers", source=name
        )
    return dtype


def _shape(written: str) -> tuple[int, ...]:
    parts = written.replace("L", "").split(",")
    return tuple(int(each) for each in parts if each.strip())


def blocks(stream: Any, header: Header, name: str, held: ExitStack) -> Iterator[NDArray[Any]]:
    """Read the rows of a matrix in blocks, from a stream that stands behind the header.

    Raises
    ------
    BadInput
        When the data end early or go on.
    """
    if header.fortran and header.shape[1] > 1:
        yield from _fortran_blocks(stream, header, name, held)
    else:
        yield from row_blocks(stream, header.dtype, header.shape, name)
    if stream.read(1):  # in a zip file this also checks the member's CRC
        raise BadInput(f"{name} goes on behind its array: it is damaged", source=name)


def _fortran_blocks(
    stream: Any, header: Header, name: str, held: ExitStack
) -> Iterator[NDArray[Any]]:
    """Read the columns' parts of each block; what cannot seek is copied aside first."""
    rows, dim = header.shape
    step = block_rows(dim, header.dtype)
    file = stream
    if not isinstance(stream, pa.OSFile):
        file = aside(stream, name, header.nbytes, held)
    start, width = file.tell(), header.dtype.itemsize
    for at in range(0, rows, step):
        count = min(step, rows - at)
        block = np.empty((count, dim), header.dtype)
        for column in range(dim):
            file.seek(start + (column * rows + at) * width)
            data = read_exactly(file, count * width, name)
            block[:, column] = np.frombuffer(data, header.dtype)
        yield block


def open_npy(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a matrix; its ids come from elsewhere."""
    keys = unnamed_ids(file.name, wanted)
    stream = file.stream(held)
    header = _checked_header(file, stream)
    return open_blocks(
        file.name,
        blocks(stream, header, file.name, held),
        Kind(header.shape, header.dtype),
        keys,
        {},
        file.provenance("npy"),
    )


def read_ids(file: File) -> NDArray[Any]:
    """Read a one-dimensional array of integers or text."""

    def checked(header: Header) -> None:
        if len(header.shape) != 1 or header.dtype.kind not in "iuSU":
            raise BadInput(
                f"{file.name} has shape {header.shape} of {header.dtype}: ids are a"
                " one-dimensional array of integers or text",
                source=file.name,
            )

    return _whole(file, checked)


def read_matrix(file: File) -> NDArray[Any]:
    """Read a whole matrix, for queries."""
    with ExitStack() as held:
        stream = file.stream(held)
        header = _checked_header(file, stream)
        check_vectors(header.shape, header.dtype, file.name)
        return np.concatenate(list(blocks(stream, header, file.name, held)))


def _whole(file: File, check: Callable[[Header], None]) -> NDArray[Any]:
    with ExitStack() as held:
        stream = file.stream(held)
        header = _checked_header(file, stream)
        check(header)
        data = read_exactly(stream, header.nbytes, file.name)
        if stream.read(1):
            raise BadInput(f"{file.name} goes on behind its array: it is damaged", source=file.name)
        return np.frombuffer(data, header.dtype).astype(header.dtype.newbyteorder("="))


def _checked_header(file: File, stream: Any) -> Header:
    """Compare what the header claims with what is there, before anything is allocated."""
    header, length = read_header(stream, file.name)
    if file.length is not None and length + header.nbytes != file.length:
        raise BadInput(
            f"{file.name} declares {header.nbytes} bytes of data and has {file.size - length}: it"
            " is truncated or damaged",
            source=file.name,
        )
    return header


FORMATS = (
    Format(
        "npy",
        "a .npy array",
        (".npy",),
        "one numpy matrix; its ids from --ids",
        open_npy,
        lambda head, _: head.startswith(MAGIC),
        streams=True,
    ),
)
