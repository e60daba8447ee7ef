"""From ids to row numbers, by numpy over mapped arrays, so that all processes share them.

Three ways, the first that fits:

- ``range``: the ids count up from the first; nothing is stored.
- ``direct``: dense integers; an array holds the row of each.
- ``hash``: all else. A table of 64-bit slots, half of a hash beside the row, with linear probing;
  what it finds is compared with the id itself. A dict is no slower, but no process shares it;
  a binary search of fixed-width bytes takes twice the time, and Arrow's ``index_in`` would hash
  all ids for each call.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import ReplicaDamaged

Rows = NDArray[np.int64]
_U64 = NDArray[np.uint64]

FILE = "rows.npy"
# A direct table may have so many places per id: no larger than the hash table would be.
_SPREAD = 4
# Slots per id: three in four and more are empty, so that no id lies far from its home, and all
# the slots it may lie in are looked at in one step.
_ROOM = 4
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Ids:
    """The ids of a replica in the order of its rows, and the way back.

    Parameters
    ----------
    values : array (n,), int64 or string
    how : dict
        What ``build`` returned.
    table : array or None
        What ``build`` wrote.
    """

    def __init__(self, values: pa.Array, how: dict[str, Any], table: NDArray[Any] | None) -> None:
        self.values = values
        self.texts = not pa.types.is_integer(values.type)
        self._numbers = None if self.texts else np.asarray(values)
        ways: dict[str, Callable[[pa.Array], Rows]] = {
            "range": self._by_range,
            "direct": self._by_table,
            "hash": self._by_hash,
        }
        self._find = ways[how["search"]]
        self._first = int(how.get("first", 0))
        self._width = int(how.get("width", 0))
        self._mask = np.uint64(int(how.get("slots", 1)) - 1)
        self._window = np.arange(int(how.get("window", 0)))
        if table is not None:
            self._table = table

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, asked: pa.Array) -> Rows:
        """Return the row of each id, -1 where it is not there."""
        if not len(self.values) or not len(asked):
            return np.full(len(asked), -1)
        return self._find(asked)

    def at(self, rows: Rows) -> NDArray[Any]:
        """Return the ids of rows: int64, or object holding str."""
        if self._numbers is not None:
            return self._numbers[rows]
        found = np.empty(rows.size, dtype=object)
        found[:] = self.values.take(pa.array(rows.ravel())).to_pylist()
        return found.reshape(rows.shape)

    def _by_range(self, asked: pa.Array) -> Rows:
        rows = np.asarray(asked) - self._first
        # One comparison: what is below wraps to a large number.
        rows[rows.view(np.uint64) >= len(self.values)] = -1
        return rows

    def _by_table(self, asked: pa.Array) -> Rows:
        places = np.asarray(asked) - self._first
        outside = places.view(np.uint64) >= len(self._table)
        if not outside.any():
            return np.asarray(self._table[places], np.int64)
        places[outside] = 0
        rows = np.asarray(self._table[places], np.int64)
        rows[outside] = -1
        return rows

    def _by_hash(self, asked: pa.Array) -> Rows:
        hashes = _hashes(asked, self._width)
        homes = (hashes & self._mask).astype(np.int64)
        seen: _U64 = self._table.take(homes[:, None] + self._window)
        hits = seen >> _HALF == (hashes >> _HALF)[:, None]
        every, first = np.arange(len(seen)), hits.argmax(axis=1)
        rows: Rows = (seen[every, first] & _LOW).astype(np.int64) - 1
        same = hits[every, first] & self._same(rows, asked)
        if same.all():
            return rows
        rows[~same] = -1
        # A half that is another id's too is one chance in millions, but it must be seen.
        for each in np.flatnonzero(~same & (hits.sum(axis=1) > 1)):
            own = asked.slice(each, 1)
            for slot in seen[each][hits[each]]:
                row = np.array([int(slot & _LOW) - 1])
                if self._same(row, own)[0]:
                    rows[each] = row[0]
        return rows

    def _same(self, rows: Rows, asked: pa.Array) -> NDArray[np.bool_]:
        if rows.max(initial=-1) >= len(self.values):
            raise ReplicaDamaged(f"{FILE} names a row that is not there: write the replica again")
        if self._numbers is not None:
            same = self._numbers[rows] == np.asarray(asked)
        else:
            there = self.values.take(pa.array(np.maximum(rows, 0)))
            if asked.type != there.type:
                asked = asked.cast(there.type)
            same = pc.equal(there, asked).to_numpy(zero_copy_only=False)
        return np.asarray(same & (rows >= 0))


def build(values: pa.Array, path: Path) -> dict[str, Any]:
    """Write what finds the rows of ids; returns what the manifest keeps of it."""
    if pa.types.is_integer(values.type) and len(values):
        numbers = np.asarray(values)
        first, last = int(numbers.min()), int(numbers.max())
        if last - first + 1 == len(numbers) and (np.diff(numbers) == 1).all():
            return {"search": "range", "first": first}
        if last - first < _SPREAD * len(numbers):
            table = np.full(last - first + 1, -1, np.int32 if len(numbers) < 2**31 else np.int64)
            table[numbers - first] = np.arange(len(numbers))
            np.save(path, table)
            return {"search": "direct", "first": first}
    return _build_hash(values, path)


def _build_hash(values: pa.Array, path: Path) -> dict[str, Any]:
    width = 0
    if not pa.types.is_integer(values.type):
        longest_id = pc.max(pc.binary_length(values)).as_py() or 0
        width = max(8, -(-longest_id // 8) * 8)
    hashes = _hashes(values, width)
    size = 1 << max(3, (_ROOM * len(values) - 1).bit_length())
    order = np.argsort(hashes & np.uint64(size - 1))
    homes = (hashes[order] & np.uint64(size - 1)).astype(np.int64)
    # Linear probing, all at once: each takes its home or the slot behind the one before it.
    counted = np.arange(len(homes))
    places = np.maximum.accumulate(homes - counted) + counted if len(homes) else homes
    window = 1 + int((places - homes).max(initial=0))
    table = np.zeros(size + window - 1, np.uint64)
    table[places] = (hashes[order] >> _HALF << _HALF) | (order + 1).astype(np.uint64)
    np.save(path, table)
    return {"search": "hash", "slots": size, "window": window, "width": width}


def _hashes(ids: pa.Array, width: int) -> _U64:
    """Return 64-bit hashes: the mixer of SplitMix64, over one word or over the words of a text."""
    if pa.types.is_integer(ids.type):
        return _mix(np.asarray(ids).view(np.uint64) * _GOLDEN)
    padded = pc.ascii_rpad(ids, width=width, padding="\0")
    start, end = _extent(padded)
    if end - start != len(ids) * width:  # one is longer than any of ours
        ids = pc.if_else(pc.greater(pc.binary_length(ids), width), "", ids)
        padded = pc.ascii_rpad(ids, width=width, padding="\0")
        start, end = _extent(padded)
    words = np.frombuffer(padded.buffers()[2], "<u8", (end - start) // 8, start)
    words = words.reshape(len(ids), -1)
    odd = np.arange(1, 2 * words.shape[1], 2, dtype=np.uint64) * _GOLDEN | np.uint64(1)
    return _mix(words @ odd)


def _extent(texts: pa.Array) -> tuple[int, int]:
    """Return where the bytes of a string array begin and end."""
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(texts.buffers()[1], kind)
    return int(offsets[texts.offset]), int(offsets[texts.offset + len(texts)])


def _mix(x: _U64) -> _U64:
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x
