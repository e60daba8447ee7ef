"""The point-in-time join: to each row of a training set the vectors that were live at its time.

A model that is trained on what is live now has seen the future of its rows. Here each table's
history says what was live when; then each version is read once, for the ids of its own rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql

from .. import catalog
from ..catalog import VersionRow
from ..connection import Connection, snapshot, translated
from ..errors import DimensionMismatch, InvalidQuery, NotFound
from ..io import SyncIo, complete
from ..query import frames
from ..query.lookup import check_policy, filler
from ..query.packed import fetch
from ..query.target import Target, check_ids
from ..refs import split
from ..relations import version_table
from ..types import HistoricalFeatures, Status, Vectors
from .asof import history

if TYPE_CHECKING:
    from ..store import Store

_Numbers = NDArray[np.int64]
# Rows copied at a time, so that they are in the processor's cache between the two steps: four times
# as fast as all at once.
_BLOCK = 8192
_ALWAYS = np.iinfo(np.int64).min


@dataclass(frozen=True)
class _Side:
    """One table, and the columns of the frame that hold its ids.

    Attributes
    ----------
    columns : list of the columns' names
    ids : array (u,), int64 or string
        The ids of all of them, each once.
    codes : array (columns, n)
        Where among ``ids`` each row's are; -1 for null.
    live : array (n,)
        Which version was live, 0 for none.
    versions : the rows of those that are still there
    """

    table: str
    columns: list[Any]
    ids: pa.Array
    codes: _Numbers
    live: _Numbers
    versions: list[VersionRow]
    dim: int


@dataclass(frozen=True)
class _Reader:
    """Reads versions: over the wire, or from replicas."""

    store: Store
    connection: Connection
    missing: str
    replicas: bool
    cache_dir: str | PathLike[str] | None

    def read(self, row: VersionRow, ids: pa.Array) -> tuple[Vectors, _Numbers]:
        """Return vectors, and where those of ``ids`` are; the last row is NaN."""
        if not self.replicas:
            target = Target.of_version(row)
            return complete(fetch(self.store.lender, SyncIo(self.connection), target, ids))
        from ..replica import replicate

        found = replicate(self.store, row, self.cache_dir, index="none").lookup(ids, "nan")
        vectors = np.concatenate([found.vectors, np.full((1, row.dim), np.nan, np.float32)])
        return vectors, np.where(found.found, np.arange(len(ids)), -1)

    def filler(self, row: VersionRow) -> Vectors:
        """Return what an id gets that is not there."""
        target, io = Target.of_version(row), SyncIo(self.connection)
        return complete(filler(io, self.store.lender.engine, target, self.missing, row.dim))


def features_as_of(
    store: Store,
    frame: Any,
    tables: Mapping[Any, str],
    time: Any,
    missing: str,
    *,
    replicas: bool,
    cache_dir: str | PathLike[str] | None,
) -> HistoricalFeatures:
    """Join; see ``Store.features_as_of``."""
    check_policy(missing)
    if not tables:
        raise InvalidQuery("features of no table: give a mapping of columns to tables")
    times = frames.times(frames.column(frame, time), time)
    by_table: dict[str, list[Any]] = {}
    for column, ref in tables.items():
        table, selector = split(ref)
        if selector not in {None, "live"}:
            raise InvalidQuery(f"{ref!r}: the rows' times say which version, so name the table")
        by_table.setdefault(table, []).append(column)
    with store.reading() as connection, snapshot(connection):
        sides = [
            _side(connection, frame, table, columns, times, missing)
            for table, columns in by_table.items()
        ]
        _hold(connection, sides)
        reader = _Reader(store, connection, missing, replicas, cache_dir)
        return _joined(reader, sides, list(tables), times)


def _side(
    connection: Connection,
    frame: Any,
    table: str,
    columns: list[Any],
    times: _Numbers,
    missing: str,
) -> _Side:
    target = Target.of_table(catalog.table(connection, table))
    parts = [
        frames.ids(frames.column(frame, column), target.id_type, table, column)
        for column in columns
    ]
    for column, part in zip(columns, parts, strict=True):
        if len(part) != len(times):
            raise InvalidQuery(
                f"column {column!r} has {len(part)} rows, and there are {len(times)} times"
            )
        if missing == "raise" and part.null_count:
            row = part.is_null().to_numpy(zero_copy_only=False).argmax()
            raise NotFound(
                f"column {column!r}, row {row + 1}, has no id: missing='raise' needs one"
            )
    # A column names each id many times; the server is asked for it once.
    encoded = pa.chunked_array(parts).combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64).reshape(len(parts), -1)
    live = history(connection, table).at(times)
    used = np.flatnonzero(np.bincount(live, minlength=1)[1:]) + 1
    every = {row.version: row for row in catalog.versions(connection, table)}
    there = [every[v] for v in used.tolist() if v in every and every[v].status is Status.READY]
    if missing in {"raise", "mean"}:
        _refuse_gaps(table, live, times, {row.version for row in there})
    if len({row.dim for row in there}) > 1:
        raise _other_dim(there, live, times)
    if not there and len(times):
        raise NotFound(f"no row's time is one when a version of {table} was live that is there yet")
    dim = there[0].dim if there else catalog.resolve(connection, table).dim
    return _Side(table, columns, check_ids(encoded.dictionary, target), codes, live, there, dim)


def _hold(connection: Connection, sides: list[_Side]) -> None:
    """Keep the versions from being dropped before they are read."""
    relations = [version_table(each.table, row.version) for each in sides for row in each.versions]
    if relations:
        with translated("reading the versions that were live then"):
            connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(relations))
            )


def _joined(
    reader: _Reader, sides: list[_Side], columns: list[Any], times: _Numbers
) -> HistoricalFeatures:
    of = {column: side for side in sides for column in side.columns}
    ends = np.cumsum([of[column].dim for column in columns]).tolist()
    slices = {column: slice(a, b) for column, a, b in zip(columns, [0, *ends], ends, strict=False)}
    vectors = np.empty((len(times), ends[-1]), np.float32)
    found = np.zeros((len(times), len(columns)), np.bool_)
    for side in sides:
        outs = [vectors[:, slices[column]] for column in side.columns]
        marks = [found[:, columns.index(column)] for column in side.columns]
        for row in side.versions:
            _fill(reader, side, row, times, outs, marks)
        without = ~np.isin(side.live, [row.version for row in side.versions])
        if without.any():
            for out in outs:
                out[without] = 0.0 if reader.missing == "zero" else np.nan
    rows = np.arange(len(times))
    versions = {column: of[column].live for column in columns}
    if reader.missing == "skip" and not found.all():
        rows = np.flatnonzero(found.all(axis=1))
        vectors, found = vectors[rows], found[rows]
        versions = {column: each[rows] for column, each in versions.items()}
    return HistoricalFeatures(vectors, found, slices, versions, rows)


def _fill(
    reader: _Reader,
    side: _Side,
    row: VersionRow,
    times: _Numbers,
    outs: list[Vectors],
    marks: list[NDArray[np.bool_]],
) -> None:
    """Read one version for the rows of its time, and put its vectors there."""
    rows = np.flatnonzero(side.live == row.version)
    codes = side.codes[:, rows]
    # One place more, which the code -1 of null points to.
    asked = np.zeros(len(side.ids) + 1, np.bool_)
    asked[codes] = True
    asked[-1] = False
    wanted = np.flatnonzero(asked)
    place = np.full(len(asked), -1)
    vectors, place[wanted] = reader.read(row, side.ids.take(pa.array(wanted)))
    since = _joined_later(reader.connection, side, row)
    together = bool(rows[-1] - rows[0] == len(rows) - 1)
    for own, out, mark in zip(codes, outs, marks, strict=True):
        places = place[own]
        if since is not None:
            places[since[own] > times[rows]] = -1
        there = places >= 0
        if reader.missing == "raise" and not there.all():
            absent = np.unique(own[~there])
            raise Target.of_version(row).absent(side.ids.take(pa.array(absent)).to_pylist())
        if not there.all():
            vectors[-1] = reader.filler(row)
        mark[rows] = there
        for at in range(0, len(rows), _BLOCK):
            block = places[at : at + _BLOCK]
            where = slice(rows[at], rows[at] + len(block)) if together else rows[at : at + _BLOCK]
            # -1 is the last row under this mode, which is the fastest.
            out[where] = vectors.take(block, axis=0, mode="wrap")


def _joined_later(connection: Connection, side: _Side, row: VersionRow) -> _Numbers | None:
    """Return since when each id is there, of a version that rows were appended to."""
    if not row.appended:
        return None
    with translated(f"reading {row.ref}"):
        found = connection.execute(
            sql.SQL(
                "SELECT array_agg(id), array_agg((extract(epoch FROM appended_at) * 1000000)"
                "::bigint) FROM {} WHERE appended_at IS NOT NULL"
            ).format(version_table(row.table_name, row.version))
        ).fetchone()
    keys, moments = found or (None, None)
    since = np.full(len(side.ids) + 1, _ALWAYS)
    places = pc.index_in(side.ids, value_set=pa.array(keys or [], side.ids.type))
    there = pc.is_valid(places).to_numpy(zero_copy_only=False)
    since[:-1][there] = np.array(moments or [], np.int64)[places.drop_null().to_numpy()]
    return since


def _refuse_gaps(table: str, live: _Numbers, times: _Numbers, there: set[int]) -> None:
    """Refuse rows for which no version is there.

    Raises
    ------
    NotFound
        With the version, the rows' times and their number.
    """
    for version in np.flatnonzero(np.bincount(live)).tolist():
        if version in there:
            continue
        own = times[live == version]
        rows = f"{len(own):,} of {len(times):,} rows, of {_shown(own.min())} to {_shown(own.max())}"
        remedy = "missing='skip' leaves them out, missing='nan' or 'zero' fills them"
        if version:
            raise NotFound(
                f"{table}@{version} was live at the time of {rows}, and was dropped since: {remedy}"
                " (a pin keeps a version)"
            )
        raise NotFound(f"{table} had no live version at the time of {rows}: {remedy}")


def _other_dim(rows: list[VersionRow], live: _Numbers, times: _Numbers) -> DimensionMismatch:
    """Say which versions cannot be in one matrix, and from when."""
    first, other = rows[0], next(each for each in rows if each.dim != rows[0].dim)
    began = {row.version: times[live == row.version].min() for row in (first, other)}
    if began[first.version] > began[other.version]:
        first, other = other, first
    return DimensionMismatch(
        f"{first.ref} has {first.dim} dimensions and {other.ref}, of rows from"
        f" {_shown(began[other.version])} on, {other.dim}: one column cannot hold both; join the"
        " rows before and after apart"
    )


def _shown(time: np.int64) -> str:
    return f"{np.datetime64(int(time), 'us').astype('datetime64[s]')}Z"
