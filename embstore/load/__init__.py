"""A load on one screen: source -> reader -> batches -> checks -> COPY -> index -> ready -> alias.

1. The version is registered as ``loading`` and committed, under a lock that dies with the session.
2. One transaction creates its table, copies the rows, proves that they arrived, and adds the
   primary key and the index.
3. A short one makes it ``ready``, shows it in the live view and, if asked, promotes it.

Whatever ends a load before the third has committed, no query ever sees a part of it; what is left
is removed at once, or by the next command if this process is killed.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.types.json import Jsonb

from .. import catalog
from ..catalog import TableRow, VersionRow
from ..connection import Connection, Engine, translate, translated
from ..errors import BadInput, DuplicateId, EmbstoreError, InvalidQuery, LoadFailed
from ..readers import open_source, read_attributes
from ..readers.base import EMBEDDING, ID, Opened
from ..refs import check_name
from ..release import aliases, live
from ..types import MAX_DIM, IdType, Precision, Status
from . import index, leftovers, writer
from .attributes import SideTable, agree, columns_of, to_stored
from .checks import Place
from .checks import to_stored as to_stored_vectors
from .checksum import Checksum
from .encode import encode
from .ids import id_type_of, to_id_type


@dataclass(frozen=True)
class Progress:
    """How far a load is.

    Attributes
    ----------
    phase : str
        ``rows``, then ``index``, then ``publish``.
    done, total : int, int or None
        Rows, or blocks of the index build; total is None where the source does not tell.
    note : str
        What is waited for, if anything.
    """

    phase: str
    done: int
    total: int | None
    note: str = ""


@dataclass(frozen=True)
class Options:
    """What a load is told beside its source; see ``Table.load``."""

    trainer: str | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ids: object = None
    vectors: str | None = None
    format: str | None = None
    attributes: object = None
    attributes_ids: str | None = None
    id_type: IdType | None = None
    precision: Precision | None = None
    index: str = "hnsw"
    alias: str | None = None
    progress: Callable[[Progress], None] | None = None
    warn: Callable[[str], None] = lambda _: None


def load(
    connect: Callable[[], Connection], engine: Engine, name: str, source: object, options: Options
) -> VersionRow:
    """Load ``source`` as the next version of table ``name``; returns its catalog row."""
    connection = connect()
    try:
        # A backend whose client died while it builds an index would not notice for minutes.
        connection.execute("SET client_connection_check_interval = '2s'")
        if options.alias is not None:
            check_name(options.alias, "alias")
        first, *more = _several(source)
        with translated(f"loading into {name}"), _open(first, options) as opened:
            version, side = _plan(connection, name, opened, options)
            version = _register(connection, version)
            parts = _parts(opened, more, options)
            with _abandoned_on_error(connection, connect, version):
                try:
                    total = None if more else opened.rows
                    done = _fill(connection, connect, engine, version, parts, total, side, options)
                except _Repeated as found:
                    raise _duplicate([first, *more], version, options, found) from None
                _publish(connection, engine, done, options)
        return catalog.resolve(connection, done.ref)
    finally:
        connection.close()


def _several(source: object) -> list[object]:
    """Return the sources of one load: a list of paths is that many files."""
    if isinstance(source, list | tuple) and source:
        if all(isinstance(each, str | os.PathLike) for each in source):
            return list(source)
        raise BadInput("a list is loaded only as a list of paths; give vectors as an array")
    return [source]


def _open(source: object, options: Options) -> AbstractContextManager[Opened]:
    return open_source(
        source,
        ids=options.ids,
        vectors=options.vectors,
        format=options.format,
        id_type=options.id_type,
    )


def _parts(first: Opened, more: Sequence[object], options: Options) -> Iterator[Opened]:
    """Give the opened sources one after the other; all must hold the same columns."""
    yield first
    for each in more:
        with _open(each, options) as opened:
            if opened.schema != first.schema:
                raise BadInput(
                    f"{opened.name} has other columns than {first.name}"
                    f" ({_described(opened.schema)} against {_described(first.schema)}): load"
                    " them as tables of their own",
                    source=opened.name,
                )
            yield opened


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{each.name} {each.type}" for each in schema)


def _plan(
    connection: Connection, name: str, opened: Opened, options: Options
) -> tuple[VersionRow, SideTable | None]:
    """Decide what the version will be; every refusal that needs no row comes from here."""
    table = catalog.table(connection, name)
    id_type = _settled("id type", table, table.id_type, options.id_type)
    precision = _settled("precision", table, table.precision, options.precision)
    id_type = id_type or id_type_of(opened.schema.field(ID).type)
    precision = precision or Precision.FLOAT32
    if not 1 <= opened.dim <= MAX_DIM:
        raise BadInput(
            f"{opened.name}: vectors of {opened.dim} dimensions cannot be stored, the limits are 1"
            f" to {MAX_DIM}",
            source=opened.name,
        )
    index.check_indexable(options.index, opened.dim, precision, opened.name)
    own = columns_of(
        pa.schema([each for each in opened.schema if each.name not in {ID, EMBEDDING}]),
        opened.name,
    )
    side = None
    if options.attributes is not None:
        side = _side_table(options, id_type)
        if both := {each.name for each in own} & {each.name for each in side.attributes}:
            raise BadInput(
                f"{side.source}: column {min(both)!r} is in {opened.name} too; leave it out of one",
                source=side.source,
                column=min(both),
            )
        own += side.attributes
    known = [each for row in catalog.ready_versions(connection, name) for each in row.attributes]
    agree(own, known, name, opened.name)
    planned = VersionRow(
        table_name=name,
        version=0,
        status=Status.LOADING,
        dim=opened.dim,
        id_type=id_type,
        metric=table.metric,
        precision=precision,
        rows=None,
        bytes=None,
        index_kind=options.index,
        attributes=tuple(own),
        trainer=options.trainer,
        params=dict(options.params),
        metrics=dict(options.metrics),
        source={"name": opened.name, **opened.provenance},
        checksum=None,
        created_at=table.created_at,
        created_by="",
        ready_at=None,
        retired_at=None,
    )
    return planned, side


def _settled(what: str, table: TableRow, fixed: Any, asked: Any) -> Any:
    if fixed is not None and asked is not None and fixed != asked:
        raise InvalidQuery(
            f"table {table.name} has {what} {fixed}, fixed by its first load: it cannot take"
            f" {asked}; use another table"
        )
    return fixed or asked


def _side_table(options: Options, id_type: IdType) -> SideTable:
    given = options.attributes
    named = str(given) if isinstance(given, str | os.PathLike) else "attributes"
    return SideTable(read_attributes(given, ids=options.attributes_ids), named, id_type)


def _register(connection: Connection, planned: VersionRow) -> VersionRow:
    """Take the next number and make the load known, before anything else exists of it."""
    name = planned.table_name
    with connection.transaction():
        row = connection.execute(
            "INSERT INTO embstore.version_numbers AS n (table_name, last) VALUES (%s, 1)"
            " ON CONFLICT (table_name) DO UPDATE SET last = n.last + 1 RETURNING last",
            (name,),
        ).fetchone()
        assert row is not None
        version = dataclasses.replace(planned, version=row[0])
        leftovers.hold(connection, name, version.version)
        connection.execute(
            "INSERT INTO embstore.versions (table_name, version, status, dim, id_type, metric,"
            " precision, index_kind, attributes, trainer, params, metrics, source, created_at,"
            " created_by) VALUES (%s, %s, 'loading', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
            " clock_timestamp(), session_user)",
            (
                name,
                version.version,
                version.dim,
                version.id_type,
                version.metric,
                version.precision,
                version.index_kind,
                Jsonb([dataclasses.asdict(each) for each in version.attributes]),
                version.trainer,
                _json(version.params, "params"),
                _json(version.metrics, "metrics"),
                _json(version.source, "source"),
            ),
        )
    return version


def _json(value: Mapping[str, Any], what: str) -> Jsonb:
    import json

    def plain(other: object) -> object:
        if isinstance(other, np.generic | np.ndarray):
            return other.tolist()
        return str(other)

    def dumps(each: object) -> str:
        try:
            return json.dumps(each, default=plain, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidQuery(f"{what} cannot be kept as JSON: {error}") from error

    dumps(value)
    return Jsonb(value, dumps=dumps)


def _fill(
    connection: Connection,
    connect: Callable[[], Connection],
    engine: Engine,
    version: VersionRow,
    parts: Iterator[Opened],
    total: int | None,
    side: SideTable | None,
    options: Options,
) -> VersionRow:
    """Create, copy, verify and index the version's table in one transaction."""
    started = time.monotonic()
    report = options.progress or (lambda _: None)
    checksum, probe = Checksum(), writer.Probe(version.dim)
    batches = _encoded(version, parts, side, checksum, probe)

    def sent() -> Iterator[memoryview]:
        done = 0
        for rows, chunk in writer.ahead(batches):
            yield chunk
            done += rows
            report(Progress("rows", done, total))

    with connection.transaction():
        _act_as_loader(connection, engine)
        writer.create_table(connection, engine, version)
        copied = writer.copy(connection, engine, version, sent())
        seconds = time.monotonic() - started
        if not probe.rows:
            raise BadInput(f"{version.source['name']} holds no rows: there is nothing to load")
        if copied != probe.rows:
            raise LoadFailed(
                f"{version.ref}: sent {probe.rows} rows, the server took {copied}; nothing is"
                " visible, run the load again"
            )
        if side is not None and not side.matched:
            raise BadInput(
                f"{side.source}: none of its ids is among those of the vectors; name its id column"
                " with --attributes-ids"
            )
        probe.verify(connection, engine, version)
        if twice := index.primary_key(connection, version):
            raise _Repeated(twice)
        with _watched(connection, connect, report) if options.progress else nullcontext():
            warning = index.build(connection, engine, version, probe.rows)
        index.analyze(connection, version)
        size = connection.execute(
            "SELECT pg_total_relation_size(%s::regclass)",
            (f"emb.{version.table_name}_v{version.version}",),
        ).fetchone()
    if warning:
        options.warn(warning)
    stats = {"seconds": round(seconds, 3), "rows_per_second": round(probe.rows / seconds)}
    return dataclasses.replace(
        version,
        rows=probe.rows,
        bytes=size[0] if size else None,
        checksum=str(checksum),
        source={**version.source, **stats},
    )


def _encoded(
    version: VersionRow,
    parts: Iterator[Opened],
    side: SideTable | None,
    checksum: Checksum,
    probe: writer.Probe,
) -> Iterator[tuple[int, memoryview]]:
    """Checked and encoded batches, each with its number of rows."""
    for opened in parts:
        first = opened.first
        for batch in opened.batches:
            ids = to_id_type(batch.column(ID), version.id_type, opened.name, opened.unit, first)
            place = Place(opened.name, opened.unit, first, ids)
            vectors = batch.column(EMBEDDING).flatten().to_numpy().reshape(len(batch), opened.dim)
            stored = to_stored_vectors(vectors, version.metric, version.precision, place)
            columns = [batch.column(each) for each in batch.schema.names if each not in _KEY]
            if side is not None:
                columns += side.join(ids)
            columns = [
                to_stored(column, attribute, opened.name, first)
                for attribute, column in zip(version.attributes, columns, strict=True)
            ]
            checksum.update(ids, stored)
            probe.update(stored)
            yield len(batch), encode(ids, version.attributes, columns, stored)
            first += len(batch)


_KEY = {ID, EMBEDDING}


def _act_as_loader(connection: Connection, engine: Engine) -> None:
    """Let embstore_loader own what is made, so that every loader can go on from there."""
    if engine.loader_role:
        connection.execute("SET LOCAL ROLE embstore_loader")


@contextmanager
def _watched(
    connection: Connection,
    connect: Callable[[], Connection],
    report: Callable[[Progress], None],
) -> Iterator[None]:
    """Report the index build that ``connection`` runs meanwhile, seen from a second one."""
    import threading

    pid, over = connection.info.backend_pid, threading.Event()

    def watch() -> None:
        with connect() as other:
            while not over.wait(0.25):
                if seen := index.progress_of(other, pid):
                    report(Progress("index", *seen))

    thread = threading.Thread(target=watch, name="embstore-index", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _publish(connection: Connection, engine: Engine, version: VersionRow, options: Options) -> None:
    """Make the version ready, visible and, if asked, live: all in one short transaction."""
    report = options.progress or (lambda _: None)

    def change() -> None:
        _act_as_loader(connection, engine)
        row = connection.execute(
            "SELECT id_type, precision FROM embstore.tables WHERE name = %s FOR UPDATE",
            (version.table_name,),
        ).fetchone()
        if row is None:
            raise LoadFailed(f"table {version.table_name} was dropped while {version.ref} loaded")
        if row[0] not in {None, version.id_type} or row[1] not in {None, version.precision}:
            raise LoadFailed(
                f"{version.ref} has {version.id_type} ids and {version.precision} vectors, but"
                f" another load that finished first fixed {version.table_name} to {row[0]} and"
                f" {row[1]}; load it again with those"
            )
        connection.execute(
            "UPDATE embstore.tables SET id_type = %s, precision = %s WHERE name = %s",
            (version.id_type, version.precision, version.table_name),
        )
        connection.execute(
            "UPDATE embstore.versions SET status = 'ready', rows = %s, bytes = %s, checksum = %s,"
            " source = %s, ready_at = clock_timestamp() WHERE table_name = %s AND version = %s",
            (
                version.rows,
                version.bytes,
                version.checksum,
                _json(version.source, "source"),
                version.table_name,
                version.version,
            ),
        )
        live.rebuild(connection, engine, version.table_name)
        live.grant_version(connection, version)
        if options.alias is not None:
            aliases.promote(connection, [version.ref], alias=options.alias)

    live.with_short_locks(
        connection,
        f"publishing {version.ref}",
        change,
        waiting=lambda who: report(Progress("publish", 0, None, f"waiting for {who}")),
    )
    leftovers.release(connection, version.table_name, version.version)


@contextmanager
def _abandoned_on_error(
    connection: Connection, connect: Callable[[], Connection], version: VersionRow
) -> Iterator[None]:
    """Remove what there is of a version when its load fails, and say it plainly."""
    try:
        yield
    except BaseException as error:
        try:
            if connection.closed or connection.broken:
                with connect() as other:
                    leftovers.sweep(other)
            else:
                leftovers.discard(connection, version.table_name, version.version)
        except (psycopg.Error, EmbstoreError):
            pass  # the next command sweeps it
        if isinstance(error, psycopg.Error):
            reason = translate(error, f"loading {version.ref}")
            raise LoadFailed(
                f"{reason}; nothing of {version.ref} is visible, run the load again"
            ) from error
        raise


class _Repeated(Exception):
    """The primary key could not be made: these ids stand there twice."""

    def __init__(self, ids: list[int | str]) -> None:
        self.ids = ids


def _duplicate(
    sources: Sequence[object], version: VersionRow, options: Options, found: _Repeated
) -> DuplicateId:
    """Find where a repeated id stands, by reading the sources once more where that is possible."""
    key = found.ids[0]
    places: list[tuple[str, int]] = []
    for source in sources:
        if isinstance(source, pa.RecordBatchReader):
            continue  # it can be read once only
        try:
            with _open(source, options) as again:
                places += _places_of(again, version.id_type, key)
        except EmbstoreError:
            continue
    where = " and ".join(place for place, _ in places[:2]) or str(version.source["name"])
    more = f", and {len(found.ids) - 1} more ids are" if len(found.ids) > 1 else ""
    return DuplicateId(
        f"{where}: id {key!r} is there twice{more}; keep one row per id and load again",
        source=str(version.source["name"]),
        row=places[1][1] if len(places) > 1 else None,
        id=key,
        column="id",
    )


def _places_of(opened: Opened, id_type: IdType, key: int | str) -> list[tuple[str, int]]:
    places: list[tuple[str, int]] = []
    first = opened.first
    for batch in opened.batches:
        ids = to_id_type(batch.column(ID), id_type, opened.name, opened.unit, first)
        for each in pc.indices_nonzero(pc.equal(ids, pa.scalar(key, ids.type))).to_pylist():
            places.append((f"{opened.name} {opened.unit} {first + each}", first + each))
        if len(places) > 1:
            break
        first += len(batch)
    return places
