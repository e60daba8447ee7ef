"""init, up, down, status: the store and the embedded server."""

from __future__ import annotations

import click

from . import options, output


@click.command()
@options.url
def init(url: str | None) -> None:
    """Set up a store: the embedded one, or the schema in the Postgres of --url."""
    import embstore
    from embstore import connection, schema

    if url is not None:
        schema.upgrade(connection.parse(url))
    with embstore.connect(url) as store:
        print(f"{store!r} is ready, schema revision {schema.HEAD}.")
    print("Next: embstore load TABLE FILE --promote")


@click.command()
@click.option("--port", type=int, help="Also listen on 127.0.0.1:PORT, with a password.")
def up(port: int | None) -> None:
    """Start the embedded server and leave it running."""
    from embstore import connect, server

    now = server.up(port=port)
    with connect():  # brings the schema up to date
        pass
    print(f"Postgres {now.version} runs (pid {now.pid}), data in {now.home}")
    print(f"psql:  embstore psql, or psql '{now.url}'")
    if now.port is not None:
        print(f"TCP:   postgresql://embstore@127.0.0.1:{now.port}/embstore")
        print(f"       The password is in {now.pgpass}; for libpq, export PGPASSFILE={now.pgpass}")
    print("Stop it with embstore down.")


@click.command()
def down() -> None:
    """Stop the embedded server."""
    from embstore import server

    print("stopped" if server.down() else "it was not running")


@click.command()
@options.url
@options.as_json
def status(url: str | None, as_json: bool) -> None:
    """Tell what runs where: version, address, sizes, tables. Starts nothing."""
    from embstore import connect, server

    facts: dict[str, object] = {}
    if url is None:
        now = server.status()
        facts = {
            "server": "running" if now.running else "stopped",
            "home": str(now.home),
            "postgres": now.version,
            "url": now.url,
            "port": now.port,
            "kept": now.kept,
            "data": output.size(now.data_bytes) if not as_json else now.data_bytes,
        }
        if not now.running:
            output.record(facts, as_json)
            return
    with connect(url) as store:
        engine = store.engine
        facts |= {
            "postgres": facts.get("postgres") or engine.server,
            "pgvector": engine.pgvector,
            "schema": engine.revision,
            "read only": engine.standby,
        }
        if url is not None:
            facts = {"address": repr(store), **facts}
        from .show import table_records

        tables = table_records(store, as_json)
    if as_json:
        output.document({**facts, "tables": tables})
        return
    output.record(facts, as_json)
    print()
    output.rows(tables, as_json, "no tables yet: embstore load TABLE FILE --promote")


COMMANDS = (init, up, down, status)
