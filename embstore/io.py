"""One logic for the sync and the async client.

Queries are coroutines over an ``Io``, a connection that is asked with ``await``. The async client
awaits them. The sync client runs each to its end on the spot, with ``complete``: none of the
awaits of a ``SyncIo`` ever waits, because it asks a blocking connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg

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


class SyncIo(Io):
    """A blocking connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

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
