"""Replicas: local, memory-mapped copies of versions, which answer in process.

``write`` streams a version into a folder and ends with its ``manifest``; ``replica`` opens it and
answers by ``ids``, ``flat`` (exact), ``approximate`` and ``attributes``; ``follow`` keeps to an
alias.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from os import PathLike
from typing import TYPE_CHECKING

from ..errors import InvalidQuery
from ..query.stream import pieces
from ..types import Progress
from . import folder as folders
from .approximate import library
from .manifest import Manifest
from .replica import Replica, open_replica
from .write import add_index, write

if TYPE_CHECKING:
    from ..catalog import VersionRow
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
    """Open the replica of a version in a cache folder; write it if it is not there yet.

    Parameters and errors as of ``Version.replica``.
    """
    if index not in INDEXES:
        raise InvalidQuery(f"index={index!r}: a replica has hnsw or none")
    if index == "hnsw":
        library()
    cache = folders.cache(cache_dir)
    with store.reading() as connection:
        key = folders.identity(connection, str(store.url.rpartition("@")[2]))
    folder = cache / folders.name(key, version)
    with folders.writing(folder):
        folders.sweep(cache)
        if not folder.exists():
            with store.reading() as connection, closing(pieces(connection, version)) as stream:
                write(folder, key, version, stream, index, progress)
        else:
            manifest = Manifest.read(folder)
            if manifest.index["kind"] == "none" and index != "none":
                add_index(folder, manifest, index, progress)
        return Replica(folder, Manifest.read(folder))
