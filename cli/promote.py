"""promote, rollback: what is live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import options, output

if TYPE_CHECKING:
    from embstore.release.aliases import Moved


def _print(moves: list[Moved], alias: str, as_json: bool) -> None:
    if as_json:
        output.document(
            [
                {
                    "table": each.table_name,
                    "alias": alias,
                    "version": each.version,
                    "previous": each.previous,
                }
                for each in moves
            ]
        )
        return
    for each in moves:
        before = "nothing" if each.previous is None else f"version {each.previous}"
        now = "gone" if each.version is None else f"version {each.version}"
        print(f"{each.table_name}@{alias} is {now} (was {before})")


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--alias", default="live", show_default=True, help="The alias to move.")
@options.message
@options.url
@options.as_json
def promote(
    refs: tuple[str, ...], alias: str, message: str | None, url: str | None, as_json: bool
) -> None:
    """Make versions live: all of the REFs (items@8 users@8) in one step, or none."""
    with options.open_store(url) as store:
        moves = store.promote(*refs, alias=alias, message=message)
    _print(moves, alias, as_json)


@click.command()
@click.argument("table")
@options.message
@options.url
@options.as_json
def rollback(table: str, message: str | None, url: str | None, as_json: bool) -> None:
    """Make live again what was live before the last release of TABLE, of all tables in it."""
    with options.open_store(url) as store:
        moves = store.rollback(table, message=message)
    _print(moves, "live", as_json)


COMMANDS = (promote, rollback)
