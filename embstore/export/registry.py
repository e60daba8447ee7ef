"""What can be written: the formats of files, called as their readers are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from ..catalog import VersionRow
from ..connection import Connection
from ..errors import InvalidQuery
from .rows import Rows

Writer: TypeAlias = Callable[[Sequence[Path], Rows], None]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes
    ----------
    name : str
        What ``--format`` takes; the reader of that name reads it.
    endings : tuple of str
        The usual ones, lower case.
    help : str
        One line: what goes in.
    write : callable
        Fills the files, of which the first holds the vectors, with the rows.
    attributes : bool
        Attributes go in too.
    beside : callable
        From the version, the ending of a second file that holds its ids: ``.ids.npy``; None where
        they are in the first.
    check : callable
        Refuses, before anything is written, a version that the format cannot hold.
    """

    name: str
    endings: tuple[str, ...]
    help: str
    write: Writer
    attributes: bool = False
    beside: Callable[[VersionRow], str | None] = lambda _: None
    check: Callable[[Connection, VersionRow], None] = lambda *_: None


_FILES = (
    "parquet",
    "arrow",
    "npy",
    "word2vec",
    "word2vec_binary",
    "safetensors",
    "projector",
)


@cache
def formats() -> tuple[Format, ...]:
    """Return the formats."""
    return tuple(
        each for name in _FILES for each in import_module(f"{__package__}.files.{name}").FORMATS
    )


def format_of(path: str | os.PathLike[str], named: str | None) -> Format:
    """Return the format that is named, else what the file's ending tells.

    Raises
    ------
    InvalidQuery
    """
    names = ", ".join(each.name for each in formats())
    if named is not None:
        found = next((each for each in formats() if each.name == named), None)
        if found is None:
            raise InvalidQuery(f"there is no format {named!r} to export to: use {names}")
        return found
    ending = Path(path).suffix.lower()
    found = next((each for each in formats() if ending in each.endings), None)
    if found is None:
        raise InvalidQuery(
            f"{os.fspath(path)}: its ending does not say what to write; say with format="
            f" (--format), one of {names}"
        )
    return found
