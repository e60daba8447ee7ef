"""load: vectors from files into the next version of a table."""

from __future__ import annotations

import dataclasses
import json
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
    """Return what to load: a query, or files."""
    from embstore import Query

    if (query is None) != (database is None):
        raise click.UsageError("--query SQL and --from URL belong together")
    if (query is None) == (not files):
        raise click.UsageError("give FILE..., or --query SQL --from URL")
    return options.given(files) if query is None else Query(str(database), query)


@click.command()
@click.argument("table")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--query", metavar="SQL", help="Load what this returns, from the database of --from.")
@click.option("--from", "database", metavar="URL", help="postgresql://..., or SQLAlchemy's.")
@options.source
@click.option(
    "--metric",
    type=click.Choice(["cosine", "ip", "l2", "hamming", "jaccard"]),
    help="How vectors are compared, bits by the last two; fixed for a table. [default for a new"
    " one: cosine]",
)
@click.option("--precision", type=click.Choice(["float32", "float16"]), help="Fixed for a table.")
@click.option("--id-type", type=click.Choice(["bigint", "text"]), help="Fixed for a table.")
@options.bad_rows
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
