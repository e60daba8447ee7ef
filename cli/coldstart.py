"""coldstart: vectors for new ids, made of what is known about them."""

from __future__ import annotations

from typing import Any

import click

from . import append, options, output
from .progress import bar

# Which options each method takes, by the library's names.
_TAKES = {
    "mean-of-neighbours": {"match", "near", "where", "k", "minimum"},
    "side-information": {"tables", "weights", "force"},
    "fold-in": {
        "interactions",
        "other",
        "columns",
        "reg",
        "alpha",
        "bias",
        "global_bias",
        "minimum",
        "force",
    },
}


def _names(_context: click.Context, _option: click.Parameter, given: str | None) -> Any:
    return given.split(",") if given else None


def _pairs(number: bool) -> Any:
    def parse(_context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Any:
        pairs: dict[str, Any] = {}
        for each in given:
            name, _, value = each.partition("=")
            try:
                pairs[name] = float(value) if number else value
            except ValueError:
                value = ""
            if not name or not value:
                kind = "NUMBER" if number else "REF"
                raise click.BadParameter(f"{each!r} is not NAME={kind}", param=option)
        return pairs or None

    return parse


def _count(_context: click.Context, option: click.Parameter, given: str) -> int | None:
    if given == "all":
        return None
    if given.isascii() and given.isdigit() and int(given) > 0:
        return int(given)
    raise click.BadParameter(f"{given!r} is no number of rows above 0, nor all", param=option)


@click.command()
@click.argument("ref")
@click.option("--from", "new", required=True, metavar="FILE", help="The new rows: an id and more.")
@click.option("--ids", metavar="NAME", help="Their id column [default: id, else the first].")
@click.option(
    "--method",
    type=click.Choice(list(_TAKES)),
    default="mean-of-neighbours",
    show_default=True,
    help="How their vectors are made.",
)
@click.option("--match", metavar="NAME,...", callback=_names, help="Attributes to be equal.")
@click.option(
    "--near",
    multiple=True,
    metavar="NAME=D",
    callback=_pairs(number=True),
    help="A number that differs by D at most, and the less the better; may be repeated.",
)
@options.where
@click.option(
    "-k", metavar="K|all", default="3", show_default=True, callback=_count, help="Of how many rows."
)
@click.option(
    "--minimum",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Neighbours or interactions that a new row needs.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="NAME=REF",
    callback=_pairs(number=False),
    help="Side information: the table with the vectors of a column's values; may be repeated.",
)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="NAME=A",
    callback=_pairs(number=True),
    help="Its weight counts as exp(A). [default: equal]",
)
@click.option("--interactions", metavar="FILE", help="Fold-in: new id, known id, value.")
@click.option("--columns", metavar="NAME,...", callback=_names, help="These columns' names.")
@click.option("--other", metavar="REF", help="The known ids' vectors: users, for items.")
@click.option("--reg", type=float, metavar="R", help="Regularisation. [default: 0.1]")
@click.option("--alpha", type=float, metavar="A", help="Implicit feedback of confidence 1 + A r.")
@click.option("--bias", metavar="NAME", help="The attribute that holds biases.")
@click.option("--global-bias", type=float, metavar="B", help="What is taken from each value first.")
@click.option("--force", is_flag=True, help="Also of vectors that may be of another training.")
@click.option("--dry-run", is_flag=True, help="Append nothing; say what would be.")
@options.policy
@options.message
@options.url
@options.as_json
def coldstart(
    ref: str,
    new: str,
    ids: str | None,
    method: str,
    where: tuple[str, ...],
    message: str | None,
    on_bad: str,
    dry_run: bool,
    url: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Make vectors for the new rows of a FILE and append them to the version that REF names.

    \b
    mean-of-neighbours  of the K nearest by attributes: --match, --near, --where, -k, --minimum
    side-information    of what is known of each: --table author=authors, --weight author=0.5
    fold-in             of a few interactions: --interactions FILE --other users, --reg, --alpha

    Columns that are attributes of the version join with the ids.
    """
    given = {name: value for name, value in how.items() if value is not None and value is not False}
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    for name in [*given, "k", "where"]:
        if name not in _TAKES[method] and context.get_parameter_source(name) is not default:
            raise click.UsageError(f"--method {method} takes no --{name.replace('_', '-')}")
    options_ = {name: value for name, value in given.items() if name in _TAKES[method]}
    if method == "mean-of-neighbours":
        options_["k"] = how["k"]
    for name, shown in (("interactions", "--interactions FILE"), ("other", "--other REF")):
        if method == "fold-in" and name not in options_:
            raise click.UsageError(f"--method fold-in needs {shown}")
    if method == "side-information" and "tables" not in options_:
        raise click.UsageError("--method side-information needs --table NAME=REF")
    with options.open_store(url) as store, bar() as progress:
        version = store[ref]
        if where:
            options_["where"] = version.conditions(where)
        done = version.coldstart(
            new,
            method,
            ids=ids,
            message=message,
            on_bad=on_bad,
            dry_run=dry_run,
            progress=progress,
            warn=output.warning,
            **options_,
        )
    append.report(done, as_json, dry_run)


COMMANDS = (coldstart,)
