"""Readers: whatever holds vectors, as a described stream of Arrow record batches.

One module per format behind one interface, `base.Opened`. What a file is, its content tells
before its name; ``format=`` overrides both.
"""

from __future__ import annotations

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
from .folders import Part
from .ids import id_array
from .layout import check_id_type, listed
from .objects.plain import open_object, to_table
from .objects.trees import leaf_bits
from .query import Query, open_query, read_query
from .registry import Format, Model, format_of, formats, model_of, models
from .sieve import Sieve
from .source import File, is_file, reading

__all__ = [
    "Format",
    "Model",
    "Opened",
    "Query",
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
    source : path, URL, open binary file, Query, array, frame, Arrow table or stream, mapping, or \
trained model
    wanted : Wanted
        What the user said about it.
    format : str
        The name of one of `formats`.

    Raises
    ------
    BadInput, NotFound, InvalidQuery
    """
    with ExitStack() as held:
        opened = _opened(source, wanted, format, held)
        if wanted.bits:
            once = isinstance(source, pa.RecordBatchReader) or (
                _is_file(source) and not isinstance(source, str | os.PathLike)
            )
            opened = as_bits(opened, None if once else partial(_again, source, wanted, format))
        yield opened


@contextmanager
def _again(source: object, wanted: Wanted, format: str | None) -> Iterator[Opened]:
    """Open a source for a first look, which notes no bad rows."""
    if wanted.sieve.skips:
        wanted = replace(wanted, sieve=Sieve(lambda *_: None))
    with ExitStack() as held:
        yield _opened(source, wanted, format, held)


def _opened(source: object, wanted: Wanted, format: str | None, held: ExitStack) -> Opened:
    if isinstance(source, Query):
        opened = open_query(source, wanted, held)
    elif isinstance(source, Part):
        opened = source.of(_file(source.place, wanted, format, held))
    elif _is_file(source):
        opened = _file(source, wanted, format, held)
    else:
        opened = open_object(source, wanted)
    return _finished(opened, wanted)


def _is_file(source: object) -> bool:
    """Tell a file from a model that has something called ``read``, such as a layer."""
    return is_file(source) and model_of(source) is None


def _file(source: object, wanted: Wanted, format: str | None, held: ExitStack) -> Opened:
    file = File.find(source)
    chosen = format_of(file, format)
    if not chosen.streams:
        file = file.sized(held)
    with reading(file.name, chosen.title):
        opened = chosen.open(file, wanted, held)

    def later() -> dict[str, object]:
        digest = file.sha256()
        return {"sha256": digest} if digest else {}

    batches = file.guarded(opened.batches, chosen.title)
    return replace(opened, batches=batches, later=later)


def _finished(opened: Opened, wanted: Wanted) -> Opened:
    if wanted.biases and not wanted.fold:
        raise InvalidQuery("biases= (--biases) says which to fold: add bias='fold' (--bias fold)")
    opened = replace(opened, sieve=wanted.sieve)
    return folded(opened, wanted.biases) if wanted.fold else opened


def read_attributes(source: object, *, ids: str | None = None) -> pa.Table:
    """Read a table of attributes: its first column is ``id``, the others are as they are.

    Parameters
    ----------
    source : path, URL, Query, frame or Arrow table
    ids : str
        Its id column; by default ``id``, else the first.

    Raises
    ------
    BadInput, NotFound
    """
    if isinstance(source, Query):
        name, table = source.name, read_query(source)
    elif is_file(source):
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
