"""What can be read: the formats of files and the kinds of objects, ours and other packages'.

A package joins by an entry point in the group ``embstore.readers`` that names a `Format` or a
`Model`, or a sequence of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, TypeAlias

import pyarrow as pa

from ..errors import BadInput, InvalidQuery
from .base import Opened, Wanted
from .source import File

GROUP = "embstore.readers"

Opener: TypeAlias = Callable[[File, Wanted, ExitStack], Opened]


@dataclass(frozen=True)
class Needs:
    """What must be installed: packages as they are imported, and the extra that brings them."""

    packages: tuple[str, ...]
    extra: str

    def __str__(self) -> str:
        missing = [each for each in self.packages if find_spec(each) is None]
        how = f" (missing: pip install 'embstore[{self.extra}]')" if missing else ""
        return ", ".join(self.packages) + how


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
        The usual ones, lower case, without a compression's.
    help : str
        One line for the list of formats.
    open : callable
        From the file, what the user said, and a stack that closes what it opens.
    sniff : callable or None
        Tells from the first bytes (4096) and the file whether it is of this format: a cheap and
        safe look.
    weak : bool
        Content that passes ``sniff`` could be other things too, so the ending comes first.
    read : callable or None
        Reads a whole table, for attributes; the second argument names the id column.
    needs : Needs or None
    streams : bool
        ``open`` reads the content from its first byte to its last and does not need its size, so
        that it can come through a pipe.
    """

    name: str
    title: str
    endings: tuple[str, ...]
    help: str
    open: Opener
    sniff: Callable[[bytes, File], bool] | None = None
    weak: bool = False
    read: Callable[[File, str | None], pa.Table] | None = None
    needs: Needs | None = None
    streams: bool = False


@dataclass(frozen=True)
class Model:
    """A kind of object that holds vectors, such as a trained model.

    Attributes
    ----------
    name : str
        What the list of formats calls it.
    title : str
        What messages call it.
    types : tuple of str
        Full names of classes, ``module.Class`` without private modules' names changed; an object
        whose class or base class is one of them is of this kind, the nearest base first.
    help : str
        One line for the list of formats.
    open : callable
        From the object and what the user said.
    needs : Needs or None
    """

    name: str
    title: str
    types: tuple[str, ...]
    help: str
    open: Callable[[Any, Wanted], Opened]
    needs: Needs | None = None


# In the order in which their contents are looked at: what has a magic number first.
_FILES = (
    "npy",
    "torch",
    "keras",
    "npz",
    "parquet",
    "arrow",
    "safetensors",
    "vecs",
    "hdf5",
    "faiss",
    "pickled",
    "libfm",
    "fasttext",
    "word2vec_binary",
    "word2vec",
    "onnx",
    "jsonl",
    "delimited",
    "projector",
)
_OBJECTS: tuple[str, ...] = (
    "sklearn",
    "factorization",
    "torch",
    "gensim",
    "keras",
    "trees",
)


@cache
def _known() -> tuple[tuple[Format, ...], tuple[Model, ...]]:
    """Return all formats and models: ours first, so that no other package changes what they do."""
    found: list[Format | Model] = []
    for each in _FILES:
        found += import_module(f"{__package__}.files.{each}").FORMATS
    for each in _OBJECTS:
        found += import_module(f"{__package__}.objects.{each}").MODELS
    for entry in entry_points(group=GROUP):
        given = entry.load()
        found += [given] if isinstance(given, Format | Model) else given
    names: set[str] = set()
    for reader in found:
        if not isinstance(reader, Format | Model) or reader.name in names:
            raise InvalidQuery(
                f"the entry points of {GROUP} give {reader!r}, which is no Format or Model of its"
                " own name: remove or update the package that brings it"
            )
        names.add(reader.name)
    return (
        tuple(each for each in found if isinstance(each, Format)),
        tuple(each for each in found if isinstance(each, Model)),
    )


def formats() -> tuple[Format, ...]:
    """Return the formats of files."""
    return _known()[0]


def models() -> tuple[Model, ...]:
    """Return the kinds of objects."""
    return _known()[1]


def format_of(file: File, named: str | None) -> Format:
    """Return the format that the user named, else what content or name tells.

    Raises
    ------
    InvalidQuery, BadInput
    """
    if named is None:
        return detect(file)
    found = next((each for each in formats() if each.name == named), None)
    if found is None:
        raise InvalidQuery(f"there is no format {named!r}: use {_names(formats())}")
    return found


def detect(file: File, *, among: Iterable[str] | None = None) -> Format:
    """Tell a file's format by its first bytes, then by its name.

    Parameters
    ----------
    among : names of formats, or None
        What it may be.

    Raises
    ------
    BadInput
        When neither tells.
    """
    able = [each for each in formats() if among is None or each.name in among]
    head = file.head()
    looks = [each for each in able if each.sniff is not None and each.sniff(head, file)]
    named = [each for each in able if file.ending in each.endings]
    for found in [each for each in looks if not each.weak], named, looks:
        if found:
            return found[0]
    raise BadInput(
        f"{file.name}: neither its content nor its name says what it is; say with --format, one of"
        f" {_names(able)}",
        source=file.name,
    )


def model_of(source: object) -> Model | None:
    """Return the kind of an object: the nearest of its classes that is known."""
    for each in _classes(source):
        for model in models():
            if each in model.types:
                return model
    return None


def _classes(source: object) -> Iterator[str]:
    for each in type(source).__mro__:
        yield f"{each.__module__}.{each.__qualname__}"


def _names(able: Iterable[Format]) -> str:
    return ", ".join(each.name for each in able)
