""".npz: several arrays in a zip file."""

from __future__ import annotations

import re
import zipfile
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Kind, choose, matrix_batches, matrix_schema, value_array
from ..base import Opened, Wanted, check_count
from ..ids import id_array, outside_ids
from ..registry import Format
from ..source import FREE_BYTES, MAX_RATIO, File, read_exactly
from .npy import Header, blocks, read_header

_MEMBER = re.compile(r"[A-Za-z0-9_.\-]+\.npy")
# No model has so many arrays, and each costs a look at its header.
_MAX_MEMBERS = 10_000


def open_npz(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open the array that holds the vectors, with the ids and biases that belong to it."""
    archive = held.enter_context(zipfile.ZipFile(file.seekable(held)))
    headers = _headers(archive, file)
    outside = outside_ids(wanted.ids, list(headers), file.name)
    inside = wanted.ids if isinstance(wanted.ids, str) and outside is None else None
    kinds = {name: Kind(each.shape, each.dtype) for name, each in headers.items()}
    chosen = choose(kinds, file.name, inside, wanted.vectors, outside is not None)
    keys = outside
    if chosen.ids is not None:
        keys = id_array(_whole(archive, chosen.ids, file.name), f"{file.name} ({chosen.ids})")
    assert keys is not None
    rows, dim = headers[chosen.vectors].shape
    check_count(file.name, rows, keys)
    extra = {each: value_array(_whole(archive, each, file.name)) for each in chosen.attributes}
    schema = matrix_schema(keys, headers[chosen.vectors].dtype, dim, extra)
    member = held.enter_context(archive.open(f"{chosen.vectors}.npy"))
    header, _ = read_header(member, file.name)
    matrix = blocks(member, header, f"{file.name} ({chosen.vectors})", held)
    return Opened(
        file.name,
        schema,
        matrix_batches(matrix, keys, schema, extra),
        rows,
        provenance={**file.provenance("npz"), "array": chosen.vectors},
    )


def _headers(archive: zipfile.ZipFile, file: File) -> dict[str, Header]:
    """Look at every member's header; refuse what no numpy writes."""
    members = archive.infolist()
    _check_members(members, file)
    headers: dict[str, Header] = {}
    for info in members:
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


def _check_members(members: list[zipfile.ZipInfo], file: File) -> None:
    if len(members) > _MAX_MEMBERS:
        raise BadInput(f"{file.name} has {len(members)} members: it is no .npz", source=file.name)
    names = set()
    for info in members:
        if not _MEMBER.fullmatch(info.filename) or info.filename in names:
            raise BadInput(
                f"{file.name}: member {info.filename!r} is no array that numpy.savez writes, or is"
                " there twice",
                source=file.name,
            )
        names.add(info.filename)
    unpacked, packed = (sum(getattr(i, key) for i in members) for key in _SIZES)
    for size, from_size in ((unpacked, packed), *((i.file_size, i.compress_size) for i in members)):
        if size > max(FREE_BYTES, MAX_RATIO * from_size):
            raise BadInput(
                f"{file.name} unpacks to more than {MAX_RATIO} times its size: it is refused as a"
                " decompression bomb",
                source=file.name,
            )


_SIZES = ("file_size", "compress_size")


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
