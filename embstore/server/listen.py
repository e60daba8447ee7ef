"""TCP for psql, DBeaver and pandas: the port, and a password that never reaches a log."""

from __future__ import annotations

import os
import secrets
import socket
import stat
from pathlib import Path

import psycopg
from psycopg import sql

from ..errors import ServerFailed
from .account import ROLE, account


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
        except OSError as error:
            raise ServerFailed(
                f"port {port} on 127.0.0.1 is taken by another program: choose another"
            ) from error


def clients(url: str) -> int:
    """Count the clients connected, this one left out."""
    with psycopg.connect(url, autocommit=True, application_name="embstore server") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
        assert row is not None
        return int(row[0])


def own_connections(socket_path: Path) -> int:
    """Count the connections that this very process holds to a socket, whoever opened them."""
    count = 0
    for name in [path.name for path in Path("/dev/fd").iterdir()]:
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as own:
                    count += own.family == socket.AF_UNIX and own.getpeername() == str(socket_path)
        except OSError:
            continue  # closed meanwhile, or not connected
    return count


def server_version(url: str) -> str:
    """Return the running server's version, such as 18.4."""
    with psycopg.connect(url, autocommit=True) as connection:
        return str(connection.info.parameter_status("server_version"))


def set_password(url: str, pgpass: Path) -> None:
    """Give the role a password, kept for libpq in ``pgpass``; one that is there already stays.

    The server gets the SCRAM verifier only.
    """
    if pgpass.exists():
        return
    password = secrets.token_urlsafe(24)
    with psycopg.connect(url, autocommit=True) as connection:
        verifier = connection.pgconn.encrypt_password(
            password.encode(), ROLE.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(ROLE), sql.Literal(verifier.decode())
            )
        )
    lines = [f"{host}:*:*:{ROLE}:{password}\n" for host in ("127.0.0.1", "localhost")]
    account().write(pgpass, "".join(lines))
    if os.geteuid() == 0:
        # libpq reads it as the user who connects, which is root here.
        os.chown(pgpass, 0, 0)
