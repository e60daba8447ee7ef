"""nearest: recall for ids or vectors."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from . import options, output

if TYPE_CHECKING:
    from embstore import Neighbors


@click.command()
@click.argument("ref")
@click.option("--id", "ids", multiple=True, metavar="ID", help="A stored id; may be repeated.")
@click.option("--vector", metavar="JSON", help="A query vector, such as [0.1, 0.2].")
@click.option(
    "--file", "file", metavar="F", help="Query vectors: .npy, or any file that load takes."
)
@click.option("-k", "k", type=int, default=10, show_default=True, help="How many neighbours.")
@options.where
@click.option("--max-distance", type=float, metavar="D", help="Leave out what is farther.")
@click.option(
    "--per-group", metavar="NAME", help="Limit neighbours with one value of this attribute."
)
@click.option(
    "--group-limit", type=int, default=1, show_default=True, help="How many, with --per-group."
)
@click.option(
    "--offset", type=int, default=0, help="Leave out so many of the nearest: the next page."
)
@click.option("--exact", is_flag=True, help="Compare with every row instead of using the index.")
@options.show
@options.url
@options.as_json
def nearest(
    ref: str,
    ids: tuple[str, ...],
    vector: str | None,
    file: str | None,
    where: tuple[str, ...],
    show: tuple[str, ...],
    url: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Print the k nearest neighbours in REF of stored ids or of vectors, best first."""
    if sum((bool(ids), vector is not None, file is not None)) != 1:
        raise click.UsageError("give one of --id, --vector and --file")
    keys, queries = ([], None) if ids else _queries(vector, file)
    with options.open_store(url) as store:
        reads = store.readable(ref)
        if where:
            how["where"] = reads.conditions(where)
        if ids:
            keys = list(options.parse_ids(reads, ids))
            found = reads.similar(keys, show=show, **how)
        else:
            found = reads.nearest(queries, show=show, **how)
    output.rows(_records(keys, found), as_json)
    if found.short.any() and not as_json:
        least = int(found.counts.min())
        print(f"embstore: no more than {least} can be an answer", file=sys.stderr)


def _queries(vector: str | None, file: str | None) -> tuple[list[Any], Any]:
    """Return the keys that name the queries in the output, and the queries."""
    if vector is not None:
        try:
            values = json.loads(vector)
        except ValueError:
            raise click.UsageError("--vector is no JSON array: write [0.1, 0.2]") from None
        many = bool(values) and isinstance(values, list) and isinstance(values[0], list)
        return list(range(1, len(values) + 1)) if many else [1], values
    from embstore.readers import read_queries

    return read_queries(str(file))


def _records(keys: list[Any], found: Neighbors) -> list[dict[str, Any]]:
    several = len(keys) > 1
    ids = found.ids.tolist()
    return [
        ({"query": key} if several else {})
        | {
            "id": ids[row][place],
            "score": float(found.scores[row, place]),
            "distance": float(found.distances[row, place]),
        }
        | {name: column[row, place] for name, column in found.attributes.items()}
        for row, key in enumerate(keys)
        for place in range(found.counts[row])
    ]


COMMANDS = (nearest,)
