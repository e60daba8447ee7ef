"""Write a replica: stream the version into a folder aside, add the index, rename.

vectors.npy, norms.npy, ids.npy or ids.arrow, rows.npy (how ids are found), attributes.arrow,
graph.faiss and, last, manifest.json. A crash at any moment leaves the folder as it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..catalog import VersionRow
from ..load.attributes import STORED
from ..load.checksum import Checksum, check_arrived
from ..query.stream import Block
from ..types import IdType, Metric, Precision, Progress
from . import approximate, ids
from .folder import aside, remove, unwritable
from .manifest import Manifest, damaged, described, synced
from .scores import Array64, Rows, lengths, set_bits

VECTORS, NORMS, ATTRIBUTES = "vectors.npy", "norms.npy", "attributes.arrow"
IDS = {IdType.BIGINT: "ids.npy", IdType.TEXT: "ids.arrow"}
# Blocks that wait to be written, of a megabyte each.
_AHEAD = 8
Report = Callable[[Progress], None]


def write(
    folder: Path,
    store: str,
    version: VersionRow,
    pieces: Iterable[Callable[[], Block]],
    index: str | None,
    progress: Report | None,
    grown: Path | None = None,
) -> None:
    """Write the replica of a version to ``folder``, which is not there yet.

    ``grown`` is a graph of its first rows.

    Raises
    ------
    LoadFailed
        When other rows arrive than the catalog promises.
    """
    try:
        partial = aside(folder)
        try:
            manifest = _content(partial, store, version, pieces, progress)
            manifest = indexed(partial, manifest, index, progress, grown)
            manifest.write(partial)
            synced(partial)
            partial.rename(folder)
            synced(folder.parent)
        except BaseException:
            remove(partial)
            raise
    except OSError as error:
        raise unwritable(folder, error) from error


def add_index(folder: Path, manifest: Manifest, index: str | None, progress: Report | None) -> None:
    """Add the index to a replica that was written without."""
    try:
        added = indexed(folder, manifest, index, progress)
        if added != manifest:
            added.write(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def indexed(
    folder: Path,
    manifest: Manifest,
    index: str | None,
    progress: Report | None,
    grown: Path | None = None,
) -> Manifest:
    """Build the index that is asked for, or say why there is none.

    Raises
    ------
    MissingPackage
        When it is asked for by name and faiss is not there.
    """
    version = manifest.version
    why = ""
    if index == "none":
        why = "asked for none"
    elif version.precision is Precision.BIT:
        why = "bits are compared with every row"
    elif index is None:
        try:
            approximate.library()
        except ImportError as error:
            why = str(error)
    if why:
        return dataclasses.replace(manifest, index={"kind": "none", "why": why})
    rows = opened_rows(folder, manifest)
    total = len(rows)
    partial = folder / f"{approximate.FILE}.partial"

    def report(done: int) -> None:
        if progress:
            progress(Progress("index", done, total))

    made = approximate.build(rows, partial, report, grown)
    synced(partial)
    files = manifest.files | {approximate.FILE: described(partial)}
    partial.rename(folder / approximate.FILE)
    return dataclasses.replace(manifest, index=made, files=files)


def opened_rows(folder: Path, manifest: Manifest) -> Rows:
    """Map the vectors and their norms."""
    version = manifest.version
    return Rows(
        mapped(folder / VECTORS),
        mapped(folder / NORMS),
        version.metric,
        version.precision,
        version.dim,
        manifest.largest,
    )


def mapped(path: Path) -> NDArray[Any]:
    """Map an array read-only, as a plain one: numpy's own memmap is slow to index.

    Raises
    ------
    ReplicaDamaged
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise damaged(path, "it is no array that numpy can map") from error


class _Array:
    """An .npy file of known shape, written in pieces; its checksum goes along."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any) -> None:
        self._file: BinaryIO = path.open("wb")
        header = {
            "shape": shape,
            "fortran_order": False,
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.flush()
        self._digest = hashlib.sha256(path.read_bytes())

    def append(self, values: NDArray[Any]) -> None:
        data = np.ascontiguousarray(values).data.cast("B") if values.size else b""
        self._digest.update(data)
        self._file.write(data)

    def described(self) -> dict[str, Any]:
        self._file.flush()
        return {"bytes": self._file.tell(), "sha256": self._digest.hexdigest()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Content:
    """The files that rows go to, one piece after the other."""

    def __init__(self, folder: Path, version: VersionRow, stack: ExitStack) -> None:
        self._version = version
        bits, total = version.precision is Precision.BIT, version.rows or 0
        width = version.precision.nbytes(version.dim) if bits else version.dim
        kind = np.dtype(np.uint8 if bits else str(version.precision))
        self.vectors = stack.enter_context(_Array(folder / VECTORS, (total, width), kind))
        self.norms = stack.enter_context(_Array(folder / NORMS, (total,), np.float64))
        self._schema = pa.schema([(each.name, STORED[each.type]) for each in version.attributes])
        self._columns = None
        if version.attributes:
            made = pa.ipc.new_file(folder / ATTRIBUTES, self._schema)
            self._columns = stack.enter_context(made)
        self.keys: list[pa.Array] = []
        self.checksum = Checksum()
        self.rows, self.zeros, self.largest = 0, 0, 0.0

    def add(self, piece: Callable[[], Block]) -> None:
        block = piece()
        self.vectors.append(block.vectors)
        norms = _norms(block.vectors, self._version)
        self.norms.append(norms)
        self.zeros += int((norms == 0).sum())
        self.largest = max(self.largest, float(norms.max()))
        self.keys.append(block.ids)
        self.checksum.update(block.ids, block.vectors)
        if self._columns is not None:
            self._columns.write(pa.record_batch(block.columns, schema=self._schema))
        self.rows += len(block.vectors)


def _content(
    folder: Path,
    store: str,
    version: VersionRow,
    pieces: Iterable[Callable[[], Block]],
    progress: Report | None,
) -> Manifest:
    total = version.rows or 0
    with ExitStack() as stack:
        content = _Content(folder, version, stack)
        # While one thread waits for the server, another does the rest.
        thread = stack.enter_context(ThreadPoolExecutor(1, "embstore-replica"))
        waiting: deque[Future[None]] = deque()
        for piece in pieces:
            waiting.append(thread.submit(content.add, piece))
            if len(waiting) > _AHEAD:
                waiting.popleft().result()
            if progress:
                progress(Progress("rows", content.rows, total))
        for each in waiting:
            each.result()
        if progress:
            progress(Progress("rows", content.rows, total))
        files = {VECTORS: content.vectors.described(), NORMS: content.norms.described()}
        # The disk has most to do for these: it begins while the ids are ordered.
        synced_too = [thread.submit(synced, folder / name) for name in files]
        how = _ids(folder, content.keys, version)
        for done in synced_too:
            done.result()
    check_arrived(version, content.rows, content.checksum)
    for name in (IDS[version.id_type], ids.FILE, ATTRIBUTES):
        if (folder / name).exists():
            files[name] = described(folder / name)
            synced(folder / name)
    zeros = content.zeros if version.metric is Metric.COSINE else 0
    index = {"kind": "none", "why": ""}
    return Manifest(store, version, how, zeros, content.largest, index, files)


def _norms(vectors: NDArray[Any], version: VersionRow) -> Array64:
    if version.precision is Precision.BIT:
        return set_bits(vectors)
    return lengths(vectors.astype(np.float32, copy=False))


def _ids(folder: Path, keys: list[pa.Array], version: VersionRow) -> dict[str, Any]:
    if version.id_type is IdType.BIGINT:
        values = pa.concat_arrays(keys) if keys else pa.array([], pa.int64())
        np.save(folder / IDS[version.id_type], np.asarray(values))
    else:
        # A hundred million ids of 30 bytes do not fit in 32-bit offsets.
        large = sum(each.nbytes for each in keys) >= 2**31
        texts = [each.cast(pa.large_string() if large else pa.string()) for each in keys]
        values = pa.concat_arrays(texts) if texts else pa.array([], pa.string())
        batch = pa.record_batch([values], ["id"])
        with pa.ipc.new_file(folder / IDS[version.id_type], batch.schema) as file:
            file.write(batch)
    return ids.build(values, folder / ids.FILE)
