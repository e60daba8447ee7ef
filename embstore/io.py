"""One logic for the sync and the async client.

Queries are coroutines over an ``Io``, a connection that is asked with ``await``. The async client
awaits them. The sync client runs each to its end on the spot, with ``complete``: none of the
awaits of a ``SyncIo`` ever waits, because it asks a blocking connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg import generators
from psycopg.pq import ExecStatus, Format

from .connection import Connection, Engine

if TYPE_CHECKING:
    from types import TracebackType

    from psycopg import AsyncConnection, sql

T = TypeVar("T")
R = TypeVar("R")


class Io(ABC):
    """A connection, asked with await."""

    @abstractmethod
    async def rows(
        self, statement: bytes | sql.Composed, parameters: Any = None
    ) -> list[tuple[Any, ...]]:
        """Execute one statement; returns all of its rows, which come in binary form."""

    async def columns(
        self, statement: bytes, parameter: bytes, oid: int
    ) -> tuple[list[Any], ...] | None:
        """Execute a prepared statement with the one parameter $1, of type ``oid``.

        Returns
        -------
        tuple of lists, or None
            The columns' values in binary form, as the server sends them, None for null. None where
            this connection has no such way, and when it failed: ``rows`` says why then.
        """
        return None

    @abstractmethod
    async def run(self, statement: bytes) -> None:
        """Execute one statement that has no rows."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it was lost."""

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """Let several statements see one state of the store, and change nothing."""
        await self.run(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        except BaseException:
            with suppress(psycopg.Error):
                await self.run(b"ROLLBACK")
            raise
        await self.run(b"COMMIT")


class Lender(Protocol):
    """Where connections for reading come from."""

    @property
    def engine(self) -> Engine:
        """What kind of Postgres it is."""

    def io(self) -> AbstractAsyncContextManager[Io]:
        """Lend a connection."""

    async def each(
        self, io: Io, work: Callable[[Io, T], Coroutine[Any, Any, R]], items: Sequence[T]
    ) -> list[R]:
        """Do ``work`` on each item, on more connections than ``io`` if there are some to spare.

        Returns
        -------
        list, in the order of the items
        """


class OneConnection:
    """A lender of the one connection there is, such as a load's, which sees what nobody else does.

    Ask it at most a block of queries at a time: more begin a transaction of their own.
    """

    def __init__(self, connection: Connection, engine: Engine) -> None:
        self._connection, self.engine = connection, engine

    def io(self) -> AbstractAsyncContextManager[Io]:
        """Lend it."""
        return lent(nullcontext(self._connection))

    async def each(
        self, io: Io, work: Callable[[Io, T], Coroutine[Any, Any, R]], items: Sequence[T]
    ) -> list[R]:
        """Do ``work`` on each item."""
        return [await work(io, item) for item in items]


# What is prepared under which name, by connection. Where there are more, a cursor will do.
_PREPARED: WeakKeyDictionary[Connection, dict[bytes, bytes]] = WeakKeyDictionary()
_MOST_PREPARED = 200
_NUMBERS = count(1)


class SyncIo(Io):
    """A blocking connection, lent to nobody else meanwhile."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def columns(
        self, statement: bytes, parameter: bytes, oid: int
    ) -> tuple[list[Any], ...] | None:
        """Execute a prepared statement past the driver's cursor.

        A cursor's adaptation and rows take 60 of the client's 80 microseconds of a search, which
        on a busy machine are missing to the server.
        """
        connection, pgconn = self._connection, self._connection.pgconn
        prepared = _PREPARED.get(connection)
        if prepared is None:
            prepared = _PREPARED[connection] = {}
        if (name := prepared.get(statement)) is None:
            if connection.prepare_threshold is None or len(prepared) >= _MOST_PREPARED:
                return None
            name = b"embstore_%d" % next(_NUMBERS)
            pgconn.send_prepare(name, statement, [oid])
            if connection.wait(generators.execute(pgconn))[0].status != ExecStatus.COMMAND_OK:
                return None
            prepared[statement] = name
        pgconn.send_query_prepared(name, [parameter], [Format.BINARY], Format.BINARY)
        answer = connection.wait(generators.execute(pgconn))[0]
        if answer.status != ExecStatus.TUPLES_OK:
            del _PREPARED[connection]  # whatever it was, it may be that they are gone
            return None
        value, rows = answer.get_value, range(answer.ntuples)
        return tuple([value(row, at) for row in rows] for at in range(answer.nfields))

    async def rows(
        self, statement: bytes | sql.Composed, parameters: Any = None
    ) -> list[tuple[Any, ...]]:
        """Execute one statement; returns all of its rows."""
        return self._connection.execute(statement, parameters, binary=True).fetchall()

    async def run(self, statement: bytes) -> None:
        """Execute one statement that has no rows."""
        self._connection.execute(statement)

    @property
    def closed(self) -> bool:
        """Whether it was lost."""
        return bool(self._connection.closed)


class AsyncIo(Io):
    """A connection of an event loop."""

    __slots__ = ("_connection",)

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]]) -> None:
        self._connection = connection

    async def rows(
        self, statement: bytes | sql.Composed, parameters: Any = None
    ) -> list[tuple[Any, ...]]:
        """Execute one statement; returns all of its rows."""
        cursor = await self._connection.execute(statement, parameters, binary=True)
        return await cursor.fetchall()

    async def run(self, statement: bytes) -> None:
        """Execute one statement that has no rows."""
        await self._connection.execute(statement)

    @property
    def closed(self) -> bool:
        """Whether it was lost."""
        return bool(self._connection.closed)


def complete(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine over a ``SyncIo`` to its end."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError("a coroutine over a blocking connection waited")


class lent:
    """Make a blocking loan of a connection one that a coroutine can enter."""

    __slots__ = ("_loan",)

    def __init__(self, loan: Any) -> None:
        self._loan = loan

    async def __aenter__(self) -> Io:
        return SyncIo(self._loan.__enter__())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loan.__exit__(kind, error, trace)
