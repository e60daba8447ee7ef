"""The samples that a fitted model turns into vectors: matrices, sparse ones, frames and files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import BadInput
from .base import Ids, Wanted, check_count
from .files.npy import read_matrix
from .ids import id_array, outside_ids
from .layout import is_text
from .matrices import need_ids
from .places import shown
from .registry import format_of
from .source import File, reading

# A transformer needs some hundred times a sample's memory at most; so many samples at a time keep
# that small, and are enough for its matrix products.
STEP = 8192


@dataclass(frozen=True)
class Samples:
    """What the model is asked, and the ids of the answers.

    Attributes
    ----------
    name : str
        What messages call it.
    values : array, sparse matrix or frame (n, features)
    ids : Ids
    """

    name: str
    values: Any
    ids: Ids

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def provenance(self) -> dict[str, object]:
        """Return what the catalog keeps of them."""
        return {"samples": self.name, "features": self.values.shape[1]}

    def blocks(self) -> Iterator[Any]:
        """Give the samples in blocks of some thousand rows, of the kind that was given."""
        rows = getattr(self.values, "iloc", self.values)
        for at in range(0, len(self), STEP):
            yield rows[at : at + STEP]


def samples(wanted: Wanted) -> Samples:
    """Return what ``X=`` (``--data``) gives.

    Raises
    ------
    BadInput, NotFound
        When it is no matrix, or there is not one id for each row.
    """
    given: Any = wanted.data
    name, column = "X", wanted.ids
    if isinstance(given, str | os.PathLike):
        given, name = _read(given), shown(given)
    inside = isinstance(column, str) and column in getattr(given, "columns", ())
    keys = id_array(given[column], name) if inside else outside_ids(column, ())
    if inside:
        given = given.drop(columns=[column])
    if not hasattr(given, "shape"):
        given = np.asarray(given)
    if len(given.shape) != 2 or not given.shape[0]:
        raise BadInput(f"{name} has shape {given.shape}: give a matrix, a row per sample")
    if hasattr(given, "tocsr"):
        given = given.tocsr()  # the other sparse forms have no rows to slice
    keys = need_ids(keys, name)
    check_count(name, given.shape[0], keys)
    return Samples(name, given, keys)


def _read(given: str | os.PathLike[str]) -> Any:
    """Read a file of samples: .npy, a scipy sparse .npz, or a table of numbers."""
    file = File.find(given)
    format = format_of(file, None)
    with ExitStack() as held, reading(file.name, "samples"):
        if format.name == "npy":
            return read_matrix(file)
        if format.name == "npz":
            from scipy import sparse

            return sparse.load_npz(file.seekable(held))
        if format.read is not None:
            return _frame(format.read(file, None), file.name)
    raise BadInput(
        f"{file.name} is {format.title}: samples are a .npy matrix, a scipy sparse .npz or a table",
        source=file.name,
    )


def _frame(table: pa.Table, name: str) -> Any:
    for each in table.schema:
        if not (is_text(each.type) or pa.types.is_primitive(each.type)):
            raise BadInput(
                f"{name}: column {each.name!r} has type {each.type} and is no feature",
                source=name,
                column=each.name,
            )
    from ..optional import require

    require("pandas", "pandas")  # which Arrow makes the frame with
    return table.to_pandas()
