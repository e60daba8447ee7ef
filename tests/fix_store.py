"""One embedded server for the run, and per test a store: a database cloned from a template."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

import embstore
from embstore import connection, schema, server
from tests import fix_process
from tests.fix_database import Databases


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reachable_folder() -> Path:
    """Make a folder that the server's user can pass through (pytest's own are root's alone)."""
    folder = Path(tempfile.mkdtemp(prefix="embt-"))
    folder.chmod(0o711)
    return folder


@dataclass(frozen=True)
class Server:
    home: Path
    port: int
    password: str

    def url(self, database: str = "embstore") -> str:
        return f"postgresql://embstore@/{database}?host={self.home / 'run'}&port={self.port}"

    def tcp_url(self, database: str = "embstore", password: str | None = None) -> str:
        secret = self.password if password is None else password
        return f"postgresql://embstore:{secret}@127.0.0.1:{self.port}/{database}"


@contextmanager
def running() -> Iterator[Server]:
    """Start the run's server and migrate its database ``template``; stop and remove it."""
    folder = reachable_folder()
    home = folder / "home"
    try:
        now = server.up(home, port=free_port())
        assert now.port is not None and now.pgpass is not None
        password = now.pgpass.read_text().split("\n")[0].rsplit(":", 1)[1]
        found = Server(home, now.port, password)
        with psycopg.connect(found.url(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE template")
        schema.upgrade(connection.parse(found.url("template")))
        yield found
    finally:
        server.down(home)
        shutil.rmtree(folder)


class OneServer:
    """Where several processes run the tests, the one that starts them has the server for all."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._server: Server | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self._server is None:
            self._server = self._stack.enter_context(running())
        found = self._server
        node.workerinput["server"] = (str(found.home), found.port, found.password)

    def pytest_unconfigure(self) -> None:
        self._stack.close()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(OneServer())


@pytest.fixture(scope="session")
def pg(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The run's server, listening on a socket and on TCP; its database ``template`` is migrated."""
    given = getattr(request.config, "workerinput", None)
    if given is None:
        with running() as found:
            yield found
    else:
        home, port, password = given["server"]
        yield Server(Path(home), port, password)


@pytest.fixture(scope="session")
def databases(pg: Server) -> Databases:
    """Where databases come from; what is left of them goes with the server."""
    return Databases(pg.url(), pg.url("{}"))


@pytest.fixture
def bare_database(databases: Databases) -> Iterator[str]:
    """The name of an empty database."""
    name = databases.create("template1")
    yield name
    databases.drop(name)


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """The name of a database that holds an empty store."""
    yield from databases.with_store()


@pytest.fixture
def store(pg: Server, database: str) -> Iterator[embstore.Store]:
    """An empty store."""
    with embstore.connect(pg.url(database)) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_store(pg: Server, databases: Databases) -> Iterator[embstore.Store]:
    """A store that the tests of a module share: they only read what its fixtures load."""
    for name in databases.with_store():
        with embstore.connect(pg.url(name)) as opened:
            yield opened


def nothing_is_left(store: embstore.Store) -> bool:
    """No row of a version, no relation of one."""
    with store.connection() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM embstore.versions),"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = 'emb'::regnamespace)"
        ).fetchone()
    return row == (0, 0)


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(pg: Server, database: str) -> Command:
    """Run the command line as a process of its own against an empty store."""

    def run(
        *arguments: object, url: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"EMBSTORE_URL": url or pg.url(database)}
        return fix_process.run([*map(str, arguments)], env={**env, **environment})

    return run
