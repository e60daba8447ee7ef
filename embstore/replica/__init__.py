"""Replicas: local, memory-mapped copies of versions, which answer in process.

``write`` streams a version into a folder and ends with its ``manifest``; ``grow`` goes on from an
older one where rows have joined the version; ``replica`` opens it and answers by ``ids``, ``flat``
(exact), ``approximate`` and ``attributes``; ``follow`` keeps to an alias.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .. import catalog
from ..connection import snapshot
from ..errors import InvalidQuery, LoadFailed, NotFound, ReplicaDamaged
from ..query.stream import Block, pieces
from ..types import Progress
from . import folder as folders
from .approximate import library
from .grow import Older, older
from .manifest import Manifest
from .replica import Replica, open_replica
from .write import add_index, write

if TYPE_CHECKING:
    from ..catalog import Append, VersionRow
    from ..store import Store

__all__ = ["Replica", "open_replica", "replicate"]

INDEXES = (None, "hnsw", "none")


def replicate(
    store: Store,
    version: VersionRow,
    cache_dir: str | PathLike[str] | None = None,
    *,
    index: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Replica:
    """Open the replica of a version as it is now; write it if it is not in the cache folder yet.

    Parameters and errors as of ``Version.replica``.
    """
    if index not in INDEXES:
        raise InvalidQuery(f"index={index!r}: a replica has hnsw or none")
    if index == "hnsw":
        library()
    cache = folders.cache(cache_dir)
    while True:
        with store.reading() as connection:
            key = folders.identity(connection, str(store.url.rpartition("@")[2]))
            with suppress(NotFound):  # a version that was dropped may still have its copy here
                version = catalog.resolve(connection, version.ref)
            appends = catalog.appends(connection, version.table_name, version.version)
        folder = cache / folders.name(key, version)
        with folders.writing(folder), suppress(_Grown):
            folders.sweep(cache)
            if not folder.exists():
                _write(store, folder, key, version, appends, index, progress)
            manifest = Manifest.read(folder)
            if manifest.index["kind"] == "none" and index != "none":
                add_index(folder, manifest, index, progress)
            return Replica(folder, Manifest.read(folder))


class _Grown(Exception):
    """Rows have joined the version since its catalog row was read."""


def _write(
    store: Store,
    folder: Path,
    key: str,
    version: VersionRow,
    appends: Sequence[Append],
    index: str | None,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Write a replica, from an older one of the version where there is one."""
    old = older(folder.parent, key, version, appends)
    if old is not None:
        # Whatever does not fit there, the server has all of it.
        with suppress(LoadFailed, ReplicaDamaged), closing(_rows(store, version, old)) as stream:
            write(folder, key, version, stream, index, progress, old.graph)
            return
    with closing(_rows(store, version, None)) as stream:
        write(folder, key, version, stream, index, progress)


def _rows(
    store: Store, version: VersionRow, old: Older | None
) -> Generator[Callable[[], Block], None, None]:
    """Stream what is in an older replica, then what the server has more."""
    if old is not None:
        yield from old.pieces(version)
    with store.reading() as connection, snapshot(connection):
        with suppress(NotFound):
            if catalog.resolve(connection, version.ref).checksum != version.checksum:
                raise _Grown
        yield from pieces(connection, version, None if old is None else old.since)
