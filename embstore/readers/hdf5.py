"""Text attributes of HDF5 objects, read from the file itself.

The HDF5 library hangs on, or takes gigabytes for, a text whose place or length is damaged. The
form is of the HDF5 File Format Specification 3.0, sections III.E, IV.A.1.a and IV.A.2.m.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_FIXED, _VARIABLE = 3, 9
_MAX_HEADERS = 100
_MAX_HEADER, _MAX_TEXT = 1 << 20, 64 << 20


def text_attribute(stream: Any, address: int, name: str) -> str | None:
    """Return an attribute of the object whose header is at ``address``.

    None where it is no single text, or the object is written in the form of HDF5 1.8 or damaged.
    """
    try:
        for kind, body in _messages(stream, address):
            if kind == _ATTRIBUTE and (found := _text(stream, body, name.encode())) is not None:
                return found.rstrip(b"\0").decode("utf-8", "replace")
    except (struct.error, IndexError):
        pass
    return None


def _messages(stream: Any, address: int) -> Iterator[tuple[int, bytes]]:
    version, size = struct.unpack("<B7xI4x", _read(stream, address, 16))
    if version != 1:
        return
    chunks = [(address + 16, size)]
    for at, size in chunks:  # which grows on the way
        if size > _MAX_HEADER or len(chunks) > _MAX_HEADERS:
            return
        chunk, here = _read(stream, at, size), 0
        while here + 8 <= len(chunk):
            kind, length = struct.unpack_from("<HH", chunk, here)
            body = chunk[here + 8 : here + 8 + length]
            if kind == _CONTINUATION:
                chunks.append(struct.unpack_from("<QQ", body))
            yield kind, body
            here += 8 + length


def _text(stream: Any, body: bytes, name: bytes) -> bytes | None:
    version, *sizes = struct.unpack_from("<BxHHH", body)
    at, parts = 9 if version == 3 else 8, []
    for size in sizes:
        parts.append(body[at : at + size])
        at += size if version > 1 else -(-size // 8) * 8
    called, kind, space = parts
    if called.rstrip(b"\0") != name or space[1] != 0:
        return None
    if kind[0] & 15 == _FIXED:
        return body[at : at + struct.unpack_from("<I", kind, 4)[0]]
    if kind[0] & 15 == _VARIABLE:
        length, address, index = struct.unpack_from("<IQI", body, at)
        return _heap_object(stream, address, index)[:length]
    return None


def _heap_object(stream: Any, address: int, index: int) -> bytes:
    """Return an object of a global heap collection."""
    magic, size = struct.unpack("<4s4xQ", _read(stream, address, 16))
    if magic != b"GCOL" or size > _MAX_TEXT:
        return b""
    heap, at = _read(stream, address, size), 16
    while at + 16 <= len(heap):
        number, length = struct.unpack_from("<H6xQ", heap, at)
        if number in {0, index}:
            return heap[at + 16 : at + 16 + length] if number else b""
        at += 16 + -(-length // 8) * 8
    return b""


def _read(stream: Any, at: int, size: int) -> bytes:
    if not 0 <= at < stream.seek(0, 2):
        raise IndexError
    stream.seek(at)
    data: bytes = stream.read(size)
    return data
