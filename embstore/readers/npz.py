""".npz: several arrays in a zip file."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput
from .base import EMBEDDING, ID, Opened
from .columns import count_mismatch
from .idfile import id_array, outside_ids
from .npy import Header, blocks, component_type, read_header
from .source import File, read_exactly

_MEMBER = re.compile(r"[A-Za-z0-9_.\-]+\.npy")
# A member that unpacks to more than this may not do so by more than this ratio.
_FREE_BYTES, _MAX_RATIO = 64 << 20, 200


@contextmanager
def open_npz(file: File, ids: object, vectors: str | None) -> Iterator[Opened]:
    """Open the array that holds the vectors, with the ids and biases that belong to it."""
    with (
        file.reading("a .npz file"),
        file.seekable() as raw,
        zipfile.ZipFile(raw) as archive,
    ):
        headers = _headers(archive, file)
        chosen = choose(headers, file.name, ids, vectors)
        rows, dim = headers[chosen.vectors].shape
        keys = outside_ids(ids, list(headers)) if chosen.ids is None else None
        if keys is None:
            assert chosen.ids is not None
            keys = id_array(_whole(archive, headers, chosen.ids, file.name), file.name)
        if len(keys) != rows:
            raise count_mismatch(file.name, rows, len(keys))
        extra = {each: _whole(archive, headers, each, file.name) for each in chosen.attributes}
        schema = named_schema(keys, headers[chosen.vectors].dtype, dim, extra)

        def batches() -> Iterator[pa.RecordBatch]:
            with (
                file.reading("a .npz file"),
                archive.open(f"{chosen.vectors}.npy") as member,
            ):
                header, _ = read_header(member, file.name)
                matrix = blocks(member, header, file.name)
                yield from named_batches(matrix, keys, extra, schema)
                if member.read(1):  # also makes zipfile check the member's CRC
                    raise BadInput(
                        f"{file.name}: {chosen.vectors} goes on behind its array", source=file.name
                    )

        provenance = {**file.provenance("npz"), "array": chosen.vectors}
        yield Opened(file.name, schema, batches(), rows, provenance=provenance)


class Choice:
    """Which named array is what."""

    def __init__(self, vectors: str, ids: str | None, attributes: list[str]) -> None:
        self.vectors, self.ids, self.attributes = vectors, ids, attributes


def choose(headers: dict[str, Header], name: str, ids: object, vectors: str | None) -> Choice:
    """Choose the arrays: the vectors' name, and ids of the same length and likest name.

    Raises
    ------
    BadInput
        When the choice is not plain, listing what there is.
    """
    matrices = [n for n, h in headers.items() if len(h.shape) == 2 and h.dtype.kind in "fiu"]
    listed = ", ".join(map(repr, headers)) or "nothing"
    if vectors is None:
        if len(matrices) != 1:
            what = f"could be {', '.join(map(repr, matrices))}" if matrices else "are not there"
            raise BadInput(
                f"{name}: the vectors {what}; say with --vectors (it has {listed})", source=name
            )
        vectors = matrices[0]
    elif vectors not in matrices:
        raise BadInput(
            f"{name} has no two-dimensional array {vectors!r}: it has {listed}", source=name
        )
    rows = headers[vectors].shape[0]
    if not rows:
        raise BadInput(f"{name}: {vectors} holds no rows: there is nothing to load", source=name)
    beside = [n for n, h in headers.items() if h.shape == (rows,)]
    keys = [n for n in beside if headers[n].dtype.kind in "iuSU"]
    own: str | None = None
    if isinstance(ids, str) and ids in headers:
        own = ids
    elif ids is None:
        best = max((_common(each, vectors) for each in keys), default=0)
        likest = [each for each in keys if _common(each, vectors) == best]
        if len(likest) > 1 and ID in likest:
            likest = [ID]
        if len(likest) != 1:
            what = f"could be {', '.join(map(repr, likest))}" if likest else "are not there"
            raise BadInput(
                f"{name}: the ids of {vectors} {what}; say with --ids NAME or --ids FILE",
                source=name,
            )
        own = likest[0]
    prefix = os.path.commonprefix([own, vectors]) if own else vectors.rstrip("abcdefghijklmnopqrstuvwxyz")
    attributes = [
        each for each in beside if each != own and prefix and each.startswith(prefix)
        and headers[each].dtype.kind in "fiuSU"
    ]
    return Choice(vectors, own, attributes)


def _common(a: str, b: str) -> int:
    return len(os.path.commonprefix([a, b]))


def named_schema(
    ids: pa.Array, dtype: np.dtype[Any], dim: int, extra: dict[str, NDArray[Any]]
) -> pa.Schema:
    """Return the schema of `named_batches`."""
    component = pa.from_numpy_dtype(component_type(dtype))
    return pa.schema(
        [
            (ID, ids.type),
            (EMBEDDING, pa.list_(component, dim)),
            *((name, pa.array(values[:0]).type) for name, values in extra.items()),
        ]
    )


def named_batches(
    matrix: Iterator[NDArray[Any]],
    ids: pa.Array,
    extra: dict[str, NDArray[Any]],
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """Pair blocks (n, dim) with their ids and the values beside them."""
    at = 0
    for block in matrix:
        here = slice(at, at + len(block))
        flat = pa.array(block.astype(component_type(block.dtype), copy=False).ravel())
        yield pa.RecordBatch.from_arrays(
            [
                ids.slice(at, len(block)),
                pa.FixedSizeListArray.from_arrays(flat, block.shape[1]),
                *(pa.array(values[here]) for values in extra.values()),
            ],
            schema=schema,
        )
        at += len(block)


def _headers(archive: zipfile.ZipFile, file: File) -> dict[str, Header]:
    """Look at every member's header; refuse what no numpy writes."""
    headers: dict[str, Header] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if not _MEMBER.fullmatch(info.filename) or name in headers:
            raise BadInput(
                f"{file.name}: member {info.filename!r} is no array that numpy.savez writes, or is"
                " there twice",
                source=file.name,
            )
        if info.file_size > max(_FREE_BYTES, _MAX_RATIO * info.compress_size):
            raise BadInput(
                f"{file.name}: {name} unpacks to more than {_MAX_RATIO} times its size: it is"
                " refused as a decompression bomb",
                source=file.name,
            )
        with archive.open(info) as member:
            header, length = read_header(member, f"{file.name} ({name})")
        if length + header.nbytes != info.file_size:
            raise BadInput(
                f"{file.name}: {name} declares {header.nbytes} bytes of data and has"
                f" {info.file_size - length}: it is damaged",
                source=file.name,
            )
        headers[name] = header
    return headers


def _whole(
    archive: zipfile.ZipFile, headers: dict[str, Header], member: str, name: str
) -> NDArray[Any]:
    with archive.open(f"{member}.npy") as stream:
        header, _ = read_header(stream, name)
        values = np.frombuffer(read_exactly(stream, header.nbytes, name), header.dtype)
        stream.read(1)  # makes zipfile check the member's CRC
    values = values.astype(header.dtype.newbyteorder("="))
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
