"""A checksum of a version's content: its ids and the bits of its stored vectors.

The sum, modulo 2**64, of one 64-bit hash per row; so it does not depend on the order of the rows,
two parts add up, and a version exported and loaded again has the same. The row's hash is
multilinear (a sum of 64-bit words times fixed odd numbers; Carter & Wegman, "Universal classes of
hash functions", 1979) and finished with the mixer of SplitMix64 (Steele, Lea & Flood, 2014). It
finds accidents, not forgeries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..catalog import VersionRow
from ..errors import LoadFailed
from ..types import MAX_DIM, MAX_ID_BYTES

_U64 = NDArray[np.uint64]


def _mix(x: _U64) -> _U64:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _constants(count: int, seed: int) -> _U64:
    steps = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed)
    return _mix(steps * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)


_WORDS = _constants(MAX_DIM // 2 + 1, 0)
_BYTES = _constants(MAX_ID_BYTES, 1 << 32)
_ID = _constants(1, 1 << 33)[0]


class Checksum:
    """Adds up row hashes; ``str()`` is what the catalog keeps.

    Parameters
    ----------
    before : str
        The checksum of rows that are counted already.
    """

    def __init__(self, before: str = "0") -> None:
        self._sum = int(before, 16)

    def update(self, ids: pa.Array, stored: NDArray[Any], *, sign: int = 1) -> None:
        """Add rows, or with ``sign=-1`` take them away.

        Parameters
        ----------
        ids : array (n,), int64 or string
        stored : array (n, dim), float32 or float16; or packed bits (n, bytes), uint8
        """
        hashes = _mix(_vector_hashes(stored) + _id_hashes(ids) * _ID)
        self._sum = (self._sum + sign * int(hashes.sum(dtype=np.uint64))) % 2**64

    def __str__(self) -> str:
        return f"{self._sum:016x}"


def check_arrived(version: VersionRow, rows: int, checksum: Checksum) -> None:
    """Refuse other rows than the catalog promises, once all of a version have been read.

    Raises
    ------
    LoadFailed
    """
    if rows != version.rows or str(checksum) != version.checksum:
        raise LoadFailed(
            f"{version.ref} arrived with {rows:,} rows and checksum {checksum}, but it has"
            f" {version.rows:,} and {version.checksum}: was its table altered on the server?"
        )


def _vector_hashes(stored: NDArray[Any]) -> _U64:
    per_word = 8 // stored.dtype.itemsize
    little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    if spare := -stored.shape[1] % per_word:
        little = np.pad(little, ((0, 0), (0, spare)))
    words = np.ascontiguousarray(little).view("<u8")
    return np.asarray(words @ _WORDS[: words.shape[1]], dtype=np.uint64)


def _id_hashes(ids: pa.Array) -> _U64:
    if pa.types.is_integer(ids.type):
        return np.asarray(ids).view(np.uint64)
    offsets, data = string_buffers(ids)
    lengths = np.diff(offsets)
    starts = offsets[:-1] - offsets[0]
    place = np.arange(len(data)) - np.repeat(starts, lengths)
    terms = (data.astype(np.uint64) + np.uint64(1)) * _BYTES[place]
    return _mix(np.add.reduceat(terms, starts)) if len(terms) else np.zeros(0, np.uint64)


def string_buffers(array: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the offsets (n + 1,) and the bytes between the first and last of a string array."""
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[array.offset :][: len(array) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    return offsets.astype(np.int64), data
