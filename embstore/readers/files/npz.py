""".npz: several arrays in a zip file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Kind
from ..base import Opened, Wanted
from ..named import open_named
from ..registry import Format
from ..source import File, read_exactly
from ..zipped import open_zip
from .npy import Header, blocks, read_header

_MEMBER = re.compile(r"[A-Za-z0-9_.\-]+\.npy")


def open_npz(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open the array that holds the vectors, with the ids and biases that belong to it."""
    archive = open_zip(file.name, file.seekable(held), held)
    headers = _headers(archive, file)

    def matrix(array: str) -> Iterator[NDArray[Any]]:
        member = held.enter_context(archive.open(f"{array}.npy"))
        header, _ = read_header(member, file.name)
        yield from blocks(member, header, f"{file.name} ({array})", held)

    return open_named(
        file.name,
        {name: Kind(each.shape, each.dtype) for name, each in headers.items()},
        wanted,
        lambda array: _whole(archive, array, file.name),
        matrix,
        file.provenance("npz"),
    )


def _headers(archive: zipfile.ZipFile, file: File) -> dict[str, Header]:
    """Look at every member's header; refuse what no numpy writes."""
    headers: dict[str, Header] = {}
    for info in archive.infolist():
        if not _MEMBER.fullmatch(info.filename):
            raise BadInput(
                f"{file.name}: member {info.filename!r} is no array that numpy.savez writes",
                source=file.name,
            )
        name = info.filename.removesuffix(".npy")
        with archive.open(info) as member:
            header, length = read_header(member, f"{file.name} ({name})")
        if length + header.nbytes != info.file_size:
            raise BadInput(
                f"{file.name}: {name} declares {header.nbytes} bytes of data and has"
                f" {info.file_size - length}: it is damaged",
                source=file.name,
                column=name,
            )
        headers[name] = header
    return headers


def _whole(archive: zipfile.ZipFile, member: str, name: str) -> NDArray[Any]:
    with archive.open(f"{member}.npy") as stream:
        header, _ = read_header(stream, name)
        data = read_exactly(stream, header.nbytes, name)
        stream.read(1)  # makes zipfile check the member's CRC
    return np.frombuffer(data, header.dtype)


FORMATS = (
    Format(
        "npz",
        "a .npz file",
        (".npz",),
        "numpy arrays: vectors, ids, biases",
        open_npz,
        lambda head, _: head.startswith((b"PK\x03\x04", b"PK\x05\x06")),
    ),
)
