"""Start, join, keep and stop the embedded server.

Every process that uses the server holds a shared lock on ``home/users`` for as long as it does;
the kernel frees it however the process ends. Whoever leaves last stops the server, unless ``up``
keeps it or another client is connected. Starts and stops take turns on ``home/lock``.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import ServerFailed
from . import listen
from .account import account, default_home
from .cluster import Cluster


@dataclass(frozen=True)
class Status:
    """What is known of the embedded server; ``url`` and the like are None while it is down."""

    home: Path
    running: bool
    pid: int | None
    version: str | None
    url: str | None
    port: int | None
    pgpass: Path | None
    kept: bool
    data_bytes: int


class EmbeddedServer:
    """This process's hold on the running server. ``release`` gives it up; so does the exit."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        self._held = True

    def release(self) -> None:
        """Give up the hold; the last one of the machine stops the server."""
        if self._held:
            self._held = False
            _leave(self.home)


@dataclass
class _Share:
    """This process's share of a home: one lock, however many holds."""

    file: int
    pid: int
    holds: int


_shares: dict[Path, _Share] = {}
_mutex = threading.RLock()


def join(home: Path | None = None) -> EmbeddedServer:
    """Start the server, or join it when it runs; the first time, make its cluster.

    Raises
    ------
    ServerFailed
    """
    home = _resolved(home)
    cluster = Cluster(home)
    with _mutex:
        share = _shares.get(home)
        if share is not None and share.pid != os.getpid():
            share = None  # a forked child takes a share of its own
        cluster.prepare()
        with _locked(home):
            file = share.file if share else _open(home / "users")
            fcntl.flock(file, fcntl.LOCK_SH)
            try:
                if not cluster.answers():
                    cluster.initialise()
                    cluster.start(_kept(home).get("port"))
            except BaseException:
                if share is None:
                    os.close(file)
                raise
        if share is None:
            share = _shares[home] = _Share(file, os.getpid(), 0)
        share.holds += 1
        found = cluster.postmaster()
        return EmbeddedServer(home, cluster.url(found.port if found else 5432))


def up(home: Path | None = None, *, port: int | None = None) -> Status:
    """Start the server and leave it running after this process.

    Parameters
    ----------
    port : int
        Listen on 127.0.0.1 too, with the password of ``home/pgpass``. Kept until ``down``; without
        it, a server that runs is left as it is.

    Raises
    ------
    ServerFailed
        When the port is taken, or others are connected to a server that would have to restart.
    """
    if port is not None:
        listen.check_port(port)
    held = join(home)
    cluster = Cluster(held.home)
    try:
        with _locked(held.home):
            now = cluster.postmaster()
            if port is not None and now is not None and not (now.tcp and now.port == port):
                listen.check_free(port)
                if others := listen.clients(held.url):
                    raise ServerFailed(
                        f"{others} clients are connected and the server must restart to listen on"
                        f" port {port}: close them, or run embstore down first"
                    )
                cluster.stop()
                cluster.start(port)
                held.url = cluster.url(port)
            if port is not None:
                listen.set_password(held.url, held.home / "pgpass")
            account().write(
                held.home / "keep", json.dumps({"port": port or _kept(held.home).get("port")})
            )
        return status(held.home)
    finally:
        held.release()


def down(home: Path | None = None) -> bool:
    """Stop the server, whoever uses it; False when it did not run.

    Raises
    ------
    ServerFailed
    """
    home = _resolved(home)
    cluster = Cluster(home)
    if not home.exists():
        return False
    with _locked(home):
        (home / "keep").unlink(missing_ok=True)
        if not cluster.answers():
            return False
        cluster.stop()
        return True


def status(home: Path | None = None) -> Status:
    """Return what is known of the server; starts nothing."""
    home = _resolved(home)
    cluster = Cluster(home)
    found = cluster.postmaster() if cluster.data.exists() and cluster.answers() else None
    url = cluster.url(found.port) if found else None
    pgpass = home / "pgpass"
    return Status(
        home=home,
        running=found is not None,
        pid=found.pid if found else None,
        version=listen.server_version(url) if url else None,
        url=url,
        port=found.port if found and found.tcp else None,
        pgpass=pgpass if pgpass.exists() else None,
        kept=(home / "keep").exists(),
        data_bytes=_size(cluster.data),
    )


def _leave(home: Path) -> None:
    with _mutex:
        share = _shares.get(home)
        if share is None or share.pid != os.getpid():
            return
        share.holds -= 1
        if share.holds > 0:
            return
        del _shares[home]
        try:
            with _locked(home), suppress(BlockingIOError):
                fcntl.flock(share.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                cluster = Cluster(home)
                if _kept(home) or not cluster.answers():
                    return
                found = cluster.postmaster()
                if found is not None:
                    # What this process forgot to close ends with it, and is nobody's.
                    own = listen.own_connections(cluster.sockets / f".s.PGSQL.{found.port}")
                    if listen.clients(cluster.url(found.port)) <= own:
                        cluster.stop()
        except FileNotFoundError:
            pass  # the home was removed meanwhile
        finally:
            os.close(share.file)


@atexit.register
def _leave_all() -> None:
    for home, share in list(_shares.items()):
        share.holds = 1
        with suppress(ServerFailed, OSError):
            _leave(home)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Take turns with every other start and stop of this home."""
    file = _open(home / "lock")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _kept(home: Path) -> dict[str, int | None]:
    """Return what ``up`` asked for; empty when it did not."""
    try:
        kept: dict[str, int | None] = json.loads((home / "keep").read_text())
    except (OSError, ValueError):
        return {}
    return kept


def _resolved(home: Path | None) -> Path:
    return Path(home).expanduser().resolve() if home is not None else default_home().resolve()


def _size(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):  # files come and go under a running server
                total += (Path(root) / name).stat().st_blocks * 512
    return total
