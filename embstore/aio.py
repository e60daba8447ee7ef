"""The async client: the same calls, awaited.

::

    async with await embstore.aio.connect() as store:
        items = await store.table("items")
        found = await items.nearest(query, k=10)

Reads (nearest, similar, lookup, features) run on an async pool, by the very coroutines that the
sync client runs. What is rare or long (load, promote, drop) runs the sync client in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from . import connection, store, wire
from .errors import ConnectionFailed
from .io import AsyncIo, Io
from .link import HELPERS, POOL_SIZE
from .query.ask import Ask, How
from .query.lookup import features, lookup
from .query.nearest import nearest, similar
from .query.target import Target
from .reads import as_matrix, check_matrix
from .release.aliases import Moved
from .release.releases import Release
from .store import Store
from .types import FeatureMatrix, Features, Neighbors, Vectors
from .version import Version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")
R = TypeVar("R")


async def connect(url: str | None = None, *, read_url: str | None = None) -> AsyncStore:
    """Open a store; as ``embstore.connect``, awaited.

    Raises
    ------
    ConnectionFailed, ServerFailed
    """
    opened = await asyncio.to_thread(store.connect, url, read_url=read_url)
    link = _Link(opened)
    try:
        await link.pool.open()
    except BaseException:
        opened.close()
        raise
    return AsyncStore(opened, link)


class _Link:
    """A pool of connections of the running event loop."""

    def __init__(self, opened: Store) -> None:
        self.engine = opened.read_engine
        self.address = opened.read_address
        self.pool: AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]] = AsyncConnectionPool(
            self.address.url,
            kwargs=connection.for_queries(self.address, self.engine),
            min_size=0,
            max_size=POOL_SIZE,
            configure=self._teach,
            open=False,
            name="embstore-async",
        )
        # A batch holds one connection while its helpers wait for more: some must be left to them.
        self._batches = asyncio.Semaphore(POOL_SIZE // (HELPERS + 1) - 1)

    async def _teach(self, opened: AsyncConnection[tuple[Any, ...]]) -> None:
        from pgvector.psycopg import register_vector_async

        with suppress(psycopg.ProgrammingError):  # the extension lives outside the search path
            await register_vector_async(opened)
        wire.register(opened, self.engine)

    @asynccontextmanager
    async def io(self) -> AsyncIterator[Io]:
        """Lend a connection."""
        try:
            lent = await self.pool.getconn(connection.CONNECT_TIMEOUT_S)
        except PoolTimeout:
            # Says why, if the server is what is wrong.
            (await asyncio.to_thread(connection.connect, self.address)).close()
            raise ConnectionFailed(
                f"all {POOL_SIZE} connections to {self.address} are in use by this process"
            ) from None
        try:
            yield AsyncIo(lent)
        finally:
            await self.pool.putconn(lent)

    async def each(
        self, io: Io, work: Callable[[Io, T], Coroutine[Any, Any, R]], items: Sequence[T]
    ) -> list[R]:
        """Do ``work`` on each item, over several connections if enough are to spare."""
        if len(items) < HELPERS or self._batches.locked():
            return [await work(io, item) for item in items]
        waiting = iter(enumerate(items))
        done: list[Any] = [None] * len(items)

        async def helper() -> None:
            async with self.io() as other:
                for place, item in waiting:
                    done[place] = await work(other, item)

        async with self._batches:
            tasks = [asyncio.create_task(helper()) for _ in range(HELPERS)]
            try:
                await asyncio.gather(*tasks)
            except BaseException:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise
        return done


class AsyncStore:
    """An open store of one event loop. Make one with ``await embstore.aio.connect()``.

    ``sync`` is the store for what this class does not have.
    """

    def __init__(self, sync: Store, link: _Link) -> None:
        self.sync = sync
        self._link = link

    def __repr__(self) -> str:
        return f"<AsyncStore {self._link.address}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._link.pool.close()
        await asyncio.to_thread(self.sync.close)

    async def table(self, name: str) -> AsyncTable:
        """Return a table; as ``Store.table``."""
        return AsyncTable(self._link, await asyncio.to_thread(self.sync.table, name))

    async def tables(self) -> list[AsyncTable]:
        """Return all tables, by name."""
        return [AsyncTable(self._link, each) for each in await asyncio.to_thread(self.sync.tables)]

    async def version(self, ref: str) -> AsyncVersion:
        """Return the version that a reference names; as ``store[ref]``."""
        return AsyncVersion(self._link, await asyncio.to_thread(self.sync.__getitem__, ref))

    async def features(self, ids: Mapping[str, object], missing: str = "raise") -> FeatureMatrix:
        """Return vectors of several tables side by side; as ``Store.features``."""
        readable = {ref: await asyncio.to_thread(self.sync.readable, ref) for ref in ids}
        targets = {ref: each._target() for ref, each in readable.items()}
        return await features(self._link, targets, ids, missing)

    async def promote(self, *refs: str, **how: Any) -> list[Moved]:
        """Move aliases; as ``Store.promote``."""
        return await asyncio.to_thread(self.sync.promote, *refs, **how)

    async def release(self, versions: Mapping[str, int] | Sequence[str], **how: Any) -> Release:
        """Make versions of several tables live in one step; as ``Store.release``."""
        return await asyncio.to_thread(self.sync.release, versions, **how)

    async def rollback(self, table: str, *, message: str | None = None) -> list[Moved]:
        """Undo the last release of a table; as ``Store.rollback``."""
        return await asyncio.to_thread(self.sync.rollback, table, message=message)


class _Reads:
    """What an async table and an async version both answer; as ``Reads``, awaited.

    ``sync`` is the object of the sync client. What is not here is its own: values as they are,
    methods as coroutines that run it in a thread.
    """

    def __init__(self, link: _Link, sync: Any) -> None:
        self._link, self.sync = link, sync
        self._read: Target | None = None

    def __repr__(self) -> str:
        return f"<Async{repr(self.sync)[1:]}"

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.sync, name)
        if not callable(value):
            return value

        async def awaited(*given: Any, **named: Any) -> Any:
            result = await asyncio.to_thread(value, *given, **named)
            return AsyncVersion(self._link, result) if isinstance(result, Version) else result

        return awaited

    async def _target(self) -> Target:
        if self._read is not None:
            return self._read
        found: Target = await asyncio.to_thread(self.sync._target)
        self._read = found
        return found

    async def nearest(self, queries: object, k: int = 10, **how: Unpack[How]) -> Neighbors:
        """Return the k nearest ids to each query vector; as ``Reads.nearest``."""
        return await nearest(self._link, await self._target(), queries, Ask.of(k, **how))

    async def similar(self, ids: object, k: int = 10, **how: Unpack[How]) -> Neighbors:
        """Return the k nearest neighbours of stored ids; as ``Reads.similar``."""
        return await similar(self._link, await self._target(), ids, Ask.of(k, **how))

    async def lookup(
        self, ids: object, missing: str = "raise", *, show: Sequence[str] = ()
    ) -> Features:
        """Return the vectors of ids, in their order; as ``Reads.lookup``."""
        return await lookup(self._link, await self._target(), ids, missing, show=show)

    async def embedding_matrix(
        self, vocabulary: Sequence[Any], missing: str = "zero", *, scale: float = 0.0, seed: int = 0
    ) -> Vectors:
        """Return the first weights of an embedding layer; as ``Reads.embedding_matrix``."""
        check_matrix(missing)
        return as_matrix(await self.lookup(vocabulary, missing), missing, scale, seed)


class AsyncVersion(_Reads):
    """A version of an ``AsyncStore``."""


class AsyncTable(_Reads):
    """A table of an ``AsyncStore``."""

    async def live(self) -> AsyncVersion:
        """Return the version that is live now."""
        return AsyncVersion(self._link, await asyncio.to_thread(lambda: self.sync.live))

    async def version(self, selector: int | str) -> AsyncVersion:
        """Return one of its versions; as ``table[7]``."""
        return AsyncVersion(self._link, await asyncio.to_thread(self.sync.__getitem__, selector))

    async def versions(self) -> list[AsyncVersion]:
        """Return the ready versions, oldest first."""
        found = await asyncio.to_thread(self.sync.versions)
        return [AsyncVersion(self._link, each) for each in found]
