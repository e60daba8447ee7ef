"""evaluate: how much of the exact answer a version's index finds."""

from __future__ import annotations

from typing import Any

import click

from . import options, output
from .progress import bar


def _values(_context: click.Context, option: click.Parameter, given: str | None) -> Any:
    """Parse 40,100,400."""
    if given is None:
        return None
    try:
        return [int(each) for each in given.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{given!r} is no list of whole numbers: write 40,100,400", param=option
        ) from None


@click.command()
@click.argument("ref")
@click.option(
    "--queries",
    metavar="REF|FILE",
    help="The query vectors: a version of users, say, or a file. [default: its own vectors]",
)
@click.option("-k", "k", type=int, default=10, show_default=True, help="Of how many neighbours.")
@click.option(
    "--sample",
    type=int,
    default=1000,
    show_default=True,
    metavar="N",
    help="The most queries to take, at random.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of that sample.")
@click.option(
    "--ef-search",
    "--probes",
    "search",
    callback=_values,
    metavar="N,...",
    help="The settings of the HNSW (or IVFFlat) index to measure. [default: some, and its own]",
)
@click.option("--no-write", is_flag=True, help="Leave the version's metrics as they are.")
@options.url
@options.as_json
def evaluate(
    ref: str,
    queries: str | None,
    k: int,
    sample: int,
    seed: int,
    search: list[int] | None,
    no_write: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Measure recall@k of REF: which share of the exact answer its index finds, and how fast.

    The mean over the queries, their 5th percentile and the worst, for each setting of the index,
    and the median of one query's milliseconds. The figures go to the version's metrics
    (index_recall). Measure with the queries that will be asked: for items, the users' vectors.
    """
    with options.open_store(url) as store, bar() as progress:
        found = store[ref].evaluate(
            queries,
            k,
            sample=sample,
            seed=seed,
            search=search,
            write=not no_write,
            progress=progress,
        )
    if as_json:
        output.document({"ref": found.ref, **found.as_json()})
        return
    what = "exact search" if found.index is None else f"index {found.index.name}"
    plural = "query" if found.count == 1 else "queries"
    print(f"{found.ref}, {what}: recall@{found.k} of {found.count:,} {plural} of {found.queries}")
    print()
    output.rows(
        [
            {
                "search": f"{each}{' (in use)' if each == found.used else ''}",
                "recall": each.mean,
                "p5": each.p5,
                "min": each.min,
                "ms": each.ms,
            }
            for each in found.settings
        ],
        False,
    )
    if queries is None:
        output.warning(
            f"these queries are the vectors of {found.ref} itself: where others are asked, such as"
            " users', measure with those (--queries users)"
        )


COMMANDS = (evaluate,)
