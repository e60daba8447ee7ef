"""Zip archives, looked through before anything in them is unpacked."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from typing import Any

from ..errors import BadInput
from .source import FREE_BYTES, MAX_RATIO, too_large

# No model has so many arrays, and each costs a look.
MAX_MEMBERS = 10_000
_LOCAL_HEADER = 30


def open_zip(name: str, stream: Any, held: ExitStack) -> zipfile.ZipFile:
    """Open an archive whose members are few, have names of their own, and are no bombs.

    Raises
    ------
    BadInput
    """
    archive = held.enter_context(zipfile.ZipFile(stream))
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise BadInput(
            f"{name} has {len(members)} members: no model or .npz has so many",
            source=name,
        )
    seen = set()
    for info in members:
        if info.filename in seen:
            raise BadInput(f"{name}: member {info.filename!r} is there twice", source=name)
        seen.add(info.filename)
    unpacked, packed = (sum(getattr(each, key) for each in members) for key in _SIZES)
    for size, from_size in ((unpacked, packed), *((i.file_size, i.compress_size) for i in members)):
        if size > max(FREE_BYTES, MAX_RATIO * from_size):
            raise too_large(name)
    return archive


_SIZES = ("file_size", "compress_size")


def first_member(head: bytes) -> str:
    """Return the name of an archive's first member, from its first bytes; empty if it is none."""
    if not head.startswith(b"PK\x03\x04"):
        return ""
    length = int.from_bytes(head[26:28], "little")
    return head[_LOCAL_HEADER : _LOCAL_HEADER + length].decode("latin1")


def data_offset(stream: Any, info: zipfile.ZipInfo) -> int:
    """Return where the bytes of a member begin in the archive."""
    stream.seek(info.header_offset)
    header = stream.read(_LOCAL_HEADER)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return info.header_offset + _LOCAL_HEADER + name + extra
