"""pin, unpin, pins: who needs which version."""

from __future__ import annotations

import click

from . import options, output

_by = click.option("--by", required=True, metavar="NAME", help="Who needs it: ctr-model-41.")


@click.command()
@click.argument("ref")
@_by
@click.option("--note", help="Why.")
@options.url
def pin(ref: str, by: str, note: str | None, url: str | None) -> None:
    """Keep a version (items@7) from being dropped."""
    with options.open_store(url) as store:
        print(f"{store.pin(ref, by, note).ref} is pinned by {output.text(by)}")


@click.command()
@click.argument("ref")
@_by
@options.url
def unpin(ref: str, by: str, url: str | None) -> None:
    """Take a pin of a version away."""
    with options.open_store(url) as store:
        store.unpin(ref, by)
    print(f"{ref} is no longer pinned by {output.text(by)}")


@click.command()
@click.argument("table", required=False)
@options.url
@options.as_json
def pins(table: str | None, url: str | None, as_json: bool) -> None:
    """List the pins, of TABLE or of all."""
    with options.open_store(url) as store:
        found = store.pins(table)
    records = [
        {
            "ref": each.ref,
            "by": each.pinned_by,
            "note": each.note,
            "pinned": each.pinned_at,
            "user": each.pinned_user,
        }
        for each in found
    ]
    output.rows(records, as_json, "no pins")


COMMANDS = (pin, unpin, pins)
