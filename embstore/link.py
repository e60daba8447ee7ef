"""The connections of a store: an address, what was found there, and a pool."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from . import connection, wire
from .connection import Address, Connection, Engine
from .errors import ConnectionFailed
from .io import Io, complete, lent

T = TypeVar("T")
R = TypeVar("R")

POOL_SIZE = 16
# Connections that a call with many queries asks by, beside its own.
HELPERS = 4


class Loan:
    """A connection of the pool, for the length of a with block (a generator costs thrice).

    The one that was given back last is kept at hand for the next loan. The pool lends in turn, so
    that each query would meet a backend whose caches another query has had: 8% of a nearest.
    """

    def __init__(self, link: Link, pool: ConnectionPool[Connection]) -> None:
        self._link, self._pool = link, pool

    def __enter__(self) -> Connection:
        try:
            self._lent = self._link.at_hand.pop()
            return self._lent
        except IndexError:
            pass
        try:
            self._lent = self._pool.getconn(connection.CONNECT_TIMEOUT_S)
        except PoolTimeout:
            self._link.open().close()  # says why, if the server is what is wrong
            raise ConnectionFailed(
                f"all {POOL_SIZE} connections to {self._link.address} are in use by this process"
            ) from None
        return self._lent

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        idle = self._lent.pgconn.transaction_status == TransactionStatus.IDLE
        if error is None and idle and not self._link.at_hand:
            self._link.at_hand.append(self._lent)
            return
        lost = self._lent.closed
        self._pool.putconn(self._lent)
        if lost:
            self._pool.check()  # what took this one took the idle ones too


class Link:
    """An address, what was found there, and a pool of connections to it."""

    def __init__(self, address: Address, engine: Engine) -> None:
        self.address = address
        self.engine = engine
        self.at_hand: deque[Connection] = deque()
        self._pool: ConnectionPool[Connection] | None = None
        self._pid = 0
        self._making = threading.Lock()
        # A batch holds one connection while its helpers wait for more: some must be left to them.
        self._batches = threading.BoundedSemaphore(POOL_SIZE // (HELPERS + 1) - 1)

    def open(self) -> Connection:
        """Open a connection of its own."""
        opened = connection.connect(self.address)
        try:
            with connection.translated(f"connecting to {self.address}"):
                self._teach(opened)
        except BaseException:
            opened.close()
            raise
        return opened

    def lend(self) -> Loan:
        """Lend a connection from the pool, in autocommit, for a with block."""
        pool = self._pool
        if pool is None or self._pid != os.getpid():
            pool = self._own_pool()
        return Loan(self, pool)

    def io(self) -> AbstractAsyncContextManager[Io]:
        """Lend a connection to a coroutine that ``io.complete`` runs."""
        return lent(self.lend())

    async def each(
        self, io: Io, work: Callable[[Io, T], Coroutine[Any, Any, R]], items: Sequence[T]
    ) -> list[R]:
        """Do ``work`` on each item, over several connections if enough are to spare."""
        if len(items) < HELPERS or not self._batches.acquire(blocking=False):
            return [await work(io, item) for item in items]

        async def borrowed(item: T) -> R:
            async with self.io() as other:
                return await work(other, item)

        try:
            with ThreadPoolExecutor(HELPERS, "embstore-batch") as threads:
                futures = [threads.submit(complete, borrowed(item)) for item in items]
                try:
                    return [each.result() for each in futures]
                except BaseException:
                    threads.shutdown(cancel_futures=True)
                    raise
        finally:
            self._batches.release()

    def _own_pool(self) -> ConnectionPool[Connection]:
        """Make the pool of this process, once: a forked child must not share its parent's."""
        with self._making:
            if self._pool is None or self._pid != os.getpid():
                # The pool comes last: who sees it may use it.
                self._pool, self.at_hand, self._pid = None, deque(), os.getpid()
                self._pool = self._new_pool()
            return self._pool

    def _new_pool(self) -> ConnectionPool[Connection]:
        return ConnectionPool(
            self.address.url,
            kwargs=connection.for_queries(self.address, self.engine),
            min_size=0,
            max_size=POOL_SIZE,
            configure=self._teach,
            open=True,
            name="embstore",
        )

    def _teach(self, opened: Connection) -> None:
        """Teach a connection pgvector's types: a user's numpy arrays as parameters, and ours."""
        from pgvector.psycopg import register_vector

        with suppress(psycopg.ProgrammingError):  # the extension lives outside the search path
            register_vector(opened)
        wire.register(opened, self.engine)

    def close(self) -> None:
        """Close the pool."""
        if self._pool is not None and self._pid == os.getpid():
            while self.at_hand:
                self._pool.putconn(self.at_hand.pop())
            self._pool.close()
        self._pool = None
