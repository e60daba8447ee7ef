"""The server's main process: found alive, dead, or dead with orphans that live."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from .account import ROLE

if TYPE_CHECKING:
    import psutil

DEFAULT_PORT = 5432
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# Orphans end within milliseconds, once they notice; one amid an index build may not look up.
_ORPHANS_S = 10.0


@dataclass(frozen=True)
class Postmaster:
    """What postmaster.pid says of a live server."""

    pid: int
    since: float
    port: int
    sockets: Path
    tcp: bool
    ready: bool
    listening: bool

    @property
    def tcp_port(self) -> int | None:
        """The port on 127.0.0.1, None when it does not listen there."""
        return self.port if self.tcp else None

    @property
    def url(self) -> str:
        """The libpq URL through the socket."""
        port = f"&port={self.port}" if self.port != DEFAULT_PORT else ""
        return f"postgresql://{ROLE}@/{ROLE}?host={quote(str(self.sockets))}{port}"


def find(data: Path) -> Postmaster | None:
    """Return the live server of this data directory, ready or not; None when there is none.

    A pid may have gone to another process, and the whole folder may be a copy: what counts is
    that the socket of this very directory answers, or else what the process is.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid, since, port, sockets = int(lines[0]), float(lines[2]), int(lines[3]), Path(lines[4])
    except (OSError, ValueError, IndexError):
        return _nameless(data)
    listening = lines[1] == str(data) and _listens(sockets / f".s.PGSQL.{port}")
    if not listening and not _serves(pid, data):
        return None
    tcp = len(lines) > 5 and bool(lines[5].strip())
    ready = len(lines) > 7 and lines[7].strip() == "ready"
    return Postmaster(pid, since, port, sockets, tcp, ready, listening)


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie that nobody has reaped does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def make_way(data: Path, sockets: Path) -> None:
    """Clear up after a server that was killed, so that Postgres starts. None may be alive.

    Postgres refuses to start while a child of the killed server lives, and when the pid in one of
    its lock files has gone to another process of its user or is a zombie's.
    """
    file = data / "postmaster.pid"
    if file.exists():
        _end_orphans(data)
        if _blocks(file):
            file.unlink()
    for old in sockets.glob(".s.PGSQL.*"):
        old.unlink()


def _nameless(data: Path) -> Postmaster | None:
    """A server in its first milliseconds has a file without all its lines."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n")[0])
    except (OSError, ValueError):
        return None
    if not _serves(pid, data):
        return None
    return Postmaster(pid, time.time(), 0, data, False, False, False)


def _listens(path: Path) -> bool:
    """Ask whether it speaks TLS; the answer, no, shows that the main process lives.

    That it can be connected to does not: the orphans of a killed one hold its socket for a moment.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
            probe.sendall(_SSL_REQUEST)
            return bool(probe.recv(1))
        except OSError:
            return False


def _serves(pid: int, data: Path) -> bool:
    import psutil

    try:
        return _belongs(psutil.Process(pid), data)
    except psutil.Error:
        return False


def _belongs(process: psutil.Process, data: Path) -> bool:
    """Tell whether it is a Postgres of this data directory: each of its processes works in it."""
    import psutil

    try:
        return (
            process.name().startswith("postgres")
            and process.status() != psutil.STATUS_ZOMBIE
            and Path(process.cwd()) == data
        )
    except (psutil.Error, OSError):
        return False


def _end_orphans(data: Path) -> None:
    import psutil

    orphans = [each for each in psutil.process_iter() if _belongs(each, data)]
    orphans = _left(orphans, data, _ORPHANS_S)
    for process in orphans:
        with suppress(psutil.Error):
            process.kill()
    _left(orphans, data, _ORPHANS_S)


def _left(processes: list[psutil.Process], data: Path, seconds: float) -> list[psutil.Process]:
    """Wait for them to end, and return those that did not."""
    deadline = time.monotonic() + seconds
    while processes and time.monotonic() < deadline:
        time.sleep(0.01)
        processes = [each for each in processes if _belongs(each, data)]
    return processes


def _blocks(file: Path) -> bool:
    """Tell whether the pid in a stale lock file is another process's, or the file has none.

    Else the file stays: Postgres itself then makes sure that no shared memory is in use.
    """
    try:
        pid = int(file.read_text().split("\n")[0])
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True
