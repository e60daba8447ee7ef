"""The revision of a store's schema: there, wanted, and the way between them.

Alembic and SQLAlchemy are imported only when there is something to do: to compare revisions on
every connect, the constant below is enough.
"""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from importlib.resources import files
from typing import TYPE_CHECKING

from . import connection, errors

if TYPE_CHECKING:
    from alembic.config import Config

# The newest revision in migrations/; a test holds it against Alembic's own answer.
HEAD = "0004"
VERSION_TABLE = "alembic_version"
# Any constant that nobody else's advisory locks use: "embstore" as a number.
MIGRATION_LOCK = int.from_bytes(b"embstore", "big") >> 1


def check(address: connection.Address, engine: connection.Engine) -> None:
    """Refuse a store whose schema is not the one this embstore was written for.

    Raises
    ------
    SchemaMismatch
        With the command to run.
    """
    found = engine.revision
    if found == HEAD:
        return
    if found is None:
        raise errors.SchemaMismatch(f"{address} holds no embstore yet: run embstore init --url URL")
    if found < HEAD:
        raise errors.SchemaMismatch(
            f"the schema at {address} is at revision {found}, this embstore needs {HEAD}:"
            " run embstore migrate --url URL"
        )
    raise errors.SchemaMismatch(
        f"the schema at {address} is at revision {found}, newer than {HEAD}, the newest that this"
        " embstore knows: run pip install --upgrade embstore"
    )


def upgrade(address: connection.Address, revision: str = "head") -> None:
    """Bring the schema to ``revision``; of two at once, the second finds nothing left to do.

    Raises
    ------
    ConnectionFailed, DatabaseFailed
    """
    _run(address, "upgrade", revision)


def downgrade(address: connection.Address, revision: str) -> None:
    """Take the schema back to ``revision`` (``base`` removes embstore and all it holds)."""
    _run(address, "downgrade", revision)


def upgrade_sql(revision: str = "head") -> str:
    """Return the SQL that ``upgrade`` would run on an empty store, for review or for psql."""
    from alembic import command

    out = io.StringIO()
    config = _config(out)
    with redirect_stdout(out):
        command.upgrade(config, revision, sql=True)
    return out.getvalue()


def _run(address: connection.Address, direction: str, revision: str) -> None:
    import psycopg
    from alembic import command
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    # The driver connects, so that a refused connection gets its sentence in one place.
    with connection.connect(address, autocommit=False) as raw:
        engine = create_engine("postgresql+psycopg://", creator=lambda: raw, poolclass=NullPool)
        config = _config(io.StringIO())
        try:
            with engine.connect() as opened:
                config.attributes["connection"] = opened
                getattr(command, direction)(config, revision)
        except DBAPIError as error:
            doing = f"migrating {address}"
            assert isinstance(error.orig, psycopg.Error)
            if error.orig.sqlstate in {"0A000", "58P01"} and "vector" in str(error.orig):
                raise errors.ConnectionFailed(
                    f"{address} has no pgvector: install pgvector 0.8 or later on the server,"
                    " then run embstore init again"
                ) from error.orig
            raise connection.translate(error.orig, doing) from error.orig


def _config(out: io.StringIO) -> Config:
    from alembic.config import Config

    config = Config(stdout=out, output_buffer=out)
    config.set_main_option("script_location", str(files("embstore.migrations")).replace("%", "%%"))
    return config


def run_sql(name: str) -> None:
    """Run the statements of ``migrations/sql/<name>``, which empty lines part, one at a time."""
    for statement in _text(name).split(";\n\n"):
        _execute(statement.strip().removesuffix(";"))


def run_function(name: str, revision: str, *, replace: bool = False) -> None:
    """Create a SQL function as of ``revision``; with ``replace`` what was granted on it stays."""
    text = _text(f"functions/{name}/{revision}.sql").strip()
    if replace:
        text = re.sub(r"^CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", text)
    _execute(text)


def drop_function(name: str) -> None:
    """Drop every form of ``embstore.<name>``."""
    _execute(  # the name is a revision's own constant
        "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT p.oid FROM pg_proc p"  # noqa: S608
        f" WHERE p.pronamespace = to_regnamespace('embstore') AND p.proname = '{name}'"
        " LOOP EXECUTE format('DROP FUNCTION %s', f); END LOOP; END $$"
    )


def _text(name: str) -> str:
    return (files("embstore.migrations") / "sql" / name).read_text(encoding="utf-8")


def _execute(statement: str) -> None:
    from alembic import context, op
    from sqlalchemy import text

    if context.is_offline_mode():
        # Written as it stands: SQLAlchemy would double the percent signs.
        op.get_context().impl.static_output(statement.replace("@vector@", "public") + ";\n")
        return
    # pgvector may live in any schema; inside functions it is named, never searched for.
    schema = (
        op.get_bind()
        .exec_driver_sql(
            "SELECT coalesce((SELECT quote_ident(n.nspname) FROM pg_extension x JOIN pg_namespace n"
            " ON n.oid = x.extnamespace WHERE x.extname = 'vector'), 'public')"
        )
        .scalar_one()
    )
    # A colon before a word would be a bound parameter to SQLAlchemy.
    op.execute(text(statement.replace("@vector@", schema).replace(":", r"\:")))
