"""ONNX: a model's initializers.

The protobuf messages are walked here, field by field from the file, so that no model is read whole
and no size is believed: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...errors import BadInput, EmbstoreError
from ..arrays import Rows
from ..base import Opened, Wanted
from ..facts import public
from ..matrices import open_parameters
from ..registry import Format
from ..source import File, read_exactly
from ..tensors import by_layer

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The numbers of TensorProto.DataType; bfloat16 is read as the upper half of a float32.
_BFLOAT16 = 16
_TYPES = {
    1: "f4",
    2: "u1",
    3: "i1",
    4: "u2",
    5: "i2",
    6: "i4",
    7: "i8",
    9: "?",
    10: "f2",
    11: "f8",
    12: "u4",
    13: "u8",
    _BFLOAT16: "u2",
}
# Fields of TensorProto that hold its numbers: as they are, and each as a varint.
_VARINTS = {5, 7, 11}
_DATA = {4, 9, 10} | _VARINTS
# Models have some ten thousand nodes; each is one field to step over, two microseconds.
_MAX_FIELDS = 500_000
_MAX_TEXT = 4096
_MAX_FACTS, _MAX_SHAPE = 64, 64


@dataclass(frozen=True)
class _Span:
    """Some bytes of the file."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


class _Message:
    """The fields of protobuf messages in a file."""

    def __init__(self, stream: Any, name: str) -> None:
        self.stream, self.name = stream, name
        self._left = _MAX_FIELDS

    def fields(self, span: _Span) -> Iterator[tuple[int, Any]]:
        """Give number and value of each field: an integer, or where its bytes are."""
        at = span.start
        while at < span.end:
            self._left -= 1
            if self._left < 0:
                raise self.damaged(f"it has more than {_MAX_FIELDS} fields")
            self.stream.seek(at)
            head = self.stream.read(min(20, span.end - at))
            key, used = self._varint(head, 0)
            number, wire = key >> 3, key & 7
            if not 1 <= number <= 100 or wire not in {_VARINT, _FIXED64, _BYTES, _FIXED32}:
                raise self.damaged(f"there is no field at byte {at}")
            value: Any = None
            if wire in {_VARINT, _BYTES}:
                value, used = self._varint(head, used)
            at += used
            if wire != _VARINT:
                size = {_BYTES: value, _FIXED64: 8, _FIXED32: 4}[wire]
                if at + size > span.end:
                    raise BadInput(
                        f"{self.name} ends {at + size - span.end} bytes early: it is truncated",
                        source=self.name,
                    )
                value = _Span(at, size)
                at += size
            yield number, value

    def _varint(self, data: bytes, at: int) -> tuple[int, int]:
        value = 0
        for shift, byte in enumerate(data[at : at + 10]):
            value |= (byte & 0x7F) << 7 * shift
            if byte < 0x80:
                return value, at + shift + 1
        raise self.damaged("a number in it does not end")

    def damaged(self, why: str) -> BadInput:
        return BadInput(
            f"{self.name} is no ONNX model, or damaged: {why}; check it with onnx.checker",
            source=self.name,
        )

    def span(self, value: Any) -> _Span:
        if not isinstance(value, _Span):
            raise self.damaged("a field has another type")
        return value

    def bytes(self, value: Any) -> bytes:
        span = self.span(value)
        self.stream.seek(span.start)
        return read_exactly(self.stream, span.size, self.name)

    def text(self, value: Any) -> str:
        span = self.span(value)
        return self.bytes(_Span(span.start, min(span.size, _MAX_TEXT))).decode("utf-8", "replace")

    def varints(self, value: Any) -> NDArray[np.uint64]:
        """Return packed varints."""
        data = np.frombuffer(self.bytes(value), np.uint8)
        ends = np.flatnonzero(data < 0x80)
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts + 1
        if not len(ends) or ends[-1] != len(data) - 1 or lengths.max() > 10:
            raise self.damaged("a number in it does not end")
        values = np.zeros(len(ends), np.uint64)
        for place in range(int(lengths.max())):
            there = lengths > place
            bits = (data[starts[there] + place] & 0x7F).astype(np.uint64)
            values[there] |= bits << np.uint64(7 * place)
        return values


def open_onnx(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a model; ``vectors=`` names an initializer.

    Data that the model keeps beside itself are read from files of the same folder only.

    Raises
    ------
    BadInput
        When it is no model, is damaged, or the choice is not plain.
    """
    message = _Message(file.seekable(held), file.name)
    beside = _Beside(file, held)
    facts: dict[str, object] = {}
    arrays: dict[str, Rows] = {}
    for number, value in message.fields(_Span(0, message.stream.seek(0, 2))):
        if number != 7:
            facts |= _fact(message, number, value) if len(facts) < _MAX_FACTS else {}
            continue
        for inner, part in message.fields(message.span(value)):
            if inner == 2:
                facts["graph"] = message.text(part)
            elif inner == 5:
                tensor = _tensor(message, message.span(part))
                arrays[tensor.name] = tensor.rows(message, beside)
    if not arrays:
        raise BadInput(f"{file.name} has no initializers, which hold weights", source=file.name)
    opened = open_parameters(file.name, by_layer(arrays), wanted, file.provenance("onnx"))
    return replace(
        opened,
        batches=beside.guarded(opened.batches),
        trainer=str(facts.get("producer_name") or "onnx"),
        params=public(facts),
    )


def _fact(message: _Message, number: int, value: Any) -> dict[str, object]:
    """Return what a field of ModelProto says about the model."""
    texts = {2: "producer_name", 3: "producer_version", 4: "domain", 6: "doc_string"}
    numbers = {1: "ir_version", 5: "model_version"}
    if number in texts:
        return {texts[number]: message.text(value)}
    if number in numbers:
        return {numbers[number]: value}
    if number == 8:  # an operator set: its domain and version
        found = dict(message.fields(message.span(value)))
        domain = message.text(found[1]) if 1 in found else ""
        return {f"opset {domain}".strip(): found.get(2)}
    if number == 14:  # a key and a value that the exporter has added
        found = dict(message.fields(message.span(value)))
        if found.keys() >= {1, 2}:
            return {message.text(found[1]): message.text(found[2])}
    return {}


class _Beside:
    """The files beside a model that hold its data."""

    def __init__(self, model: File, held: ExitStack) -> None:
        self.model, self.held = model, held
        self._opened: dict[str, tuple[File, _Message]] = {}

    def open(self, called: str, tensor: str, end: int) -> _Message:
        """Open a file for data that reach to its byte ``end``.

        Raises
        ------
        BadInput
            When it is not in the model's own folder, or too short.
        """
        if called not in self._opened:
            own = self.model.place.path
            if own is None:
                raise self._refused(
                    tensor,
                    f"the data of {tensor!r} are in another file, {called!r}: copy both into one"
                    " folder of this machine, or save the model in one file",
                )
            path = own.parent / called
            # A cache keeps a model and its data as links into one other folder.
            homes = {own.parent.resolve(), own.resolve().parent}
            if Path(called).name != called or path.resolve().parent not in homes:
                raise self._refused(
                    tensor,
                    f"the data of {tensor!r} are in {called!r}, which is no file beside the model:"
                    " only such are read; save the model in one file",
                )
            try:
                data = File.find(path)
            except EmbstoreError as error:
                raise self._refused(
                    tensor,
                    f"the data of {tensor!r} are in {called!r} beside the model, which is not there"
                    " or cannot be read: put it there",
                ) from error
            self._opened[called] = data, _Message(data.stream(self.held), data.name)
        data, message = self._opened[called]
        if end > data.size:
            raise self._refused(
                tensor,
                f"{called!r} beside it ends before the data of {tensor!r}: it is truncated, or"
                " another model's",
            )
        return message

    def _refused(self, tensor: str, why: str) -> BadInput:
        name = self.model.name
        return BadInput(f"{name}: {why}", source=name, column=tensor)

    def guarded(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Pass on the batches; refuse files that were written to meanwhile."""
        yield from batches
        for data, _ in self._opened.values():
            data.check_unchanged()


@dataclass
class _Tensor:
    """A TensorProto: what it says, and where its data are."""

    name: str = ""
    kind: int = 0
    shape: tuple[int, ...] = ()
    data: _Span | None = None
    varints: bool = False
    external: bool = False
    entries: dict[str, str] = field(default_factory=dict)

    def rows(self, message: _Message, beside: _Beside) -> Rows:
        """Return its rows; of type ``object`` where they are no vectors, ids or attributes."""
        if self.kind not in _TYPES or not 1 <= len(self.shape) <= 2 or 0 in self.shape:
            return Rows(self.shape, np.dtype(object), _unread)
        stored = np.dtype(_TYPES[self.kind]).newbyteorder("<")
        dtype = _numbers(np.empty(0, stored), self.kind).dtype
        size = math.prod(self.shape) * stored.itemsize

        @cache
        def whole() -> NDArray[Any]:
            # Numbers of several lengths have no rows to seek.
            values = message.varints(self.data)
            if len(values) != math.prod(self.shape):
                raise self._mismatch(message, values.nbytes)
            bits = values.astype(f"<u{stored.itemsize}").view(stored)
            return _numbers(bits, self.kind).reshape(self.shape)

        @cache
        def place() -> tuple[_Message, int]:
            if not self.external:
                assert self.data is not None
                return message, self.data.start
            offset, length = self.entries.get("offset", "0"), self.entries.get("length", str(size))
            if not re.fullmatch("[0-9]{1,18}", offset) or length != str(size):
                raise self._mismatch(message, length)
            end = int(offset) + size
            return beside.open(self.entries.get("location", ""), self.name, end), int(offset)

        def read(at: int, count: int) -> NDArray[Any]:
            source, start = place()
            width = size // self.shape[0]
            flat = np.frombuffer(source.bytes(_Span(start + at * width, count * width)), stored)
            return _numbers(flat, self.kind).reshape(count, *self.shape[1:])

        if self.varints and not self.external:
            return Rows(self.shape, dtype, lambda at, count: whole()[at : at + count])
        if not self.external and (self.data is None or self.data.size != size):
            raise self._mismatch(message, self.data.size if self.data else 0)
        return Rows(self.shape, dtype, read)

    def _mismatch(self, message: _Message, size: object) -> BadInput:
        return BadInput(
            f"{message.name}: initializer {self.name!r} of shape {self.shape} has {size} bytes of"
            " data: it is damaged",
            source=message.name,
            column=self.name,
        )


def _tensor(message: _Message, span: _Span) -> _Tensor:
    tensor = _Tensor()
    for number, value in message.fields(span):
        if number == 1:
            packed = isinstance(value, _Span) and value.size <= _MAX_SHAPE
            more = message.varints(value).tolist() if packed else [value]
            tensor.shape = (*tensor.shape, *more)
            if len(tensor.shape) > _MAX_SHAPE or not all(type(each) is int for each in more):
                raise message.damaged(f"initializer {tensor.name!r} has no shape")
        elif number == 2:
            tensor.kind = value
        elif number == 8:
            tensor.name = message.text(value)
        elif number in _DATA:
            if tensor.data is not None:
                raise message.damaged(f"initializer {tensor.name!r} has its data in pieces")
            tensor.data, tensor.varints = message.span(value), number in _VARINTS
        elif number == 13:
            entry = dict(message.fields(message.span(value)))
            if entry.keys() >= {1, 2}:
                tensor.entries[message.text(entry[1])] = message.text(entry[2])
        elif number == 14:
            tensor.external = value == 1
    return tensor


def _numbers(flat: NDArray[Any], kind: int) -> NDArray[Any]:
    return (flat.astype("<u4") << 16).view("<f4") if kind == _BFLOAT16 else flat


def _unread(at: int, count: int) -> NDArray[Any]:
    raise NotImplementedError


FORMATS = (
    Format(
        "onnx",
        "an ONNX model",
        (".onnx",),
        "an initializer: --vectors its name",
        open_onnx,
        # The version of the format, then the producer, as all exporters write them.
        lambda head, _: re.match(rb"\x08[\x03-\x20][\x12\x1a:]", head) is not None,
        weak=True,
    ),
)
