"""An older replica of a version that rows have joined: what is there is taken from its files.

Of the server are asked only the rows that came later. All of them are counted and summed anew as
they are written, so that what comes out is known to be the version as it is now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..append.columns import ORIGIN, OWN
from ..catalog import Append, VersionRow
from ..errors import EmbstoreError
from ..load.attributes import STORED
from ..query.stream import Block
from ..readers.base import batch_rows
from ..types import Attribute, Origin
from . import approximate
from .manifest import Manifest
from .replica import Replica
from .write import ATTRIBUTES


@dataclass(frozen=True)
class Older:
    """A replica to go on from.

    Attributes
    ----------
    replica : Replica
    since : datetime
        The ``appended_at`` of the first rows that it lacks.
    """

    replica: Replica
    since: datetime

    @property
    def graph(self) -> Path | None:
        """Its HNSW graph."""
        return self.replica.path / approximate.FILE if self.replica.index == "hnsw" else None

    def pieces(self, version: VersionRow) -> Iterator[Callable[[], Block]]:
        """Return its rows as ``query.stream.pieces`` does, with the version's attributes."""
        step = batch_rows(version.dim)
        for at in range(0, self.replica.rows, step):
            yield lambda at=at: self._block(at, step, version.attributes)  # type: ignore[misc]

    def _block(self, at: int, count: int, attributes: Sequence[Attribute]) -> Block:
        block = self.replica.block(at, count)
        # What the first append gave to the rows that were there.
        rows = len(block.ids)
        before = {
            each.name: pa.repeat(Origin.TRAINED.value, rows)
            if each == ORIGIN
            else pa.nulls(rows, STORED[each.type])
            for each in attributes[len(block.columns) :]
        }
        return Block(block.ids, [*block.columns, *before.values()], np.asarray(block.vectors))


def older(cache: Path, store: str, version: VersionRow, appends: Sequence[Append]) -> Older | None:
    """Return the replica in a cache folder that lacks the fewest of the version's rows."""
    moments = {each.checksum: after.appended_at for each, after in pairwise(appends)}
    found: list[Older] = []
    for folder in cache.glob(f"{version.ref}-*/") if version.appended else ():
        try:
            manifest = Manifest.read(folder)
            had = manifest.version
            since = moments.get(had.checksum or "")
            if not had.appended and appends:
                since = appends[0].appended_at
            if since is None or manifest.store != store or not _same(had, version):
                continue
            # Ids and vectors are summed as they are copied; these two are not.
            manifest.verify(folder, {ATTRIBUTES, approximate.FILE})
            found.append(Older(Replica(folder, manifest), since))
        except EmbstoreError:
            continue  # damaged, or just being removed
    return max(found, key=lambda each: each.since, default=None)


def _same(had: VersionRow, version: VersionRow) -> bool:
    """Whether the columns of an older replica are the version's, but for those of an append."""
    kinds = (had.ref, had.dim, had.id_type, had.metric, had.precision)
    now = (version.ref, version.dim, version.id_type, version.metric, version.precision)
    own, more = len(had.attributes), version.attributes[len(had.attributes) :]
    return kinds == now and version.attributes[:own] == had.attributes and set(more) <= set(OWN)
