"""lookup: the vectors of ids."""

from __future__ import annotations

import click

from . import options, output

# Components printed in a table; --json prints all.
_SHOWN = 6


@click.command()
@click.argument("ref")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option(
    "--missing",
    type=click.Choice(["raise", "zero", "mean", "nan", "skip"]),
    default="raise",
    show_default=True,
    help="What an id that is not there gets.",
)
@options.show
@options.url
@options.as_json
def lookup(
    ref: str,
    ids: tuple[str, ...],
    missing: str,
    show: tuple[str, ...],
    url: str | None,
    as_json: bool,
) -> None:
    """Print the vectors of IDs in REF, in their order."""
    with options.open_store(url) as store:
        reads = store.readable(ref)
        found = reads.lookup(options.parse_ids(reads, ids), missing, show=show)
    records = []
    for row, key in enumerate(found.ids):
        vector = found.vectors[row]
        parts = ", ".join(f"{value:.4f}" for value in vector[:_SHOWN])
        more = f", ... ({len(vector)})" if len(vector) > _SHOWN else ""
        records.append(
            {
                "id": key,
                "found": bool(found.found[row]),
                **{name: column[row] for name, column in found.attributes.items()},
                "vector": vector.tolist() if as_json else f"[{parts}{more}]",
            }
        )
    output.rows(records, as_json)


COMMANDS = (lookup,)
