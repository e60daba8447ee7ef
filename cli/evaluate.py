"""evaluate: how well versions recommend, and how much of the exact answer an index finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from . import options, output
from .progress import bar

if TYPE_CHECKING:
    from embstore import Evaluation, Ranking


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
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option(
    "--interactions",
    metavar="FILE",
    help="Measure recommendations by these pairs, held out from the training: columns user_id and"
    " item_id, else the first two.",
)
@click.option(
    "--history",
    metavar="FILE",
    help="Pairs that were known: left out of the answers, and counted for novelty and popularity.",
)
@click.option(
    "--users",
    multiple=True,
    metavar="REF",
    help="The users' vectors, one for all or one for each REF. [default: the mean of the history]",
)
@click.option(
    "--indexed", is_flag=True, help="Ask each version's own index instead of comparing every item."
)
@click.option(
    "--resamples",
    type=int,
    metavar="N",
    help="Draws of the users that the intervals of 95% rest on; 0 for none. [default: 1000]",
)
@click.option("--force", is_flag=True, help="Even where users and items are of two trainings.")
@click.option(
    "--queries",
    metavar="REF|FILE",
    help="Measure the index with these vectors: a version of users, say, or a file."
    " [default: its own vectors]",
)
@click.option(
    "--ef-search",
    "--probes",
    "search",
    callback=_values,
    metavar="N,...",
    help="The settings of the HNSW (or IVFFlat) index to measure. [default: some, and its own]",
)
@click.option(
    "-k",
    "k",
    default="10",
    show_default=True,
    callback=_values,
    metavar="N,...",
    help="Of how many neighbours; several only with --interactions.",
)
@click.option(
    "--sample",
    type=int,
    metavar="N",
    help="The most queries or users to take, at random. [default: 1000 queries, all users]",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Of what is random."
)
@click.option("--no-write", is_flag=True, help="Leave the versions' metrics as they are.")
@options.url
@options.as_json
def evaluate(
    refs: tuple[str, ...],
    interactions: str | None,
    history: str | None,
    users: tuple[str, ...],
    indexed: bool,
    resamples: int | None,
    force: bool,
    queries: str | None,
    search: list[int] | None,
    k: list[int],
    sample: int | None,
    seed: int,
    no_write: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Measure how well REF... recommend, or how much of the exact answer the index of REF finds.

    With --interactions: hit rate, recall, NDCG, MRR, coverage and novelty of each version's k best
    items for every user of the file, each with an interval, beside the most popular items, and the
    differences to the first REF. The figures go to the versions' metrics (ranking).

    Without: recall@k of the index, the mean over the queries, their 5th percentile and the worst,
    for each setting, and the median of one query's milliseconds. The figures go to the version's
    metrics (index_recall). Measure with the queries that will be asked: for items, the users'
    vectors.
    """
    if interactions is None:
        of_lists = {
            "--history": history,
            "--users": users,
            "--indexed": indexed,
            "--resamples": resamples,
            "--force": force,
        }
        _only("with", of_lists)
        if len(refs) > 1 or len(k) > 1:
            raise click.UsageError(
                "without --interactions one index is measured: give one REF and one -k"
            )
        with options.open_store(url) as store, bar() as progress:
            found = store[refs[0]].evaluate(
                queries,
                k[0],
                sample=1000 if sample is None else sample,
                seed=seed,
                search=search,
                write=not no_write,
                progress=progress,
            )
        if as_json:
            output.document({"ref": found.ref, **found.as_json()})
            return
        _print_index(found, queries is None)
        return
    _only("without", {"--queries": queries, "--ef-search": search})
    with options.open_store(url) as store, bar() as progress:
        ranking = store.evaluate(
            refs,
            interactions,
            users=users[0] if len(users) == 1 else users or None,
            history=history,
            k=k,
            exact=not indexed,
            sample=sample,
            resamples=1000 if resamples is None else resamples,
            seed=seed,
            write=not no_write,
            force=force,
            progress=progress,
            warn=output.warning,
        )
    if as_json:
        output.document(ranking.as_json())
        return
    _print_ranking(ranking)


def _only(how: str, given: Mapping[str, object]) -> None:
    """Refuse what the other of the two measurements takes."""
    for option, value in given.items():
        if value not in (None, False, ()):
            raise click.UsageError(f"{option} goes {how} --interactions")


def _print_ranking(found: Ranking) -> None:
    left_out = f", {found.history} left out" if found.history else ""
    how = "every item compared" if found.exact else "by the versions' indexes"
    print(
        f"{found.pairs:,} held-out interactions of {found.users:,} users ({found.interactions})"
        f"{left_out}; {how}"
    )
    shown = [*([found.popularity] if found.popularity else []), *found.results]
    for k in found.k:
        names = [name for name in shown[0].measures if name.endswith(f"@{k}")]
        print()
        output.rows(
            [{"version": each.ref} | {n: str(each.measures[n]) for n in names} for each in shown],
            False,
        )
        if len(found.results) > 1:
            first = found.results[0].ref
            names = [name for name in names if not name.startswith("coverage")]
            print()
            output.rows(
                [
                    {f"less {first}": each.ref}
                    | {name: each.measures[name].against() for name in names}
                    for each in found.results[1:]
                ],
                False,
            )
    if found.resamples:
        print(
            f"\n±: half of the interval that holds 95% of {found.resamples:,} draws of the users"
            f"{'; *: that of a difference leaves out 0' if len(found.results) > 1 else ''}"
        )
    for each in found.results:
        if each.answered < found.users:
            output.warning(
                f"{each.ref}: {found.users - each.answered:,} of {found.users:,} users have no"
                " vector, and count as misses"
            )


def _print_index(found: Evaluation, own: bool) -> None:
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
    if own:
        output.warning(
            f"these queries are the vectors of {found.ref} itself: where others are asked, such as"
            " users', measure with those (--queries users)"
        )


COMMANDS = (evaluate,)
