"""A follower keeps to its alias, and answers when the server is gone."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import embstore
from embstore import ConnectionFailed, NotFound, Store
from tests.fix_data import clusters
from tests.fix_store import Server


class Proxy:
    """Passes TCP on to the server until it is cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._to))
                self._open += [ours, theirs]
                for a, b in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def mend(self) -> None:
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()


@pytest.fixture
def proxy(pg: Server) -> Iterator[Proxy]:
    made = Proxy(pg.port)
    yield made
    made.cut()


def through(pg: Server, database: str, proxy: Proxy) -> str:
    return pg.tcp_url(database).replace(f":{pg.port}/", f":{proxy.port}/")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def load(store: Store, seed: int, promote: bool = True) -> None:
    try:
        table = store.table("items")
    except NotFound:
        table = store.create_table("items")
    table.load(clusters(600, 8, seed), ids=range(600), index="none", promote=promote)


def test_it_keeps_to_the_alias(store: Store, tmp_path: Path) -> None:
    load(store, 1)
    with embstore.follow("items", tmp_path, store=store, every=0.05) as items:
        assert items.replica.ref == "items@1" and not items.stale and items.age < 60
        held = items.replica
        for seed in (2, 3):
            load(store, seed)
            until(lambda number=seed: items.replica.ref == f"items@{number}")  # type: ignore[misc]
            np.testing.assert_array_equal(items.lookup([5]).vectors, clusters(600, 8, seed)[5:6])
            assert items.nearest(clusters(600, 8, seed)[5], 1).ids.tolist() == [[5]]
        assert held.lookup([5]).version == 1  # who holds the old one goes on with it

        def kept() -> list[str]:
            return sorted(each.name[:7] for each in tmp_path.iterdir() if each.is_dir())

        # It answers with the new one before it removes the oldest.
        until(lambda: kept() == ["items@2", "items@3"])
        store.table("items").rollback()
        until(lambda: items.replica.ref == "items@2")
        assert items.similar([5], 3).version == 2


def test_each_call_is_of_one_version(store: Store, tmp_path: Path) -> None:
    load(store, 1)
    load(store, 2, promote=False)
    wanted = {1: clusters(600, 8, 1), 2: clusters(600, 8, 2)}
    with embstore.follow("items", tmp_path, store=store, every=0.01) as items:
        seen = set()
        for number in (2, 1, 2, 1):
            store[f"items@{number}"].promote()
            until(lambda number=number: items.replica.ref == f"items@{number}")  # type: ignore[misc]
            found = items.lookup(range(600))
            assert found.version is not None
            np.testing.assert_array_equal(found.vectors, wanted[found.version])
            seen.add(found.version)
        assert seen == {1, 2}


def test_with_the_server_down_it_answers_and_says_how_old_it_is(
    pg: Server,
    database: str,
    store: Store,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embstore.connection.CONNECT_TIMEOUT_S", 1)
    load(store, 1)
    url = through(pg, database, proxy)
    with embstore.follow("items", tmp_path, url=url, every=0.05) as items:
        proxy.cut()
        until(lambda: items.stale)
        age = items.age
        time.sleep(0.05)
        assert items.age > age and isinstance(items.error, ConnectionFailed)
        assert items.nearest(clusters(600, 8, 1)[5], 1).ids.tolist() == [[5]]
        with pytest.raises(ConnectionFailed):
            items.refresh()

        with embstore.follow("items", tmp_path, url=url, every=60) as another:  # from the disk
            assert another.stale and another.age > age
            assert another.lookup([5]).version == 1
        with pytest.raises(ConnectionFailed):
            embstore.follow("items@candidate", tmp_path, url=url)

        load(store, 2)
        proxy.mend()
        until(lambda: items.replica.ref == "items@2")
        assert not items.stale and items.error is None


def test_calls_do_not_wait_for_a_download(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(store, 1)
    fetching, go_on = threading.Event(), threading.Event()

    def slow(*given: object, **how: object) -> object:
        fetching.set()
        assert go_on.wait(60)
        return embstore.replica.replicate(*given, **how)  # type: ignore[arg-type]

    with embstore.follow("items", tmp_path, store=store, every=0.02) as items:
        monkeypatch.setattr("embstore.replica.follow.replicate", slow)
        load(store, 2)
        assert fetching.wait(60)
        assert items.lookup([5]).version == 1
        go_on.set()
        until(lambda: items.lookup([5]).version == 2)


def test_a_forked_child_follows_on(store: Store, tmp_path: Path) -> None:
    load(store, 1)
    items = embstore.follow("items", tmp_path, store=store, every=0.05)
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            end = time.monotonic() + 30
            while items.lookup([5]).version != 2 and time.monotonic() < end:
                time.sleep(0.02)
            status = 0 if items.lookup([5]).version == 2 else 2
        os._exit(status)
    load(store, 2)
    assert os.waitpid(child, 0)[1] == 0
    items.close()


def test_what_cannot_be_followed(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        embstore.follow("nothing", tmp_path, store=store)
    with pytest.raises(embstore.InvalidName):
        embstore.follow("No Name", tmp_path, store=store)
