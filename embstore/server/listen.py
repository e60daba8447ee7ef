"""Who is connected; and TCP for DBeaver or pandas: the port, and a password no log ever sees."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import stat
import time
from base64 import b64decode
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from ..errors import ServerFailed
from .account import ROLE, account
from .postmaster import Postmaster

# A backend whose client has just closed the connection takes a few milliseconds to go.
_SETTLE_S = 0.5


def check_port(port: int) -> None:
    """Refuse a number that is no port for a user.

    Raises
    ------
    ServerFailed
    """
    if not 1024 <= port <= 65535:
        raise ServerFailed(f"port {port} cannot be used: choose one from 1024 to 65535")


def check_free(port: int) -> None:
    """Refuse a port that another program listens on.

    Raises
    ------
    ServerFailed
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError as error:
            raise ServerFailed(
                f"port {port} on 127.0.0.1 is taken by another program: choose another with"
                " embstore up --port, or run embstore down to forget it"
            ) from error


def clients(server: Postmaster, known: int = 0) -> int:
    """Count the clients connected beyond ``known`` ones and this function itself."""
    with _connect(server) as connection:
        deadline = time.monotonic() + _SETTLE_S
        while True:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
            more = max(0, (row[0] if row else 0) - known)
            if not more or time.monotonic() > deadline:
                return more
            time.sleep(0.01)


def own_connections(server: Postmaster) -> int:
    """Count this process's connections: its sockets whose far end is the server's."""
    ends = {str(server.sockets / f".s.PGSQL.{server.port}"), ("127.0.0.1", server.port)}
    count = 0
    try:
        names = os.listdir("/dev/fd")  # noqa: PTH208
    except FileNotFoundError:  # /proc is not mounted
        return 0
    for name in names:
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as end:
                    count += end.getpeername() in ends
    return count


def server_version(server: Postmaster) -> str:
    """Return the running server's version, such as 18.4."""
    with _connect(server) as connection:
        return str(connection.info.parameter_status("server_version"))


def set_password(server: Postmaster, pgpass: Path) -> None:
    """Give the role the password in ``pgpass``, a libpq password file that is made if missing.

    The server, and so its log, gets the SCRAM verifier only. Delete the file for a new password.
    """
    password = _read(pgpass)
    if password is None:
        password = secrets.token_urlsafe(24)
        lines = [f"{host}:*:*:{ROLE}:{password}\n" for host in ("127.0.0.1", "localhost")]
        account().write(pgpass, "".join(lines), for_clients=True)
    with _connect(server) as connection:
        row = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", [ROLE]
        ).fetchone()
        if row is not None and fits(password, row[0]):
            return
        verifier = connection.pgconn.encrypt_password(
            password.encode(), ROLE.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(ROLE), sql.Literal(verifier.decode())
            )
        )


def fits(password: str, verifier: str | None) -> bool:
    """Tell whether a SCRAM verifier, as Postgres stores it, is that of this password (RFC 5802)."""
    try:
        method, salted, keys = (verifier or "").split("$")
        rounds, salt = salted.split(":")
        stored = b64decode(keys.split(":")[0])
        mixed = hashlib.pbkdf2_hmac("sha256", password.encode(), b64decode(salt), int(rounds))
    except ValueError:
        return False
    client = hmac.digest(mixed, b"Client Key", "sha256")
    right = hmac.compare_digest(hashlib.sha256(client).digest(), stored)
    return method == "SCRAM-SHA-256" and right


def _read(pgpass: Path) -> str | None:
    try:
        first = pgpass.read_text(encoding="utf-8").split("\n")[0]
    except (OSError, UnicodeDecodeError):
        return None
    start = f"127.0.0.1:*:*:{ROLE}:"
    return first.removeprefix(start) if first.startswith(start) and first != start else None


def _connect(server: Postmaster) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        return psycopg.connect(
            server.url,
            autocommit=True,
            connect_timeout=10,
            application_name="embstore server",
        )
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())
        raise ServerFailed(f"cannot ask Postgres (pid {server.pid}): {said}") from error
