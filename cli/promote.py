"""promote, rollback, releases, gates: what is live, how it came to be, and what guards it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from . import options, output

if TYPE_CHECKING:
    from embstore.release.aliases import Moved
    from embstore.release.releases import Release


def _records(moves: Sequence[Moved], alias: str) -> list[dict[str, Any]]:
    return [
        {
            "table": each.table_name,
            "alias": alias,
            "version": each.version,
            "previous": each.previous,
        }
        for each in moves
    ]


def _print(moves: Sequence[Moved], alias: str, release: Release | None, as_json: bool) -> None:
    if as_json:
        output.document(
            {
                "release": release and release.number,
                "moves": _records(moves, alias),
                "gates": release.gates if release else (),
            }
        )
        return
    if release and release.gates:
        output.rows(_gate_records(release.gates), False)
        print()
    for each in moves:
        before = "nothing" if each.previous is None else f"version {each.previous}"
        now = "gone" if each.version is None else f"version {each.version}"
        print(f"{each.table_name}@{alias} is {now} (was {before})")


def _gate_records(gates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record per gate that was measured."""
    return [
        {
            "version": each["ref"],
            "gate": each["gate"],
            "value": each["value"],
            "": "passed" if each["passed"] else "FAILED",
            "measured": each["note"],
        }
        for each in gates
    ]


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--alias", default="live", show_default=True, help="The alias to move.")
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="GATE",
    help="What must hold first, beside the table's own gates: 'coverage>=0.99', 'overlap@10>=0.5',"
    " 'recall@10>=0.95', 'norm_drift<=0.2', 'rows>=9000', 'sql(SELECT ...)'; 'items:rows>=9000' is"
    " of one table. May be repeated.",
)
@click.option("--force", is_flag=True, help="Even if a gate fails or trainings mix; needs -m.")
@options.message
@options.url
@options.as_json
def promote(
    refs: tuple[str, ...],
    alias: str,
    gates: tuple[str, ...],
    force: bool,
    message: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Make versions live: all of the REFs (items@8 users@8) in one step, or none.

    Several are a release: rollback undoes it whole. If a gate fails, nothing changes and the exit
    status is 1.
    """
    from embstore.errors import GateFailed

    if force and not message:
        raise click.UsageError("--force needs --message, which says why")
    if alias != "live" and (gates or force):
        raise click.UsageError("--gate and --force are for what goes live, not for other aliases")
    with options.open_store(url) as store:
        if alias != "live":
            _print(store.promote(*refs, alias=alias, message=message), alias, None, as_json)
            return
        try:
            done = store.release(refs, gates=gates, message=message, force=force)
        except GateFailed as error:
            measured = [each.as_json() for each in error.results]
            if as_json:
                output.document({"release": None, "moves": [], "gates": measured})
            elif measured:
                output.rows(_gate_records(measured), False)
            raise
    _print(done.moves, alias, done, as_json)


@click.command()
@click.argument("table")
@options.message
@options.url
@options.as_json
def rollback(table: str, message: str | None, url: str | None, as_json: bool) -> None:
    """Make live again what was live before the last release of TABLE, of all tables in it."""
    with options.open_store(url) as store:
        moves = store.rollback(table, message=message)
    _print(moves, "live", None, as_json)


@click.command()
@click.argument("table", required=False)
@click.option(
    "-n", "limit", type=click.IntRange(1), default=20, show_default=True, help="How many to list."
)
@options.url
@options.as_json
def releases(table: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List the releases, of TABLE or of all, the newest first: who, when, why, and the gates."""
    with options.open_store(url) as store:
        found = store.releases(table, limit)
    records = []
    for each in found:
        failed = sum(not gate["passed"] for gate in each.gates)
        gates = f"{len(each.gates) - failed} passed" + (f", {failed} failed" if failed else "")
        what = "forced" if each.forced else each.action
        records.append(
            {
                "release": each.number,
                "what": what if each.undoes is None else f"{what} of {each.undoes}",
                "versions": each.refs,
                "at": each.moved_at,
                "by": each.moved_by,
                "gates": gates if each.gates else "",
                "message": each.message,
            }
        )
    if as_json:
        output.document(
            [
                {
                    **record,
                    "what": each.action,
                    "undoes": each.undoes,
                    "forced": each.forced,
                    "gates": each.gates,
                    "moves": _records(each.moves, "live"),
                }
                for record, each in zip(records, found, strict=True)
            ]
        )
        return
    output.rows(records, False, "nothing was ever live: embstore promote REF")


@click.command()
@click.argument("table")
@click.argument("action", type=click.Choice(["list", "set", "add", "remove"]), default="list")
@click.argument("wanted", nargs=-1, metavar="GATE...")
@options.url
@options.as_json
def gates(table: str, action: str, wanted: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """List, set, add or remove what must hold of a version of TABLE before it goes live.

    embstore gates items set 'coverage>=0.99' 'recall@10>=0.95' replaces them; set without GATE
    takes all away.
    """
    if wanted and action == "list":
        raise click.UsageError("to change the gates write set, add or remove before them")
    if not wanted and action in {"add", "remove"}:
        raise click.UsageError(f"{action} which gate?")
    with options.open_store(url) as store:
        target = store.table(table)
        if action == "set":
            target.gates = list(wanted)
        elif action == "add":
            target.gates = [*target.gates, *wanted]
        elif action == "remove":
            kept = target.gates
            if missing := [each for each in wanted if each not in kept]:
                raise click.UsageError(f"{table} has no gate {missing[0]!r}: {json.dumps(kept)}")
            target.gates = [each for each in kept if each not in wanted]
        kept = target.gates
    if as_json:
        output.document(kept)
    else:
        print("\n".join(kept) or f"{table} has no gates: embstore gates {table} set GATE...")


COMMANDS = (promote, rollback, releases, gates)
