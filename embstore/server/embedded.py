"""Start, join, keep and stop the embedded server.

It runs while a process holds it (``join``), or from ``up`` to ``down``. The last process to leave
stops it, unless another client is connected. A process that is killed leaves too, but cannot
stop it: the next one that leaves does.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..errors import ServerFailed
from . import listen, postmaster, sharing
from .account import account
from .cluster import Cluster
from .postmaster import Postmaster
from .programs import default_home


@dataclass(frozen=True)
class Status:
    """What is known of the embedded server; ``version``, ``url`` and the like are None while down.

    ``running`` means that it takes connections: in crash recovery it has a ``pid`` but no more.
    ``port`` is that on 127.0.0.1, None where it listens on its socket only.
    """

    home: Path
    running: bool
    pid: int | None
    version: str | None
    url: str | None
    port: int | None
    pgpass: Path | None
    kept: bool
    data_bytes: int
    since: datetime | None


class EmbeddedServer:
    """This process's hold on the running server. ``release`` gives it up; so does the exit."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self._held_by: int | None = os.getpid()

    def release(self) -> None:
        """Give up the hold; the last one of the machine stops the server."""
        # A forked child has a copy of this object, and no hold.
        held, self._held_by = self._held_by == os.getpid(), None
        if held:
            sharing.let_go(self.home)


def join(home: Path | None = None) -> EmbeddedServer:
    """Start the server, or join it when it runs; the first time, make its cluster.

    Parameters
    ----------
    home : Path
        The folder of its data, by default ``default_home()``.

    Raises
    ------
    ServerFailed
        With the reason, and what to do.
    """
    home = _resolved(home)
    server = sharing.hold(home, lambda cluster: _start(cluster, _kept_port(home)))
    return EmbeddedServer(home, server.url)


def up(home: Path | None = None, *, port: int | None = None) -> Status:
    """Start the server and leave it running after this process.

    Parameters
    ----------
    port : int
        Listen on 127.0.0.1 too, with the password of ``home/pgpass``, until ``down``. Without it,
        a server that listens already goes on listening.

    Raises
    ------
    ServerFailed
        When the port is taken, or clients are connected to a server that would have to restart.
    """
    if port is not None:
        listen.check_port(port)
    home = _resolved(home)
    with sharing.turn(home) as cluster:
        port = port or _kept_port(home)
        server = cluster.ready()
        if server is None:
            server = _start(cluster, port)
        elif port is not None and server.tcp_port != port:
            server = _restart(cluster, server, port)
        account().write(home / "keep", json.dumps({"port": port}))
        if port is not None:
            listen.set_password(server, home / "pgpass")
    return status(home)


def down(home: Path | None = None) -> bool:
    """Stop the server, whoever uses it; False when it did not run.

    Raises
    ------
    ServerFailed
        When it does not stop.
    """
    home = _resolved(home)
    if not (home / "lock").exists():
        return False
    with sharing.turn(home) as cluster:
        (home / "keep").unlink(missing_ok=True)
        server = postmaster.find(cluster.data)
        if server is not None:
            cluster.stop(server)
        return server is not None


def status(home: Path | None = None) -> Status:
    """Return what is known of the server; starts nothing."""
    home = _resolved(home)
    data = Cluster(home).data
    server = postmaster.find(data)
    running = server is not None and server.ready and server.listening
    return Status(
        home=home,
        running=running,
        pid=server.pid if server else None,
        version=listen.server_version(server) if server and running else None,
        url=server.url if server and running else None,
        port=server.tcp_port if server and running else None,
        pgpass=home / "pgpass" if (home / "pgpass").exists() else None,
        kept=(home / "keep").exists(),
        data_bytes=_size(data),
        since=datetime.fromtimestamp(server.since, UTC) if server else None,
    )


def _start(cluster: Cluster, port: int | None) -> Postmaster:
    if port is not None:
        listen.check_free(port)
    return cluster.start(port)


def _restart(cluster: Cluster, server: Postmaster, port: int) -> Postmaster:
    listen.check_free(port)
    if connected := listen.clients(server):
        raise ServerFailed(
            f"the server must restart to listen on port {port} and other clients are connected"
            f" ({connected}): close them, or run embstore down first"
        )
    cluster.stop(server)
    try:
        return cluster.start(port)
    except ServerFailed:
        cluster.start(server.tcp_port)  # as it was
        raise


def _kept_port(home: Path) -> int | None:
    """Return the port that ``up`` was asked for, if it was."""
    try:
        port = json.loads((home / "keep").read_text())["port"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return port if isinstance(port, int) else None


def _resolved(home: Path | None) -> Path:
    found = (default_home() if home is None else Path(home).expanduser()).resolve()
    if os.path.isdir(found) and not os.access(found, os.R_OK | os.X_OK):  # noqa: PTH112
        raise ServerFailed(f"{found} belongs to another user: run embstore as that user")
    return found


def _size(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):  # files come and go under a running server
                total += (Path(root) / name).stat().st_blocks * 512
    return total
