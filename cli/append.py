"""append: new ids into a ready version."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from . import options, output
from .progress import bar

if TYPE_CHECKING:
    from embstore import Appended


# Ids without a vector that are named before the rest is counted.
_NAMED = 5


def report(done: Appended, as_json: bool, dry_run: bool = False) -> None:
    """Print what an append did, or would do."""
    if as_json:
        output.document(dataclasses.asdict(done) | {"dry_run": dry_run})
        return
    left = f", {done.rejected:,} left out" if done.rejected else ""
    if not done.rows:
        print(f"{done.ref}: nothing to append{left}")
    elif done.append is None:
        print(f"{done.ref}: {done.rows:,} rows would be appended as {done.origin}{left}")
    else:
        print(
            f"{done.ref}: {done.rows:,} rows appended as {done.origin}{left}, {done.total:,} in all"
            f" (append {done.append})"
        )
    if done.without:
        named = ", ".join(output.text(each) for each in done.without[:_NAMED])
        more = ", ..." if len(done.without) > _NAMED else ""
        print(f"{len(done.without):,} new ids have no vector: {named}{more}")


@click.command()
@click.argument("ref")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--origin",
    type=click.Choice(["given", "mean_of_neighbours", "side_information", "fold_in", "trained"]),
    default="given",
    show_default=True,
    help="How the vectors were made.",
)
@click.option(
    "--rotate/--no-rotate",
    default=None,
    help="Of a version that was aligned: take the vectors through its rotation too, or they have"
    " been.",
)
@options.source
@options.bad_rows
@options.message
@options.url
@options.as_json
def append(ref: str, files: tuple[str, ...], url: str | None, as_json: bool, **how: Any) -> None:
    """Let new ids join the version that REF names: all of FILE... at once, or none.

    An id that is there already is a bad row: what it has never changes. Columns beside id and
    vectors must be attributes of the version; the new rows have origin and appended_at too.
    """
    with options.open_store(url) as store, bar() as progress:
        done = store[ref].append(
            options.given(files), progress=progress, warn=output.warning, **how
        )
    report(done, as_json)


COMMANDS = (append,)
