""".npy: a matrix, and its ids in a second file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...types import IdType, Precision
from ..registry import Format
from ..rows import Rows
from ..values import components

BESIDE = ".ids.npy"
_KINDS = {Precision.FLOAT32: "<f4", Precision.FLOAT16: "<f2", Precision.BIT: "|b1"}


def write(paths: Sequence[Path], rows: Rows) -> None:
    """Write float32 or float16 (n, dim), or truth values of bits; and the ids (n,)."""
    version = rows.version
    with (
        Ids(paths[1], rows) as ids,
        Array(paths[0], (rows.total, version.dim), _KINDS[version.precision]) as vectors,
    ):
        for block in rows:
            vectors.append(components(block, version))
            ids.append(block.ids)


class Array:
    """An .npy file of known shape, written in pieces."""

    def __init__(self, path: Path, shape: tuple[int, ...], kind: str) -> None:
        self._file = path.open("wb")
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: NDArray[Any]) -> None:
        """Write the next rows."""
        self._file.write(np.ascontiguousarray(values).data.cast("B"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


class Ids(Array):
    """The ids as an .npy file: int64, or text of the longest one's width."""

    def __init__(self, path: Path, rows: Rows) -> None:
        self._width = 0
        if rows.version.id_type is IdType.TEXT:
            self._width = rows.longest_id()
        super().__init__(path, (rows.total,), f"<U{self._width}" if self._width else "<i8")

    def append(self, values: pa.Array) -> None:
        """Write the next ids."""
        super().append(_fixed(values, self._width) if self._width else np.asarray(values))


def _fixed(texts: pa.Array, width: int) -> NDArray[Any]:
    """Return texts as numpy has them, four bytes a character, filled with NUL to their width."""
    filled = pc.utf8_rpad(texts, width, "\0")
    _, offsets, data = filled.buffers()
    ends = np.frombuffer(offsets, np.int32)[filled.offset :]
    whole = bytes(data[int(ends[0]) : int(ends[len(filled)])])
    return np.frombuffer(whole.decode().encode("utf-32-le"), f"<U{width}")


FORMATS = (
    Format(
        "npy",
        (".npy",),
        f"a matrix; its ids in NAME{BESIDE}",
        write,
        beside=lambda _: BESIDE,
    ),
)
