"""What must hold of every vector before it travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput
from ..types import Metric, Precision

# pgvector computes a cosine in float32: outside this window the squares of a norm underflow or
# overflow, and a distance comes out as 0 to anything, or NaN.
MIN_NORM, MAX_NORM = 1e-18, 1e18


@dataclass(frozen=True)
class Place:
    """How to name a row of the batch at hand in a message."""

    source: str
    unit: str
    first: int
    ids: pa.Array

    def refuse(self, row: int, problem: str) -> BadInput:
        """Build the error for row ``row`` of the batch."""
        number, key = self.first + row, self.ids[row].as_py()
        return BadInput(
            f"{self.source} {self.unit} {number} (id {key!r}): {problem};"
            " mend or remove the row and load again",
            source=self.source,
            row=number,
            id=key,
            column="embedding",
        )


def to_stored(
    vectors: NDArray[Any], metric: Metric, precision: Precision, place: Place
) -> NDArray[Any]:
    """Return the vectors as they will be stored, C-contiguous.

    Parameters
    ----------
    vectors : array (n, dim) of float16, float32 or float64, or uint8 for bits

    Returns
    -------
    array (n, dim) of float32 or float16; for bits (n, bytes) of uint8, the first bit the highest

    Raises
    ------
    BadInput
        Naming the first row with NaN, infinity, a component that the precision cannot hold, or,
        under cosine, a norm without a usable direction; bits that are neither 0 nor 1, or under
        jaccard all 0.
    """
    if precision is Precision.BIT:
        return _to_bits(vectors, metric, place)
    stored_type = np.float32 if precision is Precision.FLOAT32 else np.float16
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(vectors, dtype=stored_type)
    finite = np.isfinite(stored)
    if not finite.all():
        row, component = (int(each) for each in np.argwhere(~finite)[0])
        value = vectors[row, component]
        if np.isfinite(value):
            largest = np.finfo(stored_type).max
            problem = f"value {component + 1} is {value:g}, beyond {precision} ({largest:g})"
        else:
            problem = f"value {component + 1} is {_show(value)}"
        raise place.refuse(row, problem)
    if metric is Metric.COSINE:
        _check_norms(stored, place)
    return stored


def _to_bits(vectors: NDArray[Any], metric: Metric, place: Place) -> NDArray[np.uint8]:
    ones = vectors != 0
    other = ones & (vectors != 1)
    if other.any():
        row, component = (int(each) for each in np.argwhere(other)[0])
        value = vectors[row, component]
        shown = f"{value:g}" if np.isfinite(value) else _show(value)
        raise place.refuse(row, f"value {component + 1} is {shown}, and bits are 0 or 1")
    stored = np.packbits(ones, axis=1)
    if metric is Metric.JACCARD:
        empty = np.flatnonzero(~stored.any(axis=1))
        if len(empty):
            raise place.refuse(
                int(empty[0]), "all bits are 0, which has nothing in common to compare by jaccard"
            )
    return stored


def _check_norms(stored: NDArray[Any], place: Place) -> None:
    single = stored if stored.dtype == np.float32 else stored.astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", single, single)
    suspect = np.flatnonzero(~((squares > MIN_NORM**2 * 4) & (squares < MAX_NORM**2 / 4)))
    for row in suspect:
        norm = float(np.linalg.norm(stored[row].astype(np.float64)))
        if norm == 0:
            raise place.refuse(
                int(row), "all values are 0, which has no direction to compare by cosine"
            )
        if not MIN_NORM <= norm <= MAX_NORM:
            raise place.refuse(
                int(row),
                f"its norm is {norm:g}, outside the {MIN_NORM:g} to {MAX_NORM:g} that cosine can"
                " be computed for; rescale it",
            )


def _show(value: float) -> str:
    return "NaN" if np.isnan(value) else "infinity" if value > 0 else "-infinity"
