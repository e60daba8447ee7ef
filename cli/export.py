"""export: a version into a file."""

from __future__ import annotations

import shlex
import time

import click

from . import options, output
from .progress import bar


def _format(_context: click.Context, option: click.Parameter, given: str | None) -> str | None:
    from embstore.errors import InvalidQuery
    from embstore.export import format_of

    try:
        return given and format_of("", given).name
    except InvalidQuery as error:
        raise click.BadParameter(str(error), param=option) from error


@click.command()
@click.argument("ref")
@click.argument("file", type=click.Path(), metavar="FILE")
@click.option(
    "--format",
    "format_",
    callback=_format,
    metavar="NAME",
    help="parquet, arrow, arrow-stream, npy, word2vec, word2vec-binary, safetensors or projector"
    " [default: as FILE's ending says].",
)
@click.option(
    "--attributes",
    metavar="NAME,...",
    help="The attributes that go along, '' for none [default: all, where the format can hold any].",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE, in one step.")
@options.url
@options.as_json
def export(
    ref: str,
    file: str,
    format_: str | None,
    attributes: str | None,
    overwrite: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Write the version that REF names to FILE, which loads again to the same ids and bits.

    The ending says what is written: .parquet, .arrow (a stream: .arrows), .npy, .vec or .txt
    (word2vec text), .bin (word2vec binary), .safetensors, .tsv (TensorBoard's projector). FILE is
    there when it is whole, or not at all.
    """
    start = time.perf_counter()
    named = None if attributes is None else [each for each in attributes.split(",") if each]
    with options.open_store(url) as store, bar() as progress:
        done = store[ref].export(
            file, format_, attributes=named, overwrite=overwrite, progress=progress
        )
    seconds = time.perf_counter() - start
    again = ["embstore", "load", "TABLE", str(done.files[0])]
    if done.ids is not None:
        again += ["--ids", str(done.ids)]
    if as_json:
        output.document(
            {
                "ref": done.ref,
                "format": done.format,
                "files": list(map(str, done.files)),
                "ids": done.ids and str(done.ids),
                "rows": done.rows,
                "bytes": done.bytes,
                "checksum": done.checksum,
                "attributes": done.attributes,
                "left_out": done.left_out,
                "load": shlex.join(again),
                "seconds": round(seconds, 3),
                "rows_per_second": round(done.rows / seconds),
            }
        )
        return
    files = " and ".join(map(str, done.files))
    print(
        f"{done.ref}: {done.rows:,} rows to {files}, {output.size(done.bytes)}, in {seconds:.1f} s"
    )
    if done.left_out:
        print(f"attributes left out: {', '.join(done.left_out)}")
    print(f"load again with {shlex.join(again)}")


COMMANDS = (export,)
