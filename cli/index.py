"""index: the ANN indexes of a version, listed, built and dropped."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import click

from . import options, output
from .progress import bar

if TYPE_CHECKING:
    from embstore.types import Index


def records(indexes: Iterable[Index], lost: Collection[str], as_json: bool) -> list[dict[str, Any]]:
    """One record per index, the one that queries use first."""
    return [
        {
            **dataclasses.asdict(each),
            "bytes": each.bytes if as_json else output.size(each.bytes),
            "missing": each.name in lost,
        }
        for each in indexes
    ]


def listing(found: list[dict[str, Any]], ref: str) -> None:
    """Print records of indexes for people."""
    shown = [
        {
            "index": each["name"],
            "kind": each["kind"],
            "of": each["precision"],
            "options": each["options"],
            "size": each["bytes"],
            "built s": each["seconds"],
            "why": each["why"],
        }
        for each in found
    ]
    output.rows(shown, False, f"{ref} has no index: queries compare every row")
    for each in found:
        if each["missing"]:
            output.warning(
                f"{ref}: Postgres has no usable index {each['name']}, so queries compare every row:"
                f" rebuild it with embstore index {ref} --kind {each['kind']}"
            )


@click.command()
@click.argument("ref")
@click.option(
    "--kind",
    type=click.Choice(["auto", "hnsw", "ivfflat", "none"]),
    help="Build one in place of the one in use; auto chooses by rows and dims, none drops all.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bit"]),
    help="What is indexed: the vectors, or a smaller form of them.",
)
@options.index
@options.target
@click.option("--add", is_flag=True, help="Keep the others beside the new one.")
@click.option("--drop", metavar="NAME", help="Drop an index.")
@options.url
@options.as_json
def index(
    ref: str,
    kind: str | None,
    add: bool,
    drop: str | None,
    target_recall: float | None,
    queries: str | None,
    target_k: int,
    url: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """List the ANN indexes of REF (items@7), build, tune or drop one; its data stay as they are.

    Without options it lists them, the one that queries use first. Readers go on during a build,
    and use the new index when it is complete.
    """
    asked = options.wanted(kind=kind, **how)
    aimed = target_recall is not None
    if queries is not None and not aimed:
        raise click.UsageError("--queries goes with --target-recall")
    if drop is not None and (asked or add or aimed):
        raise click.UsageError("--drop goes with no other option")
    if add and not asked:
        raise click.UsageError("--add needs --kind or an option of the new index")
    with options.open_store(url) as store:
        version = store[ref]
        if drop is not None:
            version.drop_index(drop)
        if asked:
            with bar() as progress:
                version.create_index(
                    **asked, replace=not add, progress=progress, warn=output.warning
                )
        if target_recall is not None:
            with bar() as progress:
                version.tune(target_recall, queries, target_k, progress=progress)
        lost = version.missing_indexes()
    if as_json:
        output.document(records(version.indexes, lost, as_json))
        return
    if drop is not None:
        print(f"dropped {drop}")
    elif (asked or aimed) and version.indexes:
        made = version.indexes[0]
        print(f"{version.ref}: index {made}")
        print(f"{made.name}, {output.size(made.bytes)}, built in {made.seconds or 0:.1f} s")
    elif asked:
        print(f"{version.ref}: no index")
    else:
        listing(records(version.indexes, lost, False), version.ref)


COMMANDS = (index,)
