"""One data directory: made, started, found running or dead, stopped. Callers hold the lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import ServerFailed
from . import settings
from .account import ROLE, account, programs, unreachable

MAJOR = "18"
# Crash recovery replays at most max_wal_size and takes seconds; a slow disk may need minutes.
START_TIMEOUT_S = 600
# sun_path holds 108 bytes on Linux and 104 on macOS, and the socket's name takes 18 of them.
_MAX_SOCKET_DIR = 80
_MAX_LOG_BYTES = 10 << 20


class Postmaster(NamedTuple):
    """What postmaster.pid says."""

    pid: int
    port: int
    ready: bool
    tcp: bool


@dataclass(frozen=True)
class Cluster:
    """The server's files under a home folder."""

    home: Path

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.home / "log" / "postgres.log"

    @property
    def sockets(self) -> Path:
        """The folder of the socket: in home, or a short one where that path is too long."""
        inside = self.home / "run"
        if len(os.fsencode(inside)) <= _MAX_SOCKET_DIR:
            return inside
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"embstore-{name}"

    def url(self, port: int) -> str:
        """Return the libpq URL through the socket."""
        from urllib.parse import quote

        at = f"&port={port}" if port != 5432 else ""
        return f"postgresql://{ROLE}@/{ROLE}?host={quote(str(self.sockets))}{at}"

    def prepare(self) -> None:
        """Make the private folders.

        Raises
        ------
        ServerFailed
            When they cannot be made, or the server's user could not get at them.
        """
        if blocked := unreachable(self.home):
            raise ServerFailed(
                f"Postgres runs as user {account().name}, who may not enter {blocked}: set"
                " EMBSTORE_HOME to a folder that it can reach, such as /var/lib/embstore"
            )
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            account().own(self.home, 0o700)
            for folder in (self.home / "log", self.sockets):
                with suppress(FileExistsError):
                    folder.mkdir(mode=0o700)
                found = folder.lstat()
                if folder.is_symlink() or found.st_uid not in {account().uid, os.geteuid()}:
                    raise ServerFailed(f"{folder} belongs to another user: remove it")
                account().own(folder, 0o700)
        except OSError as error:
            raise ServerFailed(
                f"cannot use {self.home} ({error.strerror}): set EMBSTORE_HOME to another folder"
            ) from error

    def initialise(self) -> None:
        """Run initdb, aside and then renamed, so that half of one is never taken for a cluster."""
        if self.data.exists():
            found = (self.data / "PG_VERSION").read_text().strip()
            if found != MAJOR:
                raise ServerFailed(
                    f"{self.data} was made by Postgres {found} and this embstore runs {MAJOR}: use"
                    " another EMBSTORE_HOME and load again, or pg_upgrade it"
                )
            return
        new = self.home / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        bin_ = programs(self.home)
        self._checked(
            account().run(
                bin_ / "initdb",
                *("-D", str(new), "-U", ROLE, "--encoding=UTF8", "--data-checksums"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                *("--auth-local=peer", "--auth-host=scram-sha-256", "--no-instructions"),
                capture_output=True,
            ),
            "initdb failed",
        )
        with (new / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude 'embstore.conf'\ninclude_if_exists '../local.conf'\n")
        self._configure(new, None)
        for database, statement in (
            ("template1", f"CREATE DATABASE {ROLE}"),
            (ROLE, "CREATE EXTENSION vector SCHEMA public"),
        ):
            self._checked(
                account().run(
                    bin_ / "postgres",
                    *("--single", "-D", str(new), database),
                    input=statement + "\n",
                    capture_output=True,
                    stdin=None,
                ),
                "the new cluster could not be set up",
            )
        new.rename(self.data)

    def _configure(self, data: Path, port: int | None) -> None:
        """Write the files that embstore owns, for this machine as it is now."""
        values = settings.settings(*settings.machine()) | {
            "listen_addresses": "127.0.0.1" if port else "",
            "port": str(port or 5432),
            "unix_socket_directories": str(self.sockets),
        }
        who = account()
        who.write(data / "embstore.conf", settings.text(values))
        who.write(
            data / "pg_hba.conf",
            "local all all peer map=embstore\nhost all all 127.0.0.1/32 scram-sha-256\n",
        )
        lines = [f'embstore "{name}" all\n' for name in who.names]
        who.write(data / "pg_ident.conf", "".join(lines))

    def start(self, port: int | None) -> None:
        """Start the server and wait until it answers, through crash recovery if need be.

        Raises
        ------
        ServerFailed
            With the last word of the server's log.
        """
        self._bury_the_dead()
        self._configure(self.data, port)
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.rename(self.log.with_suffix(".log.1"))
        began = self.log.stat().st_size if self.log.exists() else 0
        done = account().run(
            programs(self.home) / "pg_ctl",
            *("start", "-D", str(self.data), "-l", str(self.log)),
            *("-w", "-t", str(START_TIMEOUT_S), "-s"),
            # Not a pipe: the server inherits it, and nobody would ever see its end.
            stdout=-3,
            stderr=-3,
        )
        if done.returncode or not self.answers():
            raise ServerFailed(f"Postgres did not start: {self._last_words(began)} ({self.log})")

    def stop(self) -> None:
        """Stop the server: running transactions are rolled back, nothing committed is lost."""
        self._checked(
            account().run(
                programs(self.home) / "pg_ctl",
                *("stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "600", "-s"),
                capture_output=True,
            ),
            "Postgres did not stop",
        )

    def postmaster(self) -> Postmaster | None:
        """Read postmaster.pid; it may be stale."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            ready = len(lines) > 7 and lines[7].strip() == "ready"
            return Postmaster(int(lines[0]), int(lines[3]), ready, bool(lines[5].strip()))
        except (OSError, ValueError, IndexError):
            return None

    def answers(self) -> bool:
        """Tell whether a server runs, listens on the socket and is ready.

        Both are asked: a pid may have gone to another process, and the children of a killed
        server hold its socket for a moment.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while (
            (found := self.postmaster()) is not None
            and _alive(found.pid)
            and self._listens(found.port)
        ):
            if found.ready:
                return True
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"Postgres is still recovering after {START_TIMEOUT_S} s: wait, then try again"
                    f" ({self.log})"
                )
            time.sleep(0.05)  # its starter died while it recovers
        return False

    def _listens(self, port: int) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.sockets / f".s.PGSQL.{port}"))
            except OSError:
                return False
            return True

    def _bury_the_dead(self) -> None:
        """Make way after a crash: wait for orphans of a killed server, remove its stale pid file.

        Postgres refuses to start while a child of the old server lives, or when the pid in the
        file has gone to another process of the same user, or is a zombie nobody has reaped.
        """
        if not (self.data / "postmaster.pid").exists():
            return
        import psutil

        orphans = []
        for process in psutil.process_iter(["name", "status"]):
            with suppress(psutil.Error):
                if (
                    process.info["name"] == "postgres"
                    and process.info["status"] != psutil.STATUS_ZOMBIE
                    and Path(process.cwd()) == self.data
                ):
                    orphans.append(process)
        # They end by themselves once they notice; one inside a long computation may not.
        _, deaf = psutil.wait_procs(orphans, timeout=5)
        for process in deaf:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(deaf, timeout=5)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _checked(self, done: object, what: str) -> None:
        import subprocess

        assert isinstance(done, subprocess.CompletedProcess)
        if done.returncode:
            said = [line for line in (done.stderr or "").splitlines() if line.strip()]
            raise ServerFailed(f"{what}: {said[-1] if said else 'it said nothing'} ({self.home})")

    def _last_words(self, began: int) -> str:
        try:
            with self.log.open(errors="replace") as log:
                log.seek(began)
                lines = log.read().splitlines()
        except OSError:
            lines = []
        fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
        return (fatal or lines or ["its log says nothing"])[-1].split("] ")[-1]


def _alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
