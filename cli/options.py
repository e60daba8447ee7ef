"""Options that several commands share, as decorators."""

from __future__ import annotations

import sys
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


def source(function: F) -> F:
    """What in the FILEs is what: ``--ids``, ``--vectors``, ``--attributes``, ..."""
    for option in (
        click.option("--attributes-ids", metavar="NAME", help="The id column of --attributes."),
        click.option("--attributes", metavar="FILE", help="More columns, joined on id."),
        click.option("--allow-pickle", is_flag=True, help="Read pickles, which can run any code."),
        click.option("--biases", metavar="NAME|1", help="The column of biases; 1 appends ones."),
        click.option(
            "--bias",
            type=click.Choice(["keep", "fold"]),
            default="keep",
            show_default=True,
            help="fold: append each bias to its vector, for inner product.",
        ),
        click.option(
            "--data", "X", metavar="FILE", help="What a fitted transformer is to transform."
        ),
        click.option("--format", metavar="NAME", help="What the file is, if it does not tell."),
        click.option(
            "--vectors", metavar="NAME", help="The column or array that holds the vectors."
        ),
        click.option(
            "--ids", metavar="FILE|NAME", help="The ids: a file, or a column or array inside."
        ),
    ):
        function = option(function)
    return function


def _policy(_context: click.Context, option: click.Parameter, given: str) -> str:
    from embstore.errors import InvalidQuery
    from embstore.load.rejects import allowed

    try:
        allowed(given)
    except InvalidQuery as error:
        raise click.BadParameter(str(error), param=option) from error
    return given


policy = click.option(
    "--on-bad",
    callback=_policy,
    default="reject",
    show_default=True,
    metavar="reject|skip|abort-after=N",
    help="A bad row ends it all, or is left out.",
)


def bad_rows(function: F) -> F:
    """``--zero``, ``--on-bad`` and ``--rejects``."""
    for option in (
        click.option("--rejects", metavar="FILE", help="Write the bad rows to a CSV file."),
        policy,
        click.option(
            "--zero",
            type=click.Choice(["reject", "keep"]),
            default="reject",
            show_default=True,
            help="Under cosine: a zero vector is a bad row, or is kept and nobody's neighbour.",
        ),
    ):
        function = option(function)
    return function


def given(files: tuple[str, ...]) -> Any:
    """Return the FILEs as a source, of which - is standard input."""
    found: list[Any] = [sys.stdin.buffer if each == "-" else each for each in files]
    return found if len(found) > 1 else found[0]


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
