"""How Alembic reaches the store: through the connection that `embstore.schema` hands it.

``embstore migrate --sql`` and ``--url`` come the same way; run by hand, ``alembic -x
url=postgresql://... upgrade head`` does too.
"""

from alembic import context
from sqlalchemy import Connection, create_engine, text

from embstore.connection import sqlalchemy_url
from embstore.schema import MIGRATION_LOCK, VERSION_TABLE

config = context.config


def configure(**how: object) -> None:
    context.configure(
        version_table=VERSION_TABLE,
        version_table_schema="embstore",
        transactional_ddl=True,
        **how,  # type: ignore[arg-type]
    )


def offline() -> None:
    configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.execute("CREATE SCHEMA IF NOT EXISTS embstore")
        context.run_migrations()


def online(connection: Connection) -> None:
    with connection.begin():
        # Held to the end of the transaction: of two migrators the second waits here, then finds
        # nothing left to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS embstore"))
        configure(connection=connection)
        context.run_migrations()


if context.is_offline_mode():
    offline()
elif given := config.attributes.get("connection"):
    online(given)
else:
    url = context.get_x_argument(as_dictionary=True)["url"]
    with create_engine(sqlalchemy_url(url)).connect() as opened:
        online(opened)
