"""From a URL to ready connections, and from the driver's errors to ours.

A URL may hold a password, and libpq quotes parts of a malformed one in its messages; so a URL is
taken apart here first, and no message repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import psycopg
from psycopg import conninfo, sql

from . import errors

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

CONNECT_TIMEOUT_S = 10
# Below it, hnsw.iterative_scan is missing, and with it every promise about filling k.
MIN_PGVECTOR = (0, 8)
MIN_SERVER = 15


@dataclass(frozen=True)
class Address:
    """Where a store is.

    Attributes
    ----------
    url : str
        A libpq URL; may hold a password, so it is never shown. See ``str(address)``.
    """

    url: str = field(repr=False)
    shown: str

    def __str__(self) -> str:
        return self.shown


def parse(url: str) -> Address:
    """Check a URL without ever repeating it.

    Raises
    ------
    ConnectionFailed
        When libpq could not read it.
    """
    plain = re.sub(r"^postgres(ql)?\+psycopg[23]?://", "postgresql://", url.strip())
    where = re.match(r"^postgres(?:ql)?://([^/?#]*)", plain)
    try:
        # A second @ would end up in the host, which is shown.
        if where is not None and where[1].count("@") > 1:
            raise ValueError
        params = conninfo.conninfo_to_dict(plain)
    except (psycopg.Error, ValueError):
        raise errors.ConnectionFailed(
            "the database URL cannot be read: write postgresql://user:password@host:port/database,"
            " with %40 for @, %2F for / and %20 for a space inside the password"
        ) from None
    host = params.get("host") or params.get("hostaddr") or "the local socket"
    user = f"{params['user']}@" if params.get("user") else ""
    port = f":{params['port']}" if params.get("port") else ""
    database = f"/{params['dbname']}" if params.get("dbname") else ""
    return Address(plain, f"{user}{host}{port}{database}")


def sqlalchemy_url(url: str) -> str:
    """Return the URL for SQLAlchemy with the driver named, whatever its default is."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", parse(url).url)


def connect(address: Address, *, autocommit: bool = True) -> Connection:
    """Open one connection.

    Raises
    ------
    ConnectionFailed
        In one sentence, without the password.
    """
    try:
        return psycopg.connect(address.url, autocommit=autocommit, **defaults(address))
    except psycopg.OperationalError as error:
        raise refused(address, error) from None


def defaults(address: Address) -> dict[str, Any]:
    """Return what embstore asks of libpq unless the URL says otherwise."""
    given = conninfo.conninfo_to_dict(address.url)
    wanted = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "embstore"}
    return {name: value for name, value in wanted.items() if name not in given}


def for_queries(address: Address, engine: Engine) -> dict[str, Any]:
    """Return what a pooled connection is opened with.

    Behind a pooler that gives each transaction another backend, a statement that was prepared
    is soon nowhere to be found.
    """
    prepare = {"prepare_threshold": None} if engine.pooled else {}
    return {"autocommit": True, **defaults(address), **prepare}


# What libpq says -> what to tell a person. Its texts are not translated in the wheels of psycopg.
_REASONS = {
    "password authentication failed": "the password is wrong or the user does not exist",
    "no password supplied": "a password is needed: put it in the URL, PGPASSWORD or ~/.pgpass",
    "peer authentication failed": "this operating-system user is not let in as that user",
    "no pg_hba.conf entry": "the server's pg_hba.conf does not let this user in from here",
    "connection refused": "no server listens there",
    "no such file or directory": "no server listens there",
    "could not translate host name": "the host name is not known",
    "failed to resolve host": "the host name is not known",
    "timeout expired": f"no answer within {CONNECT_TIMEOUT_S} s",
    "too many clients": "all of its connections are taken",
    "remaining connection slots": "all of its connections are taken",
    "starting up": "the server is still starting up: try again in a moment",
    "shutting down": "the server is shutting down",
    "is not permitted to log in": "this role may not log in",
    "certificate": "the TLS certificate was not accepted",
    "unexpected response": "what listens there is not Postgres",
    "received invalid response": "what listens there is not Postgres",
}


def refused(address: Address, error: psycopg.Error) -> errors.ConnectionFailed:
    """Turn a failed connect into one sentence that cannot hold the password."""
    said = str(error).lower()
    if missing := re.search(r'(database|role) "([^"]*)" does not exist', str(error)):
        reason = f"there is no {missing[1]} {missing[2]!r}"
    else:
        reason = next(
            (text for part, text in _REASONS.items() if part in said), "the connection failed"
        )
    return errors.ConnectionFailed(f"cannot connect to {address}: {reason}")


# SQLSTATEs that embstore's own functions raise.
_OWN = {
    "EM001": errors.NotFound,
    "EM002": errors.NotFound,
    "EM003": errors.NotFound,
    "EM004": errors.NotFound,
    "EM005": errors.InvalidName,
    "EM006": errors.NotFound,
    "EM007": errors.DimensionMismatch,
    "EM008": errors.NotFound,
    "EM009": errors.InvalidQuery,
    "EM010": errors.GateFailed,
    "EM011": errors.SpaceMismatch,
    "EM012": errors.DatabaseFailed,
}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the driver's errors into embstore's; ``doing`` says what failed: "reading items".

    The driver's error stays as the cause.
    """
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, doing) from error


@contextmanager
def working(connect: Callable[[], Connection], doing: str) -> Iterator[Connection]:
    """Open a connection for work that may take minutes, and close it.

    A backend whose client died in a long COPY, or while it builds an index, would not notice
    before the end; this one looks every two seconds. The driver's errors become embstore's.
    """
    with translated(doing):
        connection = connect()
        try:
            connection.execute("SET client_connection_check_interval = '2s'")
            yield connection
        finally:
            connection.close()


def translate(error: psycopg.Error, doing: str) -> errors.EmbstoreError:
    """Find the embstore error for a driver's error."""
    state = error.sqlstate or ""
    message = error.diag.message_primary or str(error).strip().split("\n")[0]
    if state in _OWN:
        hint = f": {error.diag.message_hint}" if error.diag.message_hint else ""
        return _OWN[state](f"{message}{hint}")
    if state == "22000" and re.search("different (vector dimensions|bit lengths)", message):
        return errors.DimensionMismatch(f"{doing}: {message}")
    if state == "42501":
        return errors.DatabaseFailed(
            f"{doing}: {message}; ask the store's owner for the role embstore_reader,"
            " embstore_promoter or embstore_loader"
        )
    if state == "25006":
        return errors.DatabaseFailed(f"{doing}: this server is read-only; use the primary's URL")
    if state.startswith("53"):
        return errors.DatabaseFailed(f"{doing}: the server is out of resources: {message}")
    if isinstance(error, psycopg.OperationalError) and not state.startswith(("55", "57014")):
        return errors.ConnectionFailed(f"{doing}: the connection was lost ({message})")
    return errors.DatabaseFailed(f"{doing}: {message}")


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Let several statements see one state of the store, and change nothing."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK")


@dataclass(frozen=True)
class Engine:
    """What kind of Postgres this is, asked once.

    Attributes
    ----------
    server : int
        Major version.
    pgvector : str
    vector_schema : str
        Where the extension lives; every operator and type is qualified with it.
    vector_oid, vector_array_oid : int
    standby : bool
        Read-only: a standby, or default_transaction_read_only.
    revision : str or None
        The revision of embstore's schema.
    loading : bool
        There are unfinished loads, alive or dead, that this user might clean up after.
    loader_role : bool
        This user can act as embstore_loader, which owns the data tables.
    distributed : bool
        Citus is there: some fast paths of one node are not.
    pooled : bool
        A pooler such as PgBouncer stands between: the backend is not the one that was greeted.
    """

    server: int
    pgvector: str
    vector_schema: str
    vector_oid: int
    vector_array_oid: int
    standby: bool
    revision: str | None
    loading: bool
    loader_role: bool
    distributed: bool
    pooled: bool

    @property
    def schema(self) -> sql.Identifier:
        """The extension's schema."""
        return sql.Identifier(self.vector_schema)

    def operator(self, symbol: str) -> sql.Composed:
        """Return an operator of pgvector, qualified."""
        return sql.SQL("OPERATOR({}.{})").format(self.schema, sql.SQL(symbol))

    def type(self, name: str, dim: int | None = None) -> sql.Composable:
        """Return a type of vectors, qualified; with ``dim``, of that many dimensions.

        In quotes, as here, ``"bit"`` has no length; without them it would mean ``bit(1)``.
        """
        schema = sql.Identifier("pg_catalog") if name == "bit" else self.schema
        bare = sql.SQL("{}.{}").format(schema, sql.Identifier(name))
        return bare if dim is None else sql.SQL("{}({})").format(bare, sql.Literal(dim))


_PROBE = """
SELECT current_setting('server_version_num')::int / 10000,
       pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
       x.extversion, n.nspname, t.oid, t.typarray,
       to_regclass('embstore.alembic_version') IS NOT NULL,
       EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'embstore_loader'
               AND CASE WHEN current_setting('server_version_num')::int < 160000
                        THEN pg_has_role(r.oid, 'MEMBER') ELSE pg_has_role(r.oid, 'SET') END),
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector'),
       EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'), pg_backend_pid()
FROM (SELECT) AS one
LEFT JOIN pg_extension x ON x.extname = 'vector'
LEFT JOIN pg_namespace n ON n.oid = x.extnamespace
LEFT JOIN pg_type t ON t.typname = 'vector' AND t.typnamespace = n.oid
"""


def probe(connection: Connection, address: Address) -> Engine:
    """Ask the server what it is.

    Raises
    ------
    ConnectionFailed
        When it is too old, or pgvector is missing or too old: with the command to run.
    """
    with translated(f"connecting to {address}"):
        row = connection.execute(_PROBE).fetchone()
        assert row is not None
        (
            server,
            standby,
            pgvector,
            schema,
            oid,
            array_oid,
            migrated,
            loader,
            available,
            citus,
            pid,
        ) = row
        if server < MIN_SERVER:
            raise errors.ConnectionFailed(
                f"{address} is Postgres {server}: embstore needs {MIN_SERVER} or later"
            )
        if pgvector is None:
            remedy = (
                "run CREATE EXTENSION vector; in it as a superuser"
                if available
                else "install pgvector 0.8 or later on the server, then CREATE EXTENSION vector;"
            )
            raise errors.ConnectionFailed(f"{address} has no pgvector: {remedy}")
        if tuple(int(part) for part in re.findall(r"\d+", pgvector)[:2]) < MIN_PGVECTOR:
            raise errors.ConnectionFailed(
                f"{address} has pgvector {pgvector}: embstore needs 0.8 or later; upgrade it and"
                " run ALTER EXTENSION vector UPDATE;"
            )
        revision, loading = None, False
        if migrated:
            found = connection.execute(
                "SELECT (SELECT version_num FROM embstore.alembic_version),"
                " to_regclass('embstore.versions') IS NOT NULL"
            ).fetchone()
            assert found is not None
            revision = found[0]
            if found[1]:
                left = connection.execute(
                    "SELECT has_table_privilege('embstore.versions', 'DELETE')"
                    " AND EXISTS (SELECT FROM embstore.versions WHERE status = 'loading')"
                ).fetchone()
                loading = bool(left and left[0])
    pooled = pid != connection.info.backend_pid
    return Engine(
        server, pgvector, schema, oid, array_oid, standby, revision, loading, loader, citus, pooled
    )
