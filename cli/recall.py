"""recall: for every user the k best items."""

from __future__ import annotations

import time

import click

from . import options, output
from .progress import bar


@click.command()
@click.argument("users")
@click.argument("items")
@click.option("-k", "k", type=int, default=100, show_default=True, help="Items for each user.")
@click.option(
    "--exclude",
    metavar="FILE",
    help="Pairs to leave out, such as what was seen: columns user_id and item_id, else the first"
    " two.",
)
@options.where
@click.option(
    "--approximate", is_flag=True, help="Use an HNSW index in process instead of comparing all."
)
@click.option("--out", metavar="FILE", help="Write a Parquet file.")
@click.option(
    "--into-table",
    "table",
    metavar="NAME",
    help="Replace the rows of a table in the same database.",
)
@click.option("--force", is_flag=True, help="Even where the two are of different trainings.")
@options.url
@options.as_json
def recall(
    users: str,
    items: str,
    k: int,
    exclude: str | None,
    where: tuple[str, ...],
    approximate: bool,
    out: str | None,
    table: str | None,
    force: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """For every user in USERS find the k best in ITEMS: user_id, rank, item_id, score.

    USERS and ITEMS are tables or references, read as they are at one moment. The items are
    compared in process, all of them; what is excluded is left out, and k is still filled. Versions
    of different trainings are refused.
    """
    if (out is None) == (table is None):
        raise click.UsageError("give one of --out and --into-table")
    start = time.perf_counter()
    with options.open_store(url) as store, bar() as progress:
        chosen = store.readable(items).conditions(where) if where else None
        found = store.recall(
            users,
            items,
            k,
            exclude=exclude,
            where=chosen,
            approximate=approximate,
            progress=options.counting(progress, "users"),
            force=force,
            warn=output.warning,
        )
        rows = found.to_parquet(out) if out is not None else found.to_table(str(table))
    seconds = time.perf_counter() - start
    done = {
        "users": found.users.ref,
        "items": found.items.ref,
        "k": k,
        "rows": rows,
        "seconds": round(seconds, 3),
        "users_per_second": round(found.users.rows / seconds),
        "to": out or table,
    }
    if as_json:
        output.document(done)
        return
    print(
        f"{found.users.rows:,} users of {found.users.ref} x {k} of {found.items.ref}: {rows:,} rows"
        f" to {done['to']} in {seconds:.1f} s"
    )


COMMANDS = (recall,)
