"""replica: a local, memory-mapped copy of a version."""

from __future__ import annotations

import time

import click

from . import options, output
from .progress import bar


@click.command()
@click.argument("ref")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="The folder that holds replicas, one folder each [default: one in the user's cache].",
)
@click.option(
    "--index",
    type=click.Choice(["hnsw", "none"]),
    help="What its nearest uses [default: hnsw where faiss is installed].",
)
@click.option("--verify", is_flag=True, help="Read it again and compare every file's checksum.")
@options.url
@options.as_json
def replica(
    ref: str,
    folder: str | None,
    index: str | None,
    verify: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Write the version that REF names into a local folder; open it with embstore.open_replica.

    A copy that is there already is left as it is.
    """
    start = time.perf_counter()
    with options.open_store(url) as store, bar() as progress:
        made = store[ref].replica(folder, index=index, progress=progress)
    if verify:
        made.verify()
    done = {
        "ref": made.ref,
        "path": str(made.path),
        "rows": made.rows,
        "bytes": made.bytes,
        "index": made.index,
        "why": made.why,
        "verified": verify,
        "seconds": round(time.perf_counter() - start, 3),
    }
    if as_json:
        output.document(done)
        return
    print(
        f"{made.ref}: {made.rows:,} rows, {output.size(made.bytes)}, in {made.path},"
        f" {done['seconds']:.1f} s; index {made.index}"
        + (f" ({made.why})" if made.why else "")
        + (", verified" if verify else "")
    )


COMMANDS = (replica,)
