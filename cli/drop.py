"""drop: a version, or a table with all of its versions."""

from __future__ import annotations

import click

from . import options


@click.command()
@click.argument("ref")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Though somebody has pinned it.")
@options.url
def drop(ref: str, yes: bool, force: bool, url: str | None) -> None:
    """Drop a version (items@7), or a table with all of its versions (items).

    A version that an alias names, that is pinned, or that an open transaction may still read, is
    not dropped.
    """
    with options.open_store(url) as store:
        table, at, _ = ref.partition("@")
        if not at:
            count = len(store.table(table).versions())
            if not yes:
                click.confirm(f"drop table {table} with its {count} versions?", abort=True)
            store.drop_table(table, force=force)
            print(f"dropped {table} with its {count} versions")
            return
        version = store[ref]
        if not yes:
            click.confirm(f"drop {version.ref} with its {version.rows:,} vectors?", abort=True)
        store.table(table).drop(version.number, force=force)
        print(f"dropped {version.ref}")


COMMANDS = (drop,)
