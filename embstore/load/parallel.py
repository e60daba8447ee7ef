"""COPY over several connections, for servers whose WAL cannot be skipped.

There one backend spends as much time on the log as on the rows, so several take less on a server
that has the cores for them.
What several sessions fill has to be committed before it is whole: until one transaction of the
load's own session renames, proves and indexes it, the table has a name that no version has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..relations import staged_table
from ..release.live import act_as_loader
from . import writer

# One client's encoding feeds no more than this.
_MOST = 4
_SKIPS_WAL = "minimal"
# For less, connecting costs more than it saves.
_WORTH_BYTES = 32 << 20


def connections(
    connection: Connection, engine: Engine, version: VersionRow, rows: int | None
) -> int:
    """Over how many connections to copy: one where the WAL is skipped, or the rows are few."""
    width = version.precision.nbytes(version.dim)
    if engine.distributed or (rows is not None and rows * width < _WORTH_BYTES):
        return 1
    row = connection.execute(
        "SELECT current_setting('wal_level'), current_setting('max_parallel_workers')::int"
    ).fetchone()
    assert row is not None
    wal_level, workers = row
    # Half of its cores: the others work for the client, the log and whoever asks meanwhile.
    return 1 if wal_level == _SKIPS_WAL else max(1, min(_MOST, workers // 2))


def copy(
    connect: Callable[[], Connection],
    engine: Engine,
    version: VersionRow,
    chunks: Iterator[memoryview],
    count: int,
) -> int:
    """Send encoded rows over ``count`` connections into the staged table; returns how many."""
    relation = staged_table(version.table_name, version.version)
    shared = _Shared(chunks)

    def send() -> int:
        with connect() as connection, connection.transaction():
            act_as_loader(connection, engine)
            # The commit that publishes comes later in the same log, and waits for it.
            connection.execute("SET LOCAL synchronous_commit = off")
            return writer.copy(connection, relation, version, shared)

    with ThreadPoolExecutor(count, "embstore-copy") as threads:
        sending = [threads.submit(send) for _ in range(count)]
        try:
            wait(sending, return_when=FIRST_EXCEPTION)
        finally:
            shared.stop()
    # Of several failures the first to show is the one that stopped the others.
    sending.sort(key=lambda each: isinstance(each.exception(), _Stopped))
    return sum(each.result() for each in sending)


class _Stopped(Exception):
    """Another connection failed, or the user has had enough."""


class _Shared:
    """An iterator that several threads take from."""

    def __init__(self, chunks: Iterator[memoryview]) -> None:
        self._chunks = chunks
        self._lock = threading.Lock()
        self._over = False

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        with self._lock:
            if self._over:
                raise _Stopped
            try:
                return next(self._chunks)
            except StopIteration:
                raise
            except BaseException:
                self._over = True
                raise

    def stop(self) -> None:
        """Let whoever still takes from it fail."""
        self._over = True
