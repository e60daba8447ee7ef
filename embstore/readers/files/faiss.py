"""Faiss index files. A flat one is read here, as it streams; Faiss itself reconstructs the others.

The layout is that of faiss/impl/index_write.cpp.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import BadInput
from ...optional import require
from ..apart import Apart
from ..arrays import Kind, row_blocks
from ..base import Ids, Opened, Picked, RowNumbers, Wanted
from ..facts import library
from ..ids import outside_ids
from ..matrices import open_blocks
from ..registry import Format, Needs
from ..source import File, read_exactly

# Type, dim, rows, two fillers that are always 2^20, trained, metric.
_HEADER = struct.Struct("<4siqqq?i")
_FILLER = 1 << 20
_FLAT = {b"IxF2": "IndexFlatL2", b"IxFI": "IndexFlatIP", b"IxFl": "IndexFlat"}
_MAPS = {b"IxMp": "IndexIDMap", b"IxM2": "IndexIDMap2"}
_BINARY = (b"IBxF", b"IBwF", b"IBHf", b"IBHh", b"IBMp", b"IBM2")
_METRICS = {0: "ip", 1: "l2", 2: "l1"}


@dataclass(frozen=True)
class _Flat:
    """Where a flat index has its vectors and the ids."""

    kind: Kind
    at: int
    ids: NDArray[np.int64] | None
    params: dict[str, object]


def open_faiss(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open an index; its ids are those that it was given, else the row numbers.

    Ids from elsewhere stand for the labels that Faiss's search returns.

    Raises
    ------
    BadInput, MissingPackage
    """
    if wanted.vectors is not None:
        raise BadInput(f"{file.name} is one index: leave --vectors out", source=file.name)
    outside = outside_ids(wanted.ids, ())
    stream = file.seekable(held)
    flat = _flat(stream, file.name)
    if flat is None:
        require("faiss", "faiss")
        # A code of a byte may stand for thousands of dimensions.
        found = Apart(file, "faiss", (1 << 30) + 4 * file.size, held, ratio=None)
        blocks, kind = found.blocks("vectors"), found.kinds["vectors"]
        labels = found.whole("ids") if "ids" in found.kinds else None
        params = {**found.about["params"], **library("faiss")}
    else:
        blocks, kind, labels = _blocks(stream, flat, file.name), flat.kind, flat.ids
        params = flat.params
    keys = _keys(outside, labels, file.name)
    opened = open_blocks(file.name, blocks, kind, keys, {}, file.provenance("faiss"))
    return replace(opened, params=params)


def _keys(outside: Ids | None, labels: NDArray[np.int64] | None, name: str) -> Ids:
    """Return an id per row; ids from elsewhere are looked up by the index's own, if it has any."""
    if labels is None:
        return RowNumbers() if outside is None else outside
    if outside is None:
        return pa.array(labels)
    if isinstance(outside, RowNumbers):
        return outside
    if isinstance(outside, Picked):
        at = np.minimum(np.searchsorted(outside.rows, labels), len(outside) - 1)
        there = np.flatnonzero(outside.rows[at] == labels) if len(outside) else labels[:0]
        return Picked(outside.keys.take(pa.array(at[there])), there)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(outside):
        raise BadInput(
            f"{name} has ids of its own, {labels.min()} to {labels.max()}, which are no numbers of"
            f" the {len(outside)} ids given: leave --ids out, or give a vocabulary of them",
            source=name,
        )
    return outside.take(pa.array(labels))


def _flat(stream: Any, name: str) -> _Flat | None:
    """Look at the sizes of a flat index, bare or with ids; None for any other index."""
    stream.seek(0, 2)
    size = stream.tell()
    stream.seek(0)
    kind, dim, rows, metric = _header(stream, name)
    outer, mapped = kind, rows
    if outer in _MAPS:
        kind, dim, rows, metric = _header(stream, name)
    if kind not in _FLAT:
        return None
    values = _count(stream, name)
    at = stream.tell()
    end, ids = at + 4 * values, None
    if values == rows * dim and rows == mapped and end <= size:
        if outer in _MAPS:
            stream.seek(end)
            count = _count(stream, name)
            end += 8 + 8 * count
            if count == rows and end == size:
                ids = np.frombuffer(read_exactly(stream, 8 * count, name), "<i8")
        if end == size and (outer not in _MAPS or ids is not None):
            shown = f"{_MAPS[outer]}({_FLAT[kind]})" if outer in _MAPS else _FLAT[kind]
            params: dict[str, object] = {"index": shown, "metric": _METRICS.get(metric, metric)}
            return _Flat(Kind((rows, dim), np.dtype("<f4")), at, ids, params)
    raise BadInput(
        f"{name} declares {rows} vectors of {dim} dimensions, which are not what its {size} bytes"
        " hold: it is truncated or damaged",
        source=name,
    )


def _header(stream: Any, name: str) -> tuple[bytes, int, int, int]:
    kind, dim, rows, one, two, _, metric = _HEADER.unpack(read_exactly(stream, _HEADER.size, name))
    if kind in _BINARY:
        raise BadInput(
            f"{name} is a binary index of Faiss: its vectors are bits, no numbers", source=name
        )
    if one != _FILLER or two != _FILLER or dim < 1 or rows < 0:
        raise BadInput(
            f"{name} has no header that Faiss writes: it is damaged or no index", source=name
        )
    if metric > 1:
        read_exactly(stream, 4, name)  # the metric's own parameter
    return kind, dim, rows, metric


def _count(stream: Any, name: str) -> int:
    return int.from_bytes(read_exactly(stream, 8, name), "little")


def _blocks(stream: Any, flat: _Flat, name: str) -> Iterator[NDArray[Any]]:
    stream.seek(flat.at)
    yield from row_blocks(stream, flat.kind.dtype, flat.kind.shape, name)


def _sniff(head: bytes, _: File) -> bool:
    fillers = head[16:32] == 2 * _FILLER.to_bytes(8, "little")
    return (head[:1] == b"I" and fillers) or (head[:4] in _BINARY and head[6:8] == b"\0\0")


FORMATS = (
    Format(
        "faiss",
        "a Faiss index",
        (".faiss", ".index", ".faissindex"),
        "the vectors of an index, reconstructed; ids of an IDMap, else the row numbers",
        open_faiss,
        _sniff,
        needs=Needs(("faiss",), "faiss"),
    ),
)
