"""Readers: whatever holds vectors, as a described stream of Arrow record batches.

One module per format behind one interface, `base.Opened`. What a file is, its content tells
before its name; ``format=`` overrides both.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import BadInput, InvalidQuery
from .base import EMBEDDING, ID, Opened, Wanted
from .bias import folded
from .bits import as_bits
from .files.npy import read_matrix
from .ids import id_array
from .layout import check_id_type, listed
from .objects.plain import open_object, to_table
from .objects.trees import leaf_bits
from .registry import Format, Model, format_of, formats, models
from .source import File, reading

__all__ = [
    "Format",
    "Model",
    "Opened",
    "Wanted",
    "formats",
    "leaf_bits",
    "models",
    "open_source",
    "read_attributes",
    "read_queries",
]


_NOTHING_SAID = Wanted()


@contextmanager
def open_source(
    source: object,
    wanted: Wanted = _NOTHING_SAID,
    *,
    format: str | None = None,
) -> Iterator[Opened]:
    """Open a path or an object as a context manager that gives an `Opened`.

    Parameters
    ----------
    source : path, array, frame, Arrow table or stream, mapping, or trained model
    wanted : Wanted
        What the user said about it.
    format : str
        The name of one of `formats`.

    Raises
    ------
    BadInput, NotFound, InvalidQuery
    """
    with _opened(source, wanted, format) as opened:
        if wanted.bits:
            once = source == "-" if isinstance(source, str) else isinstance(source, _READ_ONCE)
            again = partial(_opened, source, wanted, format)
            opened = as_bits(opened, None if once else again)
        yield opened


# What a second opening would find at its end.
_READ_ONCE = (pa.RecordBatchReader, io.IOBase)


@contextmanager
def _opened(source: object, wanted: Wanted, format: str | None) -> Iterator[Opened]:
    if not isinstance(source, str | os.PathLike):
        yield _finished(open_object(source, wanted), wanted)
        return
    file = File.find(source)
    chosen = format_of(file, format)
    with ExitStack() as held:
        with reading(file.name, chosen.title):
            opened = chosen.open(file, wanted, held)
        guarded = replace(
            opened,
            batches=file.guarded(opened.batches, chosen.title),
            later=lambda: {"sha256": file.sha256()},
        )
        yield _finished(guarded, wanted)


def _finished(opened: Opened, wanted: Wanted) -> Opened:
    if wanted.biases and not wanted.fold:
        raise InvalidQuery("biases= (--biases) says which to fold: add bias='fold' (--bias fold)")
    return folded(opened, wanted.biases) if wanted.fold else opened


def read_attributes(source: object, *, ids: str | None = None) -> pa.Table:
    """Read a table of attributes: its first column is ``id``, the others are as they are.

    Parameters
    ----------
    source : path, frame or Arrow table
    ids : str
        Its id column; by default ``id``, else the first.

    Raises
    ------
    BadInput, NotFound
    """
    if isinstance(source, str | os.PathLike):
        file = File.find(source)
        name, chosen = file.name, format_of(file, None)
        if chosen.read is None:
            able = ", ".join(each.name for each in formats() if each.read)
            raise BadInput(
                f"{name} is {chosen.name}, no table: attributes come from {able}", source=name
            )
        with reading(name, chosen.title):
            table = chosen.read(file, ids)
        file.check_unchanged()
    else:
        name = "attributes"
        table = to_table(source, name)
    return _with_ids_first(table, name, ids)


def _with_ids_first(table: pa.Table, name: str, ids: str | None) -> pa.Table:
    names = table.schema.names
    own = ids or (ID if ID in names else names[0] if names else "")
    if own not in names:
        raise BadInput(
            f"{name} has no column {own!r}: it has {listed(names)}", source=name, column=own
        )
    for each in names:
        if names.count(each) > 1 or (each == ID and own != ID):
            raise BadInput(
                f"{name}: column {each!r} is there twice, or is beside the ids from {own!r}; rename"
                " or leave it out",
                source=name,
                column=each,
            )
    check_id_type(table.schema.field(own).type, name, own)
    keys = id_array(table.column(own), name)
    return table.drop_columns([own]).add_column(0, ID, keys)


def read_queries(path: str) -> tuple[list[Any], Any]:
    """Read query vectors: their keys (row numbers for .npy, else the ids) and a matrix (q, dim).

    Raises
    ------
    BadInput, NotFound
    """
    file = File.find(path)
    chosen = format_of(file, None)
    if chosen.name == "npy":
        with reading(file.name, chosen.title):
            matrix = read_matrix(file)
        return list(range(1, len(matrix) + 1)), matrix
    with open_source(path) as opened:
        batches = list(opened.batches)
    keys = [key for batch in batches for key in batch.column(ID).to_pylist()]
    flat = [np.asarray(batch.column(EMBEDDING).flatten()) for batch in batches]
    return keys, np.concatenate(flat).reshape(len(keys), opened.dim)
