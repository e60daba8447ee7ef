"""load: vectors from files into the next version of a table."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from . import options, output
from .progress import bar


def _pairs(_context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Any:
    """Parse NAME=VALUE; a value that is JSON keeps its type."""
    pairs = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{each!r} is not NAME=VALUE", param=option)
        try:
            pairs[name] = json.loads(value)
        except ValueError:
            pairs[name] = value
    return pairs


def _source(files: tuple[str, ...], query: str | None, database: str | None) -> Any:
    """Return what to load: a query, or files, of which - is standard input."""
    from embstore import Query

    if (query is None) != (database is None):
        raise click.UsageError("--query SQL and --from URL belong together")
    if (query is None) == (not files):
        raise click.UsageError("give FILE..., or --query SQL --from URL")
    if query is not None:
        return Query(str(database), query)
    given: list[Any] = [sys.stdin.buffer if each == "-" else each for each in files]
    return given if len(given) > 1 else given[0]


def _policy(_context: click.Context, option: click.Parameter, given: str) -> str:
    from embstore.errors import InvalidQuery
    from embstore.load.rejects import allowed

    try:
        allowed(given)
    except InvalidQuery as error:
        raise click.BadParameter(str(error), param=option) from error
    return given


@click.command()
@click.argument("table")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--query", metavar="SQL", help="Load what this returns, from the database of --from.")
@click.option("--from", "database", metavar="URL", help="postgresql://..., or SQLAlchemy's.")
@click.option("--ids", metavar="FILE|NAME", help="The ids: a file, or a column or array inside.")
@click.option("--vectors", metavar="NAME", help="The column or array that holds the vectors.")
@click.option("--format", "format_", metavar="NAME", help="What the file is, if it does not tell.")
@click.option("--data", "X", metavar="FILE", help="What a fitted transformer is to transform.")
@click.option(
    "--bias",
    type=click.Choice(["keep", "fold"]),
    default="keep",
    show_default=True,
    help="fold: append each bias to its vector, for inner product.",
)
@click.option("--biases", metavar="NAME|1", help="The column of biases; 1 appends ones.")
@click.option("--allow-pickle", is_flag=True, help="Read pickles, which can run any code.")
@click.option("--attributes", metavar="FILE", help="More columns, joined on id.")
@click.option("--attributes-ids", metavar="NAME", help="The id column of --attributes.")
@click.option(
    "--metric",
    type=click.Choice(["cosine", "ip", "l2", "hamming", "jaccard"]),
    help="How vectors are compared, bits by the last two; fixed for a table. [default for a new"
    " one: cosine]",
)
@click.option("--precision", type=click.Choice(["float32", "float16"]), help="Fixed for a table.")
@click.option("--id-type", type=click.Choice(["bigint", "text"]), help="Fixed for a table.")
@click.option(
    "--zero",
    type=click.Choice(["reject", "keep"]),
    default="reject",
    show_default=True,
    help="Under cosine: a zero vector is a bad row, or is kept and nobody's neighbour.",
)
@click.option(
    "--on-bad",
    callback=_policy,
    default="reject",
    show_default=True,
    metavar="reject|skip|abort-after=N",
    help="A bad row ends the load, or is left out.",
)
@click.option("--rejects", metavar="FILE", help="Write the bad rows to a CSV file.")
@click.option(
    "--index",
    "kind",
    type=click.Choice(["auto", "hnsw", "ivfflat", "none"]),
    default="auto",
    show_default=True,
    help="The ANN index; auto chooses by rows and dims, and says why.",
)
@click.option(
    "--index-precision",
    type=click.Choice(["float32", "float16", "bit"]),
    help="What is indexed: the vectors, or a smaller form of them.",
)
@options.index
@options.target
@click.option(
    "--align-to",
    metavar="live|REF",
    help="Rotate the vectors onto those of a version of TABLE; or, by another table's version that"
    " was aligned, with it.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Copy over so many. [default: as the server's WAL asks for]",
)
@click.option("--trainer", metavar="TEXT", help="What made the vectors, such as gensim.Word2Vec.")
@click.option(
    "--param",
    "params",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VALUE",
    help="A parameter of the trainer; may be repeated.",
)
@click.option(
    "--metric-value",
    "metrics",
    multiple=True,
    callback=_pairs,
    metavar="NAME=VALUE",
    help="A metric of the training; may be repeated.",
)
@click.option(
    "--space",
    metavar="TEXT",
    help="Which training the vectors are of; those of one space may be compared and go live"
    " together. [default: the parameter run_id]",
)
@click.option("--note", metavar="TEXT", help="Whatever should be remembered of this version.")
@click.option("--promote", is_flag=True, help="Make the version live in the same step.")
@options.url
@options.as_json
def load(
    table: str,
    files: tuple[str, ...],
    query: str | None,
    database: str | None,
    format_: str | None,
    kind: str,
    index_precision: str | None,
    m: int | None,
    ef_construction: int | None,
    lists: int | None,
    metric: str | None,
    url: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Load FILE... as the next version of TABLE, which is created if it is not there.

    FILE is a path, a folder, a glob in quotes, a URL (s3://, gs://, https://) or - for standard
    input; "embstore formats" lists what can be in it. Several make one version. Everything becomes
    visible at once, or nothing does. Columns beside id and vectors become attributes.
    """
    from embstore.errors import InvalidQuery, NotFound

    source = _source(files, query, database)
    with options.open_store(url) as store:
        try:
            target = store.table(table)
        except NotFound:
            target = store.create_table(table, metric=metric or "cosine")
        if metric is not None and metric != target.metric:
            raise InvalidQuery(
                f"table {table} compares by {target.metric}, not {metric}: use another table"
            )
        with bar() as progress:
            version = target.load(
                source,
                format=format_,
                index=options.wanted(
                    kind=kind,
                    precision=index_precision,
                    m=m,
                    ef_construction=ef_construction,
                    lists=lists,
                ),
                progress=progress,
                warn=output.warning,
                **how,
            )
        done = {
            "ref": version.ref,
            "rows": version.rows,
            "dim": version.dim,
            "metric": version.metric,
            "precision": version.precision,
            "index": version.index,
            "indexes": [dataclasses.asdict(each) for each in version.indexes],
            "rows_per_second": version.source["rows_per_second"],
            "rejected": version.source.get("rejected", 0),
            "checksum": version.checksum,
            "aligned": version.source.get("aligned"),
            "live": bool(how["promote"]),
        }
    if as_json:
        output.document(done)
        return
    print(
        f"{version.ref}: {version.rows:,} x {version.dim} {version.precision} loaded at"
        f" {done['rows_per_second']:,} rows/s"
        + (", live" if how["promote"] else f"; make it live with embstore promote {version.ref}")
    )
    print(f"index {version.source['index']}")
    if (fit := done["aligned"]) is not None:
        print(
            f"aligned to {fit['to']}"
            + (f" by the rotation of {fit['by']}" if "by" in fit else f", {fit['ids']:,} ids")
            + f": residual {fit['residual']:.4g}"
            + (f", {fit['before']:.4g} without" if "before" in fit else "")
        )


COMMANDS = (load,)
