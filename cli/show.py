"""tables, versions, show: what the catalog holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from . import index, options, output

if TYPE_CHECKING:
    from embstore import Store
    from embstore.catalog import VersionRow


def table_records(store: Store, as_json: bool) -> list[dict[str, Any]]:
    """One record per table."""
    from embstore import catalog

    with store.reading() as connection:
        names = catalog.aliases(connection)
        every = catalog.versions(connection)
        tables = catalog.tables(connection)
    records = []
    for table in tables:
        ready = [row for row in every if row.table_name == table.name and row.status == "ready"]
        live = next(
            (row for row in ready if "live" in names.get((table.name, row.version), [])), None
        )
        total = sum(row.bytes or 0 for row in ready)
        records.append(
            {
                "table": table.name,
                "live": live and live.version,
                "versions": len(ready),
                "rows": live and live.rows,
                "dim": live and live.dim,
                "metric": table.metric,
                "ids": table.id_type,
                "precision": table.precision,
                "size": total if as_json else output.size(total),
            }
        )
    return records


@click.command()
@options.url
@options.as_json
def tables(url: str | None, as_json: bool) -> None:
    """List the tables."""
    with options.open_store(url) as store:
        records = table_records(store, as_json)
    output.rows(records, as_json, "no tables yet: embstore load TABLE FILE --promote")


@click.command()
@click.argument("table")
@options.url
@options.as_json
def versions(table: str, url: str | None, as_json: bool) -> None:
    """List the versions of TABLE."""
    from embstore import catalog
    from embstore.release.pins import pins

    with options.open_store(url) as store, store.reading() as connection:
        catalog.table(connection, table)
        names = catalog.aliases(connection, table)
        rows = catalog.versions(connection, table)
        pinned = pins(connection, table)
    records = [
        {
            "version": row.version,
            "status": row.status,
            "aliases": names.get((table, row.version), []),
            "pins": [each.pinned_by for each in pinned if each.version == row.version],
            "rows": row.rows,
            "dim": row.dim,
            "index": row.index_kind,
            "trainer": row.trainer,
            "params": row.params,
            "size": row.bytes if as_json else _size(row),
            "created": row.created_at,
        }
        for row in rows
    ]
    output.rows(records, as_json, f"{table} has no versions yet: embstore load {table} FILE")


def _size(row: VersionRow) -> str:
    size = output.size(row.bytes)
    return f"{size} freed" if row.status == "retired" else size


@click.command()
@click.argument("ref")
@options.url
@options.as_json
def show(ref: str, url: str | None, as_json: bool) -> None:
    """Show all that is known of a version, and every move of its table's aliases."""
    import dataclasses

    from embstore import catalog
    from embstore.index.manage import missing
    from embstore.release.pins import pins

    with options.open_store(url) as store, store.reading() as connection:
        row = catalog.resolve(connection, ref)
        lost = missing(connection, row)
        names = catalog.aliases(connection, row.table_name)
        moves = catalog.history(connection, row.table_name)
        joined = catalog.appends(connection, row.table_name, row.version)
        pinned = pins(connection, row.table_name)
    facts: dict[str, Any] = {
        "ref": row.ref,
        "aliases": names.get((row.table_name, row.version), []),
        "pins": [
            {"by": each.pinned_by, "note": each.note, "pinned": each.pinned_at}
            for each in pinned
            if each.version == row.version
        ],
        **{
            name: value
            for name, value in dataclasses.asdict(row).items()
            if name not in {"table_name", "version", "index_kind", "indexes", "attributes"}
        },
        "indexes": index.records(row.indexes, lost, as_json),
        "attributes": {each.name: each.type for each in row.attributes},
    }
    history = [
        {
            "moved": move.moved_at,
            "alias": move.alias,
            "version": move.version,
            "previous": move.previous,
            "action": move.action,
            "by": move.moved_by,
            "message": move.message,
        }
        for move in moves
    ]
    appends = [
        {
            "append": each.append,
            "rows": each.rows,
            "origin": each.origin,
            "appended": each.appended_at,
            "by": each.appended_by,
            "message": each.message,
        }
        for each in joined
    ]
    if as_json:
        output.document({**facts, "appends": appends, "history": history})
        return
    indexes = facts.pop("indexes")
    output.record(facts, as_json)
    print()
    index.listing(indexes, row.ref)
    print()
    if appends:
        output.rows(appends, as_json)
        print()
    output.rows(history, as_json, "never promoted")


COMMANDS = (tables, versions, show)
