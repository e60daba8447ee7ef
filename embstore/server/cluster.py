"""One data directory: made, started, waited for, stopped. Callers hold the start and stop lock."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import ServerFailed
from . import machine, postmaster, settings
from .account import ROLE, account, unreachable
from .postmaster import DEFAULT_PORT, Postmaster
from .programs import MAJOR, programs

# Crash recovery replays at most max_wal_size, in seconds; on a slow disk in minutes.
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 600.0
# sun_path holds 108 bytes on Linux and 104 on macOS, and the socket's name takes 18 of them.
_MAX_SOCKET_DIR = 80
_MAX_LOG_BYTES = 10 << 20
_HBA = "local all all peer map=embstore\nhost all all 127.0.0.1/32 scram-sha-256\n"
_CONF = """\
# Read in this order, the last word wins.
include 'embstore.conf'  # written by embstore at every start, for the machine as it is
include_if_exists '../postgresql.local.conf'
# Your own settings, here or in postgresql.local.conf in the home folder:
"""
_LOCAL = "# Your own settings for Postgres. They win over embstore's, at the next start.\n"
# The shell ends at once, so that the server is no child of ours; it says the server's pid.
_DETACH = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
# What a killed server's clients are told is no reason for it not to start.
_REASON = re.compile(r"(?:FATAL|PANIC): +(?!the database system is )(.*)")


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
        """The socket's folder at the next start: in home, or a short one where that is too long.

        libpq takes a comma in a path for the end of it.
        """
        inside = self.home / "run"
        if len(os.fsencode(inside)) <= _MAX_SOCKET_DIR and "," not in str(inside):
            return inside
        name = "embstore-" + hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()).resolve() / name
        fits = len(os.fsencode(short)) <= _MAX_SOCKET_DIR and not unreachable(short)
        return short if fits else Path("/tmp").resolve() / name

    def prepare(self) -> None:
        """Make the home folder, private.

        Raises
        ------
        ServerFailed
            When it cannot be made, holds something else, or is out of the server user's reach.
        """
        self._reachable()
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = {each.name for each in self.home.iterdir()}
        except OSError as error:
            raise ServerFailed(
                f"cannot use {self.home} ({error.strerror}): set EMBSTORE_HOME to another folder"
            ) from error
        self._reachable()
        # The lock is the first file that embstore makes. A folder with other things in it may be
        # a home directory, which must not be closed to others.
        ours = (self.home / "lock").exists() or (self.data / "PG_VERSION").exists()
        if names - {"lost+found", "postgresql.local.conf"} and not ours:
            raise ServerFailed(
                f"{self.home} holds other files: set EMBSTORE_HOME to a new or empty folder"
            )
        account().folder(self.home)

    def ready(self) -> Postmaster | None:
        """Return the running server, once it is ready; None when none runs.

        Raises
        ------
        ServerFailed
            When it stays in recovery, or its socket is gone.
        """
        began = time.monotonic()
        while (found := postmaster.find(self.data)) is not None:
            if found.ready and found.listening:
                return found
            waited = time.monotonic() - began
            if found.ready and waited > 30:
                raise ServerFailed(
                    f"Postgres runs (pid {found.pid}) but its socket in {found.sockets} is gone:"
                    " run embstore down, then try again"
                )
            if waited > START_TIMEOUT_S:
                raise self._slow(found.pid)
            time.sleep(0.01)
        return None

    def start(self, port: int | None) -> Postmaster:
        """Start the server, and wait until it is ready; the first time, make its cluster.

        Raises
        ------
        ServerFailed
            With the reason in the server's log.
        """
        try:
            for folder in (self.home / "log", self.sockets):
                account().folder(folder)
            if not self.data.exists():
                self._initialise()
            self._check_major()
            postmaster.make_way(self.data, self.sockets)
            self._configure(self.data)
            began = self._open_log()
        except OSError as error:
            raise ServerFailed(
                f"cannot use {error.filename or self.home} ({error.strerror}): free space or mend"
                " its permissions, then try again"
            ) from error
        found = self._await(self._launch(port or DEFAULT_PORT, bool(port)), began)
        if port is not None and port != DEFAULT_PORT:
            # Who holds the URL of before the port was asked for, goes on with it.
            link = found.sockets / f".s.PGSQL.{DEFAULT_PORT}"
            link.unlink(missing_ok=True)
            link.symlink_to(f".s.PGSQL.{port}")
        return found

    def stop(self, found: Postmaster) -> None:
        """Stop the server: running transactions are rolled back, nothing committed is lost.

        Raises
        ------
        ServerFailed
        """
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGINT)  # Postgres's "fast"
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while (now := postmaster.find(self.data)) is not None and now.pid == found.pid:
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"Postgres (pid {found.pid}) did not stop in {STOP_TIMEOUT_S:.0f} s: see"
                    f" {self.log}"
                )
            time.sleep(0.01)
        if found.sockets not in {self.home / "run", self.data}:
            (found.sockets / f".s.PGSQL.{DEFAULT_PORT}").unlink(missing_ok=True)
            with suppress(OSError):
                found.sockets.rmdir()

    def _reachable(self) -> None:
        if blocked := unreachable(self.home):
            raise ServerFailed(
                f"Postgres runs as user {account().name}, who may not enter {blocked}: set"
                " EMBSTORE_HOME to a folder that it can reach, such as /var/lib/embstore"
            )

    def _check_major(self) -> None:
        try:
            found = (self.data / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise ServerFailed(
                f"{self.data} is no Postgres data directory ({error.strerror}): set EMBSTORE_HOME"
                " to another folder"
            ) from error
        if found != MAJOR:
            raise ServerFailed(
                f"{self.data} was made by Postgres {found} and this embstore runs {MAJOR}: use"
                " another EMBSTORE_HOME and load again, or pg_upgrade it"
            )

    def _initialise(self) -> None:
        """Run initdb, aside and then renamed, so that half of one is never taken for a cluster."""
        for left in self.home.glob("data.new-*"):
            shutil.rmtree(left, ignore_errors=True)  # an initdb that was killed
        new = Path(tempfile.mkdtemp(prefix="data.new-", dir=self.home))
        account().folder(new)
        bin_ = programs(self.home)
        self._checked(
            account().run(
                bin_ / "initdb",
                *("-D", new, "-U", ROLE, "--encoding=UTF8", "--data-checksums"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                *("--auth-local=peer", "--auth-host=scram-sha-256", "--no-instructions"),
            )
        )
        account().write(new / "postgresql.conf", _CONF)
        self._configure(new)
        single = (bin_ / "postgres", "--single", "-D", new, "-c", "exit_on_error=on")
        small = ("-c", "shared_buffers=16MB")
        for database, statement in (
            ("template1", f"CREATE DATABASE {ROLE}"),
            (ROLE, "CREATE EXTENSION vector SCHEMA public"),
        ):
            self._checked(account().run(*single, *small, database, stdin=f"{statement}\n"))
        new.rename(self.data)

    def _configure(self, data: Path) -> None:
        """Write the files that embstore owns, for this machine as it is now."""
        who = account()
        who.write(data / "embstore.conf", settings.text(settings.settings(*machine.measure())))
        who.write(data / "pg_hba.conf", _HBA)
        if not (self.home / "postgresql.local.conf").exists():
            who.write(self.home / "postgresql.local.conf", _LOCAL)
        lines = [f'embstore "{name}" all\n' for name in who.admitted]
        who.write(data / "pg_ident.conf", "".join(lines))

    def _open_log(self) -> int:
        """Put a log that has grown aside, and return where the new lines will begin."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size <= _MAX_LOG_BYTES:
            return size
        self.log.rename(self.log.with_suffix(".log.1"))
        return 0

    def _launch(self, port: int, tcp: bool) -> int:
        """Start the server detached, and return its pid."""
        folder = str(self.sockets).replace('"', '""')
        # Here and not in a file: embstore must know these, so nobody's file may change them.
        where = {
            "port": port,
            "listen_addresses": "127.0.0.1" if tcp else "",
            "unix_socket_directories": f'"{folder}"',
        }
        options = [word for name, value in where.items() for word in ("-c", f"{name}={value}")]
        program = programs(self.home) / "postgres"
        done = account().run(
            *("/bin/sh", "-c", _DETACH, "sh"), self.log, program, "-D", self.data, *options
        )
        self._checked(done)
        return int(done.stdout)

    def _await(self, pid: int, began: int) -> Postmaster:
        """Wait for it through crash recovery, or for one that a starter left who was killed."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            found = postmaster.find(self.data)
            if found is not None and found.ready and found.listening:
                return found
            if found is None and not postmaster.alive(pid):
                raise ServerFailed(f"Postgres did not start: {self._reason(began)} ({self.log})")
            if time.monotonic() > deadline:
                raise self._slow(pid)
            time.sleep(0.01)

    def _slow(self, pid: int) -> ServerFailed:
        return ServerFailed(
            f"Postgres (pid {pid}) is still recovering after {START_TIMEOUT_S:.0f} s: wait, then"
            f" try again ({self.log})"
        )

    def _checked(self, done: subprocess.CompletedProcess[str]) -> None:
        if done.returncode:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            words = _REASON.findall(done.stderr) or lines or ["it said nothing"]
            name = Path(done.args[0]).name
            raise ServerFailed(f"{name} failed in {self.home}: {words[-1]}")

    def _reason(self, began: int) -> str:
        """Return the last reason in the log, from ``began`` on."""
        try:
            with self.log.open(encoding="utf-8", errors="replace") as log:
                log.seek(began)
                text = log.read()
        except OSError:
            text = ""
        return (_REASON.findall(text) or text.splitlines() or ["its log says nothing"])[-1]
