"""The formats of files, and what tells them apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from ..errors import BadInput
from . import arrow, npy
from .arrow import open_arrow, read_arrow
from .base import Opened, Wanted
from .delimited import open_delimited, read_delimited
from .jsonl import open_jsonl, read_jsonl
from .npy import open_npy
from .npz import open_npz
from .parquet import open_parquet, read_parquet
from .source import File
from .word2vec import header, is_binary, open_word2vec
from .word2vec_binary import open_word2vec_binary

Opener: TypeAlias = Callable[[File, Wanted, ExitStack], Opened]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes
    ----------
    name : str
        What ``--format`` takes.
    title : str
        What messages call it.
    endings : tuple of str
        The usual ones.
    help : str
        One line for the docs.
    open : callable
        From the file, what the user said, and a stack that closes what it opens.
    read : callable or None
        Reads a whole table, for attributes; the second argument names the id column.
    """

    name: str
    title: str
    endings: tuple[str, ...]
    help: str
    open: Opener
    read: Callable[[File, str | None], pa.Table] | None = None


FORMATS = {
    each.name: each
    for each in (
        Format("npy", "a .npy array", (".npy",), "one numpy array; ids from --ids", open_npy),
        Format("npz", "a .npz file", (".npz",), "numpy arrays: vectors, ids, biases", open_npz),
        Format(
            "parquet",
            "Parquet",
            (".parquet", ".pq"),
            "Parquet",
            open_parquet,
            lambda file, _: read_parquet(file),
        ),
        Format(
            "arrow",
            "Arrow",
            (".arrow", ".feather", ".arrows"),
            "Arrow IPC file or stream, Feather",
            open_arrow,
            lambda file, _: read_arrow(file),
        ),
        Format(
            "csv",
            "CSV",
            (".csv", ".tsv", ".tab"),
            "CSV or TSV with a header line",
            open_delimited,
            read_delimited,
        ),
        Format(
            "jsonl",
            "JSON lines",
            (".jsonl", ".ndjson", ".json"),
            "JSON objects, one a line",
            open_jsonl,
            lambda file, _: read_jsonl(file),
        ),
        Format(
            "word2vec",
            "word2vec text",
            (".vec", ".txt", ".w2v"),
            "word2vec text, GloVe",
            open_word2vec,
        ),
        Format(
            "word2vec-binary",
            "word2vec binary",
            (".bin",),
            "word2vec binary",
            open_word2vec_binary,
        ),
    )
}


def formats() -> list[Format]:
    """Return the formats, for the docs and the choices of ``--format``."""
    return list(FORMATS.values())


_MAGIC = (
    (npy.MAGIC, "npy"),
    (b"PK\x03\x04", "npz"),
    (b"PK\x05\x06", "npz"),
    (b"PAR1", "parquet"),
    (arrow.MAGIC, "arrow"),
    (arrow.STREAM_MAGIC, "arrow"),
)
_REFUSED = (
    (re.compile(rb"\x80[\x02-\x05]"), "a pickle, which can run any code when it is read"),
    (re.compile(rb"\x89HDF"), "HDF5"),
)


def detect(file: File, text_default: str | None = None) -> str:
    """Tell a file's format by its first bytes, then by its name.

    Parameters
    ----------
    text_default : str or None
        What any other text is, unless its name says that it is a table.

    Raises
    ------
    BadInput
        When neither tells.
    """
    head = file.head()
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    for pattern, what in _REFUSED:
        if pattern.match(head):
            raise BadInput(
                f"{file.name} is {what}, and is not read: save the vectors with numpy.savez or as"
                " Parquet",
                source=file.name,
            )
    by_name = next((each.name for each in formats() if file.ending in each.endings), None)
    if text_default and by_name not in {"csv", "jsonl"}:
        return text_default
    if header(head):
        return "word2vec-binary" if is_binary(head) else "word2vec"
    if re.match(rb"(\xef\xbb\xbf)?\s*\{", head):
        return "jsonl"
    if by_name:
        return by_name
    if re.match(rb"[^\n\x00]*[,\t][^\n\x00]*\n", head):
        return "csv"
    raise BadInput(
        f"{file.name}: neither its content nor its name says what it is; say with --format, one of"
        f" {', '.join(FORMATS)}",
        source=file.name,
    )
