"""What every way of making vectors gives, and what all of them look at first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput, DimensionMismatch, InvalidQuery
from ..spaces import check_together
from ..types import Origin

if TYPE_CHECKING:
    from ..version import Version


@dataclass(frozen=True, eq=False)
class Made:
    """Vectors for new rows.

    Attributes
    ----------
    vectors : array (n, dim), float
        Row i is of the i-th new row; all NaN where there is none.
    origin : Origin
    columns : mapping of attribute to an array (n,)
        What came out beside, such as biases.
    notes : tuple of str
        Sentences for the user: what worked but should be mended.
    """

    vectors: NDArray[Any]
    origin: Origin
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def column_of(new: pa.Table, name: str, ref: str) -> pa.Array:
    """Return a column of the new rows.

    Raises
    ------
    BadInput
        Listing those that there are.
    """
    if name not in new.column_names:
        have = ", ".join(new.column_names)
        raise BadInput(
            f"the new rows for {ref} have no column {name!r}: they have {have}", column=name
        )
    column = new.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def empty(version: Version, rows: int) -> NDArray[np.float64]:
    """Return vectors that are not made yet.

    Raises
    ------
    InvalidQuery
        For bits.
    """
    if version.metric.of_bits:
        raise InvalidQuery(
            f"{version.ref} holds bits, which have no mean: make them by a function of your own"
        )
    return np.full((rows, version.dim), np.nan)


def beside(version: Version, ref: str, force: bool) -> tuple[Version, tuple[str, ...]]:
    """Return the version whose vectors go into those of ``version``, and notes.

    Raises
    ------
    NotFound, DimensionMismatch
    SpaceMismatch
        When it is of another training, and not forced.
    """
    other = version._store[ref]
    if other.dim != version.dim or other.metric.of_bits:
        raise DimensionMismatch(
            f"{other.ref} has {other.dim} dimensions and {version.ref} {version.dim}: their"
            " vectors are not of one space"
        )
    if force:
        return other, ()
    with version._store.reading() as connection:
        note = check_together(connection, version._row, other._row)
    return other, (note,) if note else ()
