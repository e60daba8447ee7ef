"""The version's table, its rows, the proof that they arrived, key and index."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..errors import BadInput, LoadFailed
from ..index.build import build, decide, watched
from ..readers.base import EMBEDDING, ID, Opened
from ..readers.sieve import ROW, row_numbers
from ..relations import staged_table, version_name, version_table
from ..release.live import act_as_loader
from ..types import Index, Progress, Zero
from . import duplicates, parallel, writer
from .arrivals import Arrivals
from .attributes import SideTable, to_stored
from .checks import to_stored as to_stored_vectors
from .checksum import Checksum
from .encode import encode
from .ids import to_id_type
from .key import analyze, primary_key
from .options import Options
from .provenance import provenance
from .rejects import Rejects
from .sources import Repeated

_OWN = {ID, EMBEDDING, ROW}


def fill(
    connection: Connection,
    connect: Callable[[], Connection],
    engine: Engine,
    version: VersionRow,
    parts: Iterator[Opened],
    total: int | None,
    side: SideTable | None,
    options: Options,
    rejects: Rejects,
) -> VersionRow:
    """Create, copy, verify and index the version's table; what is whole appears in one commit."""
    started = time.monotonic()
    report = options.progress or (lambda _: None)
    checksum, probe = Checksum(), writer.probe_of(version)
    origins: list[Opened] = []
    arrivals = Arrivals() if rejects.skips else None
    batches = _encoded(version, parts, side, checksum, probe, origins, arrivals, options.zero)

    def sent(batches: Iterator[tuple[int, memoryview]]) -> Iterator[memoryview]:
        done = 0
        for rows, chunk in batches:
            yield chunk
            done += rows
            report(Progress("rows", done, total))

    relation = version_table(version.table_name, version.version)
    staged = staged_table(version.table_name, version.version)
    # Where rows may be left out, they must lie in the order in which they came.
    count = 1 if arrivals is not None else options.connections
    count = count or parallel.connections(connection, engine, version, total)
    if count > 1:
        with connection.transaction():
            act_as_loader(connection, engine)
            writer.create_table(connection, engine, staged, version)
        copied = parallel.copy(connect, engine, version, sent(batches), count)
    with connection.transaction():
        act_as_loader(connection, engine)
        # Nobody sees this before the commit that publishes, which waits for the whole log.
        connection.execute("SET LOCAL synchronous_commit = off")
        if count > 1:
            connection.execute(
                sql.SQL("ALTER TABLE {} RENAME TO {}").format(
                    staged, sql.Identifier(version_name(version.table_name, version.version))
                )
            )
        else:
            writer.create_table(connection, engine, relation, version)
            coming = sent(writer.ahead(batches))
            freeze = not engine.distributed
            copied = writer.copy(connection, relation, version, coming, freeze=freeze)
        seconds = time.monotonic() - started
        origin = _meanwhile(lambda: provenance(origins, options))
        if not probe.rows:
            why = rejects.summary(rejects.count)
            raise BadInput(
                f"{version.source['name']} holds no rows{' that can be stored' if why else ''}:"
                f" there is nothing to load{f' ({why})' if why else ''}"
            )
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
        twice = primary_key(connection, version)
        # Of rows on several servers, none can say which came first.
        if twice and arrivals is not None and not engine.distributed:
            duplicates.remove(connection, engine, version, arrivals, rejects, checksum, probe)
            probe.verify(connection, engine, version)
            twice = primary_key(connection, version)
        if twice:
            raise Repeated(twice)
        chosen = decide(connection, engine, version, options.index, probe.rows)
        indexes: tuple[Index, ...] = ()
        warnings: list[str] = []
        if not isinstance(chosen, str):
            with watched(connection, connect, report) if options.progress else nullcontext():
                known = {**version.source, **origins[0].provenance}
                version = dataclasses.replace(version, source=known)
                built, warnings = build(connection, engine, version, chosen, probe.rows)
            indexes = (built,)
        analyze(connection, version)
        size = connection.execute(
            "SELECT pg_total_relation_size(%s::regclass)",
            (f"emb.{version.table_name}_v{version.version}",),
        ).fetchone()
    for each in (*warnings, rejects.summary(probe.rows + rejects.count)):
        if each:
            options.warn(each)
    stats = {
        **({"rejected": rejects.count} if rejects.skips else {}),
        "seconds": round(seconds, 3),
        "rows_per_second": round(probe.rows / seconds),
        "index": str(indexes[0]) if indexes else f"none ({chosen})",
        "index_seconds": indexes[0].seconds if indexes else 0.0,
        **({"connections": count} if count > 1 else {}),
    }
    return dataclasses.replace(
        version,
        rows=probe.rows,
        bytes=size[0] if size else None,
        index_kind=indexes[0].kind if indexes else "none",
        indexes=indexes,
        checksum=str(checksum),
        source={**origin.result(), **stats},
    )


def _encoded(
    version: VersionRow,
    parts: Iterator[Opened],
    side: SideTable | None,
    checksum: Checksum,
    probe: writer.Probe | writer.BitProbe,
    origins: list[Opened],
    arrivals: Arrivals | None,
    zero: Zero,
) -> Iterator[tuple[int, memoryview]]:
    """Checked and encoded batches, each with its number of rows."""

    def checked(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Array, Any, list[pa.Array]]:
        ids = to_id_type(batch.column(ID), version.id_type)
        embedding = batch.column(EMBEDDING)
        vectors = embedding.flatten().to_numpy().reshape(len(batch), embedding.type.list_size)
        stored = to_stored_vectors(vectors, version.metric, version.precision, ids, zero)
        columns = [batch.column(each) for each in batch.schema.names if each not in _OWN]
        if side is not None:
            columns += side.join(ids)
        columns = [
            to_stored(column, attribute, ids)
            for attribute, column in zip(version.attributes, columns, strict=True)
        ]
        return batch, ids, stored, columns

    for opened in parts:
        row = 0
        for given in opened.batches:
            batch, ids, stored, columns = opened.sieve.sift(given, opened.place, row, checked)
            if arrivals is not None and len(batch):
                arrivals.add(opened.place, row_numbers(batch, row))
            row += len(given)
            checksum.update(ids, stored)
            probe.update(stored)
            yield len(batch), encode(ids, version.attributes, columns, stored, version.dim)
        origins.append(opened)


def _meanwhile(work: Callable[[], dict[str, object]]) -> Future[dict[str, object]]:
    """Begin to work in a thread, which nobody waits for if the load fails."""
    thread = ThreadPoolExecutor(1, "embstore-provenance")
    begun = thread.submit(work)
    thread.shutdown(wait=False)
    return begun
