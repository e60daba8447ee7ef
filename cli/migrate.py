"""migrate: the store's schema."""

from __future__ import annotations

import click

from . import options


@click.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the SQL and change nothing.")
@options.url
def migrate(as_sql: bool, url: str | None) -> None:
    """Bring the store's schema to what this embstore needs. Safe to run again, or twice at once.

    The embedded store is migrated by every command that uses it.
    """
    from embstore import connect, connection, schema

    if as_sql:
        print(schema.upgrade_sql())
        return
    if url is not None:
        schema.upgrade(connection.parse(url))
    with connect(url) as store:
        print(f"{store!r} is at schema revision {store.engine.revision}")


COMMANDS = (migrate,)
