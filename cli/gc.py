"""gc: drop the versions that nothing needs any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from . import options, output


def _duration(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> timedelta | None:
    from embstore.errors import InvalidQuery
    from embstore.retention import duration

    try:
        return None if value is None else duration(value)
    except InvalidQuery as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("tables", nargs=-1, metavar="[TABLE...]")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="The last N releases of each table stay whole, and its N newest versions.",
)
@click.option(
    "--older-than",
    metavar="AGE",
    callback=_duration,
    help="Only what has been ready, and not been live, for 30d, 12h, 2w, ...",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@options.url
@options.as_json
def gc(
    tables: tuple[str, ...],
    keep: int,
    older_than: timedelta | None,
    dry_run: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Drop the versions that nothing needs any more, of the TABLEs or of all; it does not ask.

    Never one that an alias names, that is pinned, or that is of the last releases. One that is
    being read is left for the next time: stderr says by whom, and the exit status is 0.
    """
    with options.open_store(url) as store:
        found = store.gc(keep, older_than=older_than, tables=tables or None, dry_run=dry_run)
    records: list[dict[str, Any]] = [
        {
            "ref": each.ref,
            "fate": "would be dropped" if dry_run and each.fate == "dropped" else each.fate,
            "size": output.size(each.bytes),
            "why": each.why,
        }
        for each in found.versions
    ]
    for each in found.skipped:
        output.warning(f"{each.ref} is left for the next time: {each.why}")
    if as_json:
        versions = [
            {"ref": each.ref, "fate": each.fate, "bytes": each.bytes, "why": each.why}
            for each in found.versions
        ]
        output.document({"dry_run": dry_run, "freed": found.freed, "versions": versions})
        return
    output.rows(records, as_json, "no versions")
    count = len(found.dropped)
    of = f"{count} version{'s' * (count != 1)}, {output.size(found.freed)}"
    print(f"would drop {of}" if dry_run else f"dropped {of}")


COMMANDS = (gc,)
