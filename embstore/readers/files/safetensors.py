"""safetensors: a JSON header with the place of each tensor, then their data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Kind, row_blocks
from ..base import Opened, Wanted
from ..exported import is_ours, with_origin
from ..facts import public
from ..named import open_named
from ..registry import Format
from ..source import File, read_exactly

_MAX_HEADER = 16 << 20
_MAX_TENSORS = 10_000
_MAX_AXES = 32
_METADATA = "__metadata__"
# As they lie in the file. BF16 is the upper half of a float32 and is widened as it is read.
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_DTYPE = re.compile(r"[A-Z][A-Z0-9_]{1,15}", re.ASCII)


@dataclass(frozen=True)
class _Tensor:
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def kind(self) -> Kind:
        """What the others see of it; eight-bit floats and what may come are raw bytes."""
        native = "<f4" if self.dtype == "BF16" else _TYPES.get(self.dtype, "V1")
        return Kind(self.shape, np.dtype(native))


def open_safetensors(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open the tensor that holds the vectors, with the ids and biases that belong to it.

    Raises
    ------
    BadInput
    """
    stream = file.seekable(held)
    tensors, metadata, begin = _header(stream, file.name)
    if wanted.vectors in tensors and (dtype := tensors[wanted.vectors].dtype) not in _TYPES:
        raise BadInput(
            f"{file.name}: tensor {wanted.vectors!r} holds {dtype}, which is not read: save it as"
            " F32, F16 or BF16",
            source=file.name,
            column=wanted.vectors,
        )

    def blocks(name: str) -> Iterator[NDArray[Any]]:
        tensor = tensors[name]
        stream.seek(begin + tensor.start)
        raw = row_blocks(stream, np.dtype(_TYPES[tensor.dtype]), tensor.shape, file.name)
        yield from map(_widened, raw) if tensor.dtype == "BF16" else raw

    def whole(name: str) -> NDArray[Any]:
        tensor = tensors[name]
        stream.seek(begin + tensor.start)
        data = read_exactly(stream, tensor.stop - tensor.start, file.name)
        values = np.frombuffer(data, _TYPES[tensor.dtype]).reshape(tensor.shape)
        return _widened(values) if tensor.dtype == "BF16" else values

    kinds = {name: tensor.kind for name, tensor in tensors.items()}
    opened = open_named(file.name, kinds, wanted, whole, blocks, file.provenance("safetensors"))
    others = {each: value for each, value in metadata.items() if not is_ours(each)}
    return with_origin(replace(opened, params=public(others)), metadata)


def _widened(block: NDArray[Any]) -> NDArray[Any]:
    wide = block.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _header(stream: Any, name: str) -> tuple[dict[str, _Tensor], dict[str, Any], int]:
    """Read the header; returns the tensors, the metadata, and where the data begin."""
    stream.seek(0, 2)
    size = stream.tell()
    stream.seek(0)
    length = int.from_bytes(read_exactly(stream, 8, name), "little")
    if length > min(_MAX_HEADER, size - 8):
        raise BadInput(
            f"{name}: its header claims {length} bytes: it is truncated or damaged", source=name
        )
    header = json.loads(read_exactly(stream, length, name), object_pairs_hook=_once)
    metadata = header.pop(_METADATA, {})
    if len(header) > _MAX_TENSORS or not isinstance(metadata, dict):
        raise BadInput(
            f"{name} has {len(header)} tensors, or metadata that are none: it is no safetensors"
            " file",
            source=name,
        )
    tensors = {each: _tensor(each, header[each], name) for each in header}
    at = 0
    for each, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != at:
            raise _damaged(name, each, "does not begin where the one before it ends")
        at = tensor.stop
    if 8 + length + at != size:
        raise BadInput(
            f"{name} declares {at} bytes of data and has {size - 8 - length}: it is truncated or"
            " damaged",
            source=name,
        )
    return tensors, metadata, 8 + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _tensor(tensor: str, entry: Any, name: str) -> _Tensor:
    if not tensor.isprintable():
        raise _damaged(name, tensor, "has a name that cannot be printed")
    dtype, shape, offsets = (entry[each] for each in ("dtype", "shape", "data_offsets"))
    numbers = [*shape, *offsets]
    if (
        len(offsets) != 2
        or len(shape) > _MAX_AXES
        or not all(type(each) is int and 0 <= each < 1 << 63 for each in numbers)
        or not _DTYPE.fullmatch(dtype)
    ):
        raise _damaged(name, tensor, "has no valid type, shape and place")
    start, stop = offsets
    if dtype in _TYPES:
        declared = math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize
        if stop - start != declared:
            raise _damaged(name, tensor, f"declares {declared} bytes and has {stop - start}")
    return _Tensor(dtype, tuple(shape), start, stop)


def _damaged(name: str, tensor: str, how: str) -> BadInput:
    return BadInput(f"{name}: tensor {tensor!r} {how}: it is damaged", source=name, column=tensor)


def _sniff(head: bytes, file: File) -> bool:
    length = int.from_bytes(head[:8], "little")
    return (
        2 <= length <= _MAX_HEADER
        and (file.packed is not None or length + 8 <= file.size)
        and re.match(rb'\{\s*["}]', head[8:]) is not None
    )


FORMATS = (
    Format(
        "safetensors",
        "a safetensors file",
        (".safetensors",),
        "tensors: vectors, integer ids, biases",
        open_safetensors,
        _sniff,
    ),
)
