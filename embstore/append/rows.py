"""New rows, batch by batch: checked as a load checks them, new to the version, and copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql

from ..catalog import VersionRow
from ..compare.rotation import Array64, rotate
from ..connection import Connection, Engine
from ..errors import BadInput, DimensionMismatch, DuplicateId, LoadFailed
from ..load import writer
from ..load.attributes import STORED, SideTable, columns_of, to_stored
from ..load.checks import to_stored as to_stored_vectors
from ..load.checksum import Checksum
from ..load.encode import encode
from ..load.ids import to_id_type
from ..query.target import id_parameter
from ..readers.base import EMBEDDING, ID, Opened
from ..readers.sieve import ROW, BadRows, row_numbers
from ..relations import version_table
from ..types import Origin, Zero
from .columns import APPENDED_AT, ORIGIN, OWN

_BESIDE = {ID, EMBEDDING, ROW}
_WRITTEN = {each.name for each in OWN}


def check(opened: Opened, side: SideTable | None, version: VersionRow) -> None:
    """Refuse a source that does not fit the version; before any row is read.

    Raises
    ------
    DimensionMismatch, BadInput
    """
    if opened.dim != version.dim:
        raise DimensionMismatch(
            f"{opened.name} holds vectors of {opened.dim} dimensions, and {version.ref} has"
            f" {version.dim}: append vectors of its training"
        )
    schema = pa.schema([each for each in opened.schema if each.name not in _BESIDE])
    given = [(opened.name, each) for each in columns_of(schema, opened.name)]
    if side is not None:
        given += [(side.source, each) for each in side.attributes]
    void = {each.name for each in schema if pa.types.is_null(each.type)}
    types = {each.name: each.type for each in version.attributes if each not in OWN}
    seen: set[str] = set()
    for source, each in given:
        wanted = types.get(each.name)
        if each.name in _WRITTEN:
            problem = "an append writes it itself; leave it out, or rename it"
        elif wanted is None:
            have = ", ".join(types) or "none"
            problem = f"{version.ref} has no such attribute, it has {have}; leave it out"
        elif each.name in seen:
            problem = "it is there twice; leave it out of one"
        elif each.name not in void and (each.type, wanted) not in {
            (wanted, wanted),
            ("bigint", "double precision"),
        }:
            problem = f"it would be {each.type}, and in {version.ref} it is {wanted}; convert it"
        else:
            seen.add(each.name)
            continue
        raise BadInput(
            f"{source}: column {each.name!r}: {problem}", source=source, column=each.name
        )


class Appender:
    """Sends batches into a version's table, in the append's transaction.

    Each is asked for first: an id that is there already has its vector, and keeps it.
    """

    def __init__(
        self,
        connection: Connection,
        engine: Engine,
        version: VersionRow,
        origin: Origin,
        moment: datetime,
        zero: Zero,
        side: SideTable | None,
        rotation: Array64 | None,
    ) -> None:
        self._connection, self._engine, self._version = connection, engine, version
        self._relation = version_table(version.table_name, version.version)
        self._written = {ORIGIN.name: origin.value, APPENDED_AT.name: moment}
        self._moment, self._zero, self._side, self._rotation = moment, zero, side, rotation
        self.checksum = Checksum(version.checksum or "0")
        self.rows = 0

    def send(self, opened: Opened, report: Callable[[int], None]) -> None:
        """Send the rows of a source; ``report`` is told how many of all have been sent.

        Raises
        ------
        BadInput
            Of a bad row, where none may be left out.
        DuplicateId
            Likewise, of an id that is there.
        LoadFailed
        """
        at = 0
        for given in opened.batches:

            def checked(batch: pa.RecordBatch) -> tuple[pa.Array, NDArray[Any], list[pa.Array]]:
                ids = to_id_type(batch.column(ID), self._version.id_type)
                embedding = batch.column(EMBEDDING)
                vectors = embedding.flatten().to_numpy().reshape(len(batch), opened.dim)
                if self._rotation is not None:
                    vectors = rotate(vectors, self._rotation)
                stored = to_stored_vectors(
                    vectors, self._version.metric, self._version.precision, ids, self._zero
                )
                columns = self._columns(batch, ids)
                self._refuse_known(opened, batch, ids, at)  # noqa: B023
                return ids, stored, columns

            ids, stored, columns = opened.sieve.sift(given, opened.place, at, checked)
            at += len(given)
            if len(ids):
                self._copy(ids, stored, columns)
            report(self.rows)

    def _columns(self, batch: pa.RecordBatch, ids: pa.Array) -> list[pa.Array]:
        """Return the version's attributes of a batch; null where the source has none."""
        found = {name: batch.column(name) for name in batch.schema.names if name not in _BESIDE}
        if self._side is not None:
            names = (each.name for each in self._side.attributes)
            found |= dict(zip(names, self._side.join(ids), strict=True))
        columns = []
        for each in self._version.attributes:
            if each.name in self._written:
                value = pa.scalar(self._written[each.name], STORED[each.type])
                columns.append(pa.repeat(value, len(ids)))
            elif each.name in found:
                column = found[each.name]
                if pa.types.is_null(column.type):
                    column = column.cast(STORED[each.type])
                columns.append(to_stored(column, each, ids))
            else:
                columns.append(pa.nulls(len(ids), STORED[each.type]))
        return columns

    def _refuse_known(self, opened: Opened, batch: pa.RecordBatch, ids: pa.Array, at: int) -> None:
        """Refuse the ids that the version has, or that came before."""
        rows = self._connection.execute(
            sql.SQL(
                "SELECT id, appended_at IS NOT DISTINCT FROM %s FROM {} WHERE id = ANY (%s)"
            ).format(self._relation),
            (self._moment, id_parameter(ids)),
        ).fetchall()
        there = pa.array([row[0] for row in rows], ids.type)
        twice = pa.array([row[0] for row in rows if row[1]], ids.type)
        # Which row of the batch is the first with its id.
        first = pc.index_in(ids, value_set=ids).to_numpy()
        again = (first != np.arange(len(ids))) | pc.is_in(ids, value_set=twice).to_numpy(
            zero_copy_only=False
        )
        known = again | pc.is_in(ids, value_set=there).to_numpy(zero_copy_only=False)
        if not known.any():
            return

        def problem(row: int) -> str:
            if again[row]:
                return "the id is there twice"
            return f"{self._version.ref} has this id, and what it has never changes"

        bad = np.flatnonzero(known)
        if opened.sieve.skips:
            raise BadRows(bad, problem, ids, ID)
        key, row = ids[int(bad[0])].as_py(), int(row_numbers(batch, at)[bad[0]])
        more = f", and so do {len(bad) - 1} rows more" if len(bad) > 1 else ""
        raise DuplicateId(
            f"{opened.place.describe(row, key, problem(int(bad[0])))}{more}; nothing was appended:"
            " leave it out, or append with on_bad='skip' (--on-bad skip)",
            source=opened.name,
            row=opened.place.first + row,
            id=key,
            column=ID,
        )

    def _copy(self, ids: pa.Array, stored: NDArray[Any], columns: Sequence[pa.Array]) -> None:
        version = self._version
        chunk = encode(ids, version.attributes, columns, stored, version.dim)
        copied = writer.copy(self._connection, self._relation, version, [chunk])
        if copied != len(ids):
            raise LoadFailed(
                f"{version.ref}: sent {len(ids)} rows, the server took {copied}; nothing was"
                " appended, run it again"
            )
        probe = writer.probe_of(version)
        probe.update(stored)
        probe.verify(self._connection, self._engine, version, id_parameter(ids))
        self.checksum.update(ids, stored)
        self.rows += len(ids)
