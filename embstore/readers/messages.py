"""The messages of Arrow IPC: what their compressed buffers claim to become.

Arrow allocates what a buffer says of its size, an int64, before it unpacks. The layout is that of
https://arrow.apache.org/docs/format/Columnar.html (encapsulated messages, Footer) in flatbuffers.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

from ..errors import BadInput
from .source import FREE_BYTES, MAX_RATIO, read_exactly, read_up_to, too_large

MAGIC = b"ARROW1"
_CONTINUED = b"\xff\xff\xff\xff"
_DICTIONARY, _BATCH = 2, 3


class _Flat:
    """A flatbuffer, as far as it is needed; offsets that lead outside raise struct.error."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def number(self, kind: str, at: int) -> int:
        if at < 0:
            raise struct.error("a negative offset")
        return int(struct.unpack_from(f"<{kind}", self._data, at)[0])

    def field(self, table: int, place: int) -> int:
        """Return where a table has a field; 0 if it has none."""
        layout = table - self.number("i", table)
        if 6 + 2 * place > self.number("H", layout):
            return 0
        offset = self.number("H", layout + 4 + 2 * place)
        return table + offset if offset else 0

    def target(self, at: int) -> int:
        """Return where an offset leads."""
        return at + self.number("I", at)


def body_size(metadata: bytes) -> int:
    """Return how many bytes a message's body has."""
    flat = _Flat(metadata)
    at = flat.field(flat.target(0), 3)
    return flat.number("q", at) if at else 0


def check_message(metadata: bytes, read_size: Callable[[int], bytes], name: str) -> None:
    """Refuse a batch whose buffers unpack to more than a file can hold with reason.

    Parameters
    ----------
    read_size : callable
        Reads 8 bytes at an offset in the message's body.

    Raises
    ------
    BadInput
    """
    flat = _Flat(metadata)
    message = flat.target(0)
    kind_at, header_at = flat.field(message, 1), flat.field(message, 2)
    kind = flat.number("B", kind_at) if kind_at else 0
    if kind not in (_DICTIONARY, _BATCH) or not header_at:
        return
    batch = flat.target(header_at)
    if kind == _DICTIONARY:
        batch = flat.target(flat.field(batch, 1))
    buffers_at = flat.field(batch, 2)
    if not flat.field(batch, 3) or not buffers_at:
        return  # not compressed
    buffers = flat.target(buffers_at)
    packed = unpacked = 0
    for i in range(flat.number("I", buffers)):
        offset, length = (flat.number("q", buffers + 4 + 16 * i + 8 * half) for half in (0, 1))
        if length > 0:
            (size,) = struct.unpack("<q", read_size(offset))
            packed += length
            unpacked += length if size == -1 else size
            if size < -1 or unpacked > max(FREE_BYTES, MAX_RATIO * packed):
                raise too_large(name)


def check_file(file: Any, name: str) -> None:
    """Look at all batches of a file that can be read out of order.

    Raises
    ------
    BadInput
    """
    end = file.seek(0, 2)
    file.seek(max(0, end - 10))
    tail = file.read(10)
    size = int.from_bytes(tail[:4], "little", signed=True)
    if not tail.endswith(MAGIC) or not 0 < size <= end - 18:
        return  # which Arrow tells in its own words
    file.seek(end - 10 - size)
    footer = _Flat(read_exactly(file, size, name))
    for place in (2, 3):
        at = footer.field(footer.target(0), place)
        blocks = footer.target(at) if at else 0
        for i in range(footer.number("I", blocks) if at else 0):
            block = blocks + 4 + 24 * i
            start, length = footer.number("q", block), footer.number("i", block + 8)
            if start < 0 or not 8 <= length <= end - start:
                return
            file.seek(start)
            metadata = read_exactly(file, length, name)
            prefix = 8 if metadata.startswith(_CONTINUED) else 4

            def read_size(offset: int, body: int = start + length) -> bytes:
                file.seek(body + offset)
                return bytes(file.read(8))

            check_message(metadata[prefix:], read_size, name)


class Patient(io.RawIOBase):
    """A file for Arrow, which would allocate at once whatever length a message claims."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes as asked for, fewer at the end."""
        return read_up_to(self._stream.read, size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; return it."""
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        """Return the place."""
        return int(self._stream.tell())


class Checked(io.RawIOBase):
    """A stream for Arrow whose messages are looked at before Arrow sees them."""

    def __init__(self, stream: Any, name: str) -> None:
        super().__init__()
        self._stream, self._name = Patient(stream), name
        self._ready: list[bytes] = []
        self._over = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes as asked for, fewer at the end.

        Raises
        ------
        BadInput
        """
        parts: list[bytes] = []
        while size and (self._ready or not self._over):
            if not self._ready:
                self._ready = [each for each in self._message() if each]
                continue
            part = self._ready.pop(0)
            if 0 < size < len(part):
                self._ready.insert(0, part[size:])
                part = part[:size]
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _message(self) -> list[bytes]:
        """Read the next message: its prefix, its metadata and its body."""
        prefix = self._stream.read(4)
        length = prefix
        if prefix == _CONTINUED:
            length = self._stream.read(4)
            prefix += length
        size = int.from_bytes(length, "little", signed=True)
        metadata = self._stream.read(max(0, size))
        if size <= 0 or len(length) < 4 or len(metadata) < size:
            self._over = True  # or it ends early, which Arrow tells in its own words
            if length == bytes(4) and self._stream.read(1):
                raise BadInput(f"{self._name} goes on behind its end: it is damaged")
            return [prefix, metadata]
        count = body_size(metadata)
        body = self._stream.read(max(0, count))
        if len(body) == count:
            check_message(metadata, lambda offset: body[offset : offset + 8], self._name)
        return [prefix, metadata, body]
