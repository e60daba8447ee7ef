"""Options that several commands share, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from embstore import Store
    from embstore.reads import Reads
    from embstore.types import Progress

F = TypeVar("F", bound=Callable[..., Any])

url = click.option(
    "--url",
    envvar="EMBSTORE_URL",
    metavar="URL",
    help="The store's Postgres, postgresql://user@host/database [default: $EMBSTORE_URL, else the"
    " embedded server].",
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

message = click.option("--message", "-m", help="Why; kept in the history.")


def show(function: F) -> F:
    """``--show title,year``."""
    return click.option(
        "--show",
        metavar="NAME,...",
        help="Attributes to print too.",
        callback=lambda _context, _option, value: tuple(value.split(",")) if value else (),
    )(function)


def index(function: F) -> F:
    """``--m``, ``--ef-construction`` and ``--lists``."""
    for option in (
        click.option("--lists", type=int, metavar="N", help="IVFFlat: into how many, 1 to 32768."),
        click.option(
            "--ef-construction",
            type=int,
            metavar="N",
            help="HNSW: candidates for the links of a row, 4 to 1000. [default: 64]",
        ),
        click.option(
            "--m", type=int, metavar="N", help="HNSW: links of a row, 2 to 100. [default: 16]"
        ),
    ):
        function = option(function)
    return function


def target(function: F) -> F:
    """``--target-recall``, ``--queries`` and ``--target-k``."""
    for option in (
        click.option(
            "--target-k",
            type=int,
            default=10,
            show_default=True,
            metavar="K",
            help="Of how many neighbours.",
        ),
        click.option(
            "--queries",
            metavar="REF|FILE",
            help="What --target-recall is measured with: a version of users, say, or a file."
            " [default: the version's own vectors]",
        ),
        click.option(
            "--target-recall",
            type=float,
            metavar="R",
            help="Search as little of the index as finds this share (0.98) of the exact answer.",
        ),
    ):
        function = option(function)
    return function


def wanted(**given: Any) -> dict[str, Any]:
    """Return the index that options ask for, if they can go together."""
    from embstore.errors import InvalidQuery
    from embstore.index import Wanted

    asked = {name: value for name, value in given.items() if value is not None}
    try:
        Wanted.of(asked)
    except InvalidQuery as error:
        raise click.UsageError(str(error)) from error
    return asked


def where(function: F) -> F:
    """``--where 'year>=2000'``."""
    return click.option(
        "--where",
        multiple=True,
        metavar="CONDITION",
        help="Only rows with 'year>=2000', 'language in en,fr', 'author is null', ...; may be"
        " repeated, and all must hold.",
    )(function)


def counting(
    report: Callable[[Progress], None] | None, phase: str
) -> Callable[[int, int], None] | None:
    """Turn a bar's callback into one that is told how many are done."""
    from embstore.types import Progress

    return report and (lambda done, total: report(Progress(phase, done, total)))


def open_store(url: str | None) -> Store:
    """Connect as ``embstore.connect`` does."""
    import embstore

    return embstore.connect(url)


def parse_ids(reads: Reads, ids: tuple[str, ...]) -> list[int] | list[str]:
    """Return ids typed on the command line in the type of the table."""
    if reads.id_type == "text":
        return list(ids)
    try:
        return [int(each) for each in ids]
    except ValueError:
        bad = next(each for each in ids if not each.lstrip("-").isdigit())
        raise click.UsageError(f"{bad!r} is no id: the ids of this table are integers") from None
