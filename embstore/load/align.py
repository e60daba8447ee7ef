"""A load whose vectors are brought to the axes of another version, before they are checked.

Which rotation that takes is known when the last row has been read. So the rows are set aside in a
temporary file meanwhile, and a source is read once, as a pipe must be. The rotation of another
table's version is there already: then the rows pass as they come.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .. import catalog
from ..catalog import VersionRow
from ..compare.alignment import Alignment, check_rotatable, stored
from ..compare.rotation import Array64, Procrustes, Rotation, rotate
from ..connection import Connection, Engine
from ..errors import InvalidQuery, LoadFailed
from ..io import OneConnection, complete
from ..query.lookup import BLOCK, lookup
from ..query.target import Target
from ..readers.base import EMBEDDING, ID, Opened
from ..readers.sieve import Sieve
from ..refs import split
from ..types import Metric, Precision, Progress
from .checks import to_stored
from .ids import to_id_type
from .options import Options

Parts = Iterator[Opened]


def wanted(
    connection: Connection, version: VersionRow, name: str, options: Options
) -> VersionRow | Alignment | None:
    """Find what a load is to be aligned to; every refusal that needs no row comes from here.

    Returns
    -------
    VersionRow, Alignment or None
        A version of the same table, onto which a rotation is to be fitted; a rotation that is
        known; or nothing.

    Raises
    ------
    InvalidQuery, NotFound
    """
    asked = options.align_to
    if asked is None or isinstance(asked, Alignment):
        return asked
    own = version.table_name
    ref = f"{own}@live" if asked == "live" else asked
    to = catalog.resolve(connection, ref)
    check_rotatable(version.dim, version.precision, name, to.ref, to.dim)
    if split(ref)[0] == own:
        return to
    found = stored(connection, to)
    if found is None:
        raise InvalidQuery(
            f"{to.ref} was not aligned itself, so there is no rotation of it for {own}: load it"
            f" with align_to (--align-to), or align both in one step (embstore align {to.ref}"
            f" {own}@N --to {to.table_name}@M)"
        )
    return found


@contextmanager
def aligned(
    connection: Connection,
    engine: Engine,
    version: VersionRow,
    to: VersionRow | Alignment | None,
    parts: Parts,
    options: Options,
) -> Iterator[tuple[Parts, Alignment | None]]:
    """Give the parts of a load with their vectors rotated, and the rotation.

    Raises
    ------
    InvalidQuery
        When too few ids are in common for a rotation to be determined.
    """
    if to is None:
        yield parts, None
    elif isinstance(to, Alignment):
        yield _rotated(parts, to.step, version.precision), to
    else:
        with tempfile.TemporaryDirectory(prefix="embstore-align-") as folder:
            fit = _Fit(connection, engine, version, to, options)
            held = list(_set_aside(parts, Path(folder), fit))
            alignment = Alignment.fitted(to, fit.solved(held[0].name))
            yield _rotated(iter(held), alignment.step, version.precision), alignment


class _Fit:
    """Collects the pairs of a load's rows and the old version's, some thousands at a time."""

    def __init__(
        self,
        connection: Connection,
        engine: Engine,
        version: VersionRow,
        old: VersionRow,
        options: Options,
    ) -> None:
        self._lender = OneConnection(connection, engine)
        self._version, self._options = version, options
        self._old, self._target = old, Target.of_version(old)
        self._fit = Procrustes(old.dim, unit=old.metric is Metric.COSINE)
        # What a load leaves out or refuses has no part in the fit; who decides is the load.
        self._sieve = Sieve(lambda *_: None)
        self._held: list[tuple[pa.Array, NDArray[Any]]] = []
        self._rows = self._done = 0

    def add(self, batch: pa.RecordBatch, part: Opened) -> None:
        """Add the good rows of a batch."""
        ids, vectors = self._sieve.sift(batch, part.place, 0, self._good)
        self._held.append((ids, vectors))
        self._rows += len(ids)
        if self._rows >= BLOCK:
            self._look_up()
        self._done += len(batch)
        if self._options.progress is not None:
            self._options.progress(Progress("align", self._done, part.rows))

    def solved(self, name: str) -> Rotation:
        """Return the rotation."""
        self._look_up()
        self._fit.check(name, self._old.ref)
        return self._fit.solve()

    def _good(self, batch: pa.RecordBatch) -> tuple[pa.Array, NDArray[Any]]:
        version = self._version
        ids = to_id_type(batch.column(ID), version.id_type)
        vectors = _vectors(batch)
        return ids, to_stored(vectors, version.metric, version.precision, ids, self._options.zero)

    def _look_up(self) -> None:
        if not self._rows:
            return
        ids, vectors = zip(*self._held, strict=True)
        found = complete(lookup(self._lender, self._target, pa.concat_arrays(ids), missing="zero"))
        self._fit.add(np.concatenate(vectors)[found.found], found.vectors[found.found])
        self._held, self._rows = [], 0


def _set_aside(parts: Parts, folder: Path, fit: _Fit) -> Iterator[Opened]:
    """Write each part into a file of its own, and give parts that read these."""
    for number, part in enumerate(parts):
        path = folder / str(number)
        writer = None
        for batch in part.batches:
            fit.add(batch, part)
            with _writing(part.name, folder):
                writer = writer or pa.ipc.new_stream(str(path), batch.schema)
                writer.write_batch(batch)
        if writer is not None:
            with _writing(part.name, folder):
                writer.close()
        yield dataclasses.replace(part, batches=_read(path if writer else None))


@contextmanager
def _writing(name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LoadFailed(
            f"{name} cannot be set aside in {folder} while its rotation is fitted ({error}); let"
            " TMPDIR name a folder with room for its vectors"
        ) from error


def _read(path: Path | None) -> Iterator[pa.RecordBatch]:
    if path is None:
        return
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as batches:
        yield from batches
    path.unlink()


def _rotated(parts: Parts, matrix: Array64, precision: Precision) -> Parts:
    for part in parts:
        at = part.schema.get_field_index(EMBEDDING)
        kind = pa.list_(pa.float64(), part.dim)
        schema = part.schema.set(at, part.schema.field(at).with_type(kind))
        batches = (_turned(batch, matrix, precision) for batch in part.batches)
        yield dataclasses.replace(part, schema=schema, batches=batches)


def _turned(batch: pa.RecordBatch, matrix: Array64, precision: Precision) -> pa.RecordBatch:
    """Return a batch with its vectors rotated.

    Those that cannot be stored stay as they are: what is wrong with them is to be said of the
    components that the source has.
    """
    vectors = _vectors(batch)
    with np.errstate(over="ignore", invalid="ignore"):
        good = np.isfinite(vectors.astype(str(precision))).all(axis=1)
    values = rotate(vectors, matrix)
    if not good.all():
        values[~good] = vectors[~good]
    at = batch.schema.get_field_index(EMBEDDING)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return batch.set_column(at, batch.schema.field(at).with_type(column.type), column)


def _vectors(batch: pa.RecordBatch) -> NDArray[Any]:
    embedding = batch.column(EMBEDDING)
    return np.asarray(embedding.flatten().to_numpy().reshape(len(batch), embedding.type.list_size))
