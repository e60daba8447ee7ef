"""Readers: whatever holds vectors, as a described stream of Arrow record batches.

One module per format behind one interface, `base.Opened`. What a file is, its content tells
before its name; ``format=`` overrides both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..errors import BadInput, InvalidQuery
from ..types import IdType
from .arrow import MAGIC as ARROW
from .arrow import open_arrow, read_arrow
from .base import EMBEDDING, ID, Opened
from .columns import check_id_type
from .delimited import open_delimited, read_delimited
from .idfile import id_array
from .jsonl import open_jsonl, read_jsonl
from .npy import MAGIC as NPY
from .npy import open_npy, read_matrix
from .npz import open_npz
from .objects import open_object, to_table
from .parquet import open_parquet, read_parquet
from .source import File
from .word2vec import header, is_binary, open_word2vec_binary, open_word2vec_text


@dataclass(frozen=True)
class Format:
    """A file format: its name, its usual endings, how to open it, and a line of help."""

    name: str
    endings: tuple[str, ...]
    open: Callable[..., Any]
    help: str


FORMATS = {
    each.name: each
    for each in (
        Format("npy", (".npy",), open_npy, "one numpy array; ids from --ids"),
        Format("npz", (".npz",), open_npz, "several numpy arrays: vectors, ids, biases"),
        Format("parquet", (".parquet", ".pq"), open_parquet, "Parquet"),
        Format("arrow", (".arrow", ".feather", ".arrows"), open_arrow, "Arrow IPC, Feather"),
        Format("csv", (".csv", ".tsv", ".tab"), open_delimited, "CSV or TSV with a header line"),
        Format("jsonl", (".jsonl", ".ndjson", ".json"), open_jsonl, "JSON objects, one a line"),
        Format("word2vec", (".vec", ".txt", ".w2v"), open_word2vec_text, "word2vec text, GloVe"),
        Format("word2vec-binary", (".bin",), open_word2vec_binary, "word2vec binary"),
    )
}


def open_source(
    source: object,
    *,
    ids: object = None,
    vectors: str | None = None,
    format: str | None = None,
    id_type: IdType | None = None,
) -> Any:
    """Open a path or an object as a context manager that gives an `Opened`.

    Parameters
    ----------
    source : path, array, frame, Arrow table or stream, or mapping
    ids : array, path or str
        The ids, a file of them, or the name of the column or array inside that holds them.
    vectors : str
        The column or array that holds the vectors; by default the only one that can.
    format : str
        One of `FORMATS`.
    id_type : IdType
        What the ids will become, where a text file leaves the choice.

    Raises
    ------
    BadInput, NotFound, InvalidQuery
    """
    if not isinstance(source, str | os.PathLike):
        return open_object(source, ids, vectors)
    return _open_file(File.find(source), ids, vectors, format, id_type)


@contextmanager
def _open_file(
    file: File, ids: object, vectors: str | None, format: str | None, id_type: IdType | None
) -> Iterator[Opened]:
    name = format or detect(file)
    if name not in FORMATS:
        raise InvalidQuery(f"there is no format {name!r}: use {', '.join(FORMATS)}")
    more = {"id_type": id_type} if name == "csv" else {}
    with FORMATS[name].open(file, ids, vectors, **more) as opened:
        yield opened
        file.check_unchanged()


def detect(file: File, text_default: str | None = None) -> str:
    """Tell a file's format by its first bytes, then by its name.

    Raises
    ------
    BadInput
        When neither tells.
    """
    head = file.head()
    for magic, name in ((NPY, "npy"), (b"PK\x03\x04", "npz"), (b"PAR1", "parquet"), (ARROW, "arrow")):
        if head.startswith(magic):
            return name
    if head.startswith(b"\xff\xff\xff\xff"):  # a stream's first message
        return "arrow"
    if header(head):
        return "word2vec-binary" if is_binary(head) else "word2vec"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
        return "jsonl"
    if head.startswith((b"\x80", b"(")) and file.ending in {".pkl", ".pickle", ".joblib"}:
        raise BadInput(
            f"{file.name} is a pickle, which can run any code when it is read, and is not: save the"
            " vectors with numpy.savez or as Parquet",
            source=file.name,
        )
    if text_default and file.ending not in {".csv", ".tsv"}:
        return text_default
    for each in FORMATS.values():
        if file.ending in each.endings:
            return each.name
    first = head.split(b"\n")[0]
    if re.search(rb"[,\t]", first) and head.isascii():
        return "csv"
    raise BadInput(
        f"{file.name}: neither its content nor its name says what it is; say with --format,"
        f" one of {', '.join(FORMATS)}",
        source=file.name,
    )


_TABLES: dict[str, Callable[..., pa.Table]] = {
    "parquet": read_parquet,
    "arrow": read_arrow,
    "csv": read_delimited,
    "jsonl": read_jsonl,
}


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
        name, format = file.name, detect(file)
        if format not in _TABLES:
            raise BadInput(
                f"{name} is {format}, no table: attributes come from {', '.join(_TABLES)}",
                source=name,
            )
        table = read_delimited(file, ids) if format == "csv" else _TABLES[format](file)
        file.check_unchanged()
    else:
        name = "attributes"
        table = to_table(source, name)
    names = table.schema.names
    own = ids or (ID if ID in names else names[0] if names else "")
    if own not in names:
        raise BadInput(f"{name} has no column {own!r}: it has {', '.join(names)}", source=name)
    check_id_type(table.schema.field(own).type, name, own)
    keys = id_array(table.column(own), name)
    return table.drop_columns([own]).add_column(0, ID, keys)


def read_queries(path: str) -> tuple[list[Any], Any]:
    """Read query vectors: their keys (row numbers for .npy, else the ids) and a matrix (q, dim)."""
    import numpy as np

    file = File.find(path)
    if detect(file) == "npy":
        matrix = read_matrix(file)
        return list(range(1, len(matrix) + 1)), matrix
    with open_source(path) as opened:
        batches = list(opened.batches)
    keys = [key for batch in batches for key in batch.column(ID).to_pylist()]
    flat = [np.asarray(batch.column(EMBEDDING).flatten()) for batch in batches]
    return keys, np.concatenate(flat).reshape(len(keys), opened.dim)


__all__ = ["FORMATS", "Format", "Opened", "detect", "open_source", "read_attributes", "read_queries"]
