"""One transaction: the version's table, its rows, the proof that they arrived, key and index."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..errors import BadInput, LoadFailed
from ..readers.base import EMBEDDING, ID, Opened
from ..release.live import act_as_loader
from . import index, writer
from .attributes import SideTable, to_stored
from .checks import Place
from .checks import to_stored as to_stored_vectors
from .checksum import Checksum
from .encode import encode
from .ids import to_id_type
from .options import Options, Progress
from .provenance import provenance
from .sources import Repeated

_KEY = {ID, EMBEDDING}


def fill(
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
    checksum, probe = Checksum(), writer.probe_of(version)
    origins: list[Opened] = []
    batches = _encoded(version, parts, side, checksum, probe, origins)

    def sent() -> Iterator[memoryview]:
        done = 0
        for rows, chunk in writer.ahead(batches):
            yield chunk
            done += rows
            report(Progress("rows", done, total))

    with connection.transaction():
        act_as_loader(connection, engine)
        writer.create_table(connection, engine, version)
        copied = writer.copy(connection, engine, version, sent())
        seconds = time.monotonic() - started
        origin = _meanwhile(lambda: provenance(origins, options))
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
            raise Repeated(twice)
        indexing = time.monotonic()
        with _watched(connection, connect, report) if options.progress else nullcontext():
            warning = index.build(connection, engine, version, probe.rows)
        indexed = time.monotonic() - indexing
        index.analyze(connection, version)
        size = connection.execute(
            "SELECT pg_total_relation_size(%s::regclass)",
            (f"emb.{version.table_name}_v{version.version}",),
        ).fetchone()
    if warning:
        options.warn(warning)
    stats = {
        "seconds": round(seconds, 3),
        "rows_per_second": round(probe.rows / seconds),
        "index_seconds": round(indexed, 3),
    }
    return dataclasses.replace(
        version,
        rows=probe.rows,
        bytes=size[0] if size else None,
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
            yield len(batch), encode(ids, version.attributes, columns, stored, version.dim)
            first += len(batch)
        origins.append(opened)


def _meanwhile(work: Callable[[], dict[str, object]]) -> Future[dict[str, object]]:
    """Begin to work in a thread, which nobody waits for if the load fails."""
    thread = ThreadPoolExecutor(1, "embstore-provenance")
    begun = thread.submit(work)
    thread.shutdown(wait=False)
    return begun


@contextmanager
def _watched(
    connection: Connection,
    connect: Callable[[], Connection],
    report: Callable[[Progress], None],
) -> Iterator[None]:
    """Report the index build that ``connection`` runs meanwhile, seen from a second one."""
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
