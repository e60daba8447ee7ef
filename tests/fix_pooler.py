"""A pooler in transaction mode, as PgBouncer is one: each transaction gets another backend."""

import asyncio
import itertools
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_store import Server, free_port

STARTUP = 196608


class Pooler:
    """Some backends, all greeted; a client holds one from its first message to ReadyForQuery."""

    def __init__(self, socket: Path, database: str, backends: int = 3) -> None:
        self.socket, self.database, self.backends = socket, database, backends
        self.port = free_port()
        self.transactions = itertools.count()
        self.loop = asyncio.new_event_loop()
        self.stop = asyncio.Event()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.run(),))
        self.thread.start()
        assert self.ready.wait(10)

    @property
    def url(self) -> str:
        return f"postgresql://embstore@127.0.0.1:{self.port}/{self.database}?sslmode=disable"

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join()
        self.loop.close()

    async def run(self) -> None:
        self.free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
        self.free = asyncio.Queue()
        writers = []
        for _ in range(self.backends):
            reader, writer = await asyncio.open_unix_connection(self.socket)
            words = b"user\0embstore\0database\0" + self.database.encode() + b"\0\0"
            writer.write(struct.pack(">II", len(words) + 8, STARTUP) + words)
            self.greeting = b""
            while True:
                kind, message = await self.message(reader)
                self.greeting += message if kind == b"S" else b""
                if kind == b"Z":
                    break
            self.free.put_nowait((reader, writer))
            writers.append(writer)
        self.clients: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self.client, "127.0.0.1", self.port)
        self.ready.set()
        await self.stop.wait()
        server.close()
        for task in self.clients:
            task.cancel()
        await asyncio.gather(*self.clients, return_exceptions=True)
        for writer in writers:
            writer.close()

    @staticmethod
    async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        head = await reader.readexactly(5)
        return head[:1], head + await reader.readexactly(struct.unpack(">I", head[1:])[0] - 4)

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.clients.add(task)
        backend = None
        try:
            size = struct.unpack(">I", await reader.readexactly(4))[0]
            await reader.readexactly(size - 4)
            key = b"K" + struct.pack(">III", 12, 1, 1)  # of no backend
            writer.write(b"R" + struct.pack(">II", 8, 0) + self.greeting + key)
            writer.write(b"Z" + struct.pack(">I", 5) + b"I")
            while True:
                kind, message = await self.message(reader)
                if kind == b"X":
                    return
                if backend is None:
                    backend = await self.free.get()
                    next(self.transactions)
                backend[1].write(message)
                if kind not in b"QS":
                    continue
                while True:
                    kind, message = await self.message(backend[0])
                    writer.write(message)
                    if kind == b"Z":
                        break
                await writer.drain()
                if message[5:6] == b"I":
                    self.free.put_nowait(backend)
                    backend = None
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.clients.discard(task)


@pytest.fixture
def pooler(pg: Server, database: str) -> Iterator[Pooler]:
    found = Pooler(pg.home / "run" / f".s.PGSQL.{pg.port}", database)
    yield found
    found.close()
