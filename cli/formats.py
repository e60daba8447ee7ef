"""formats: what can be loaded."""

from __future__ import annotations

import click

from . import options, output


@click.command()
@options.as_json
def formats(as_json: bool) -> None:
    """List what load and Table.load read: files, and models given as objects in Python.

    A packed file (gzip, zstd) counts as what it holds. "needs" names the packages and how to
    install them.
    """
    from embstore.readers import formats as files
    from embstore.readers import models

    records = [
        {
            "name": each.name,
            "kind": kind,
            "endings": " ".join(getattr(each, "endings", ())),
            "reads": each.help,
            "needs": str(each.needs or ""),
        }
        for kind, known in (("file", files()), ("object", models()))
        for each in known
    ]
    output.rows(records, as_json)


COMMANDS = (formats,)
