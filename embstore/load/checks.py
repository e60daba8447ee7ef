"""What must hold of every vector before it travels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..readers.sieve import BadRows
from ..types import Metric, Precision, Zero

# pgvector computes a cosine in float32: outside this window the squares of a norm underflow or
# overflow, and a distance comes out as 0 to anything, or NaN.
MIN_NORM, MAX_NORM = 1e-18, 1e18


def to_stored(
    vectors: NDArray[Any], metric: Metric, precision: Precision, ids: pa.Array, zero: Zero
) -> NDArray[Any]:
    """Return the vectors as they will be stored, C-contiguous.

    Parameters
    ----------
    vectors : array (n, dim) of float16, float32 or float64, or uint8 for bits
    ids : pyarrow.Array (n,)
        Which are at fault.

    Returns
    -------
    array (n, dim) of float32 or float16; for bits (n, bytes) of uint8, the first bit the highest

    Raises
    ------
    BadRows
        Of vectors with NaN, infinity, a component that the precision cannot hold, or, under
        cosine, a norm without a usable direction; of bits that are neither 0 nor 1, or, under
        jaccard, all 0.
    """
    if precision is Precision.BIT:
        return _to_bits(vectors, metric, ids)
    stored_type = np.float32 if precision is Precision.FLOAT32 else np.float16
    with np.errstate(over="ignore", invalid="ignore"):  # looked for below
        stored = np.ascontiguousarray(vectors, dtype=stored_type)
    finite = np.isfinite(stored)
    if not finite.all():

        def problem(row: int) -> str:
            component = int(np.argmin(finite[row]))
            value = vectors[row, component]
            if not np.isfinite(value):
                return f"value {component + 1} is {_show(value)}"
            largest = np.finfo(stored_type).max
            return f"value {component + 1} is {value:g}, beyond {precision} ({largest:g})"

        raise BadRows(np.flatnonzero(~finite.all(axis=1)), problem, ids, "embedding")
    if metric is Metric.COSINE:
        _check_norms(stored, ids, zero)
    return stored


def _to_bits(vectors: NDArray[Any], metric: Metric, ids: pa.Array) -> NDArray[np.uint8]:
    ones = vectors != 0
    other = ones & (vectors != 1)
    if other.any():

        def problem(row: int) -> str:
            component = int(np.argmax(other[row]))
            value = vectors[row, component]
            shown = f"{value:g}" if np.isfinite(value) else _show(value)
            return f"value {component + 1} is {shown}, and bits are 0 or 1"

        raise BadRows(np.flatnonzero(other.any(axis=1)), problem, ids, "embedding")
    stored = np.packbits(ones, axis=1)
    if metric is Metric.JACCARD:
        empty = np.flatnonzero(~stored.any(axis=1))
        if len(empty):
            nothing = "all bits are 0, which has nothing in common to compare by jaccard"
            raise BadRows(empty, nothing, ids, "embedding")
    return stored


def _check_norms(stored: NDArray[Any], ids: pa.Array, zero: Zero) -> None:
    single = stored if stored.dtype == np.float32 else stored.astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", single, single)
    suspect = np.flatnonzero(~((squares > MIN_NORM**2 * 4) & (squares < MAX_NORM**2 / 4)))
    if not len(suspect):
        return
    norms = np.linalg.norm(stored[suspect].astype(np.float64), axis=1)
    bad = ~((norms >= MIN_NORM) & (norms <= MAX_NORM))
    if zero is Zero.KEEP:
        bad &= norms != 0
    if bad.any():
        norm_of = dict(zip(suspect.tolist(), norms.tolist(), strict=True))
        raise BadRows(suspect[bad], lambda row: _norm_problem(norm_of[row]), ids, "embedding")


def _norm_problem(norm: float) -> str:
    if norm == 0:
        return "all values are 0, which has no direction to compare by cosine"
    return (
        f"its norm is {norm:g}, outside the {MIN_NORM:g} to {MAX_NORM:g} that cosine can be"
        " computed for; rescale it"
    )


def _show(value: float) -> str:
    return "NaN" if np.isnan(value) else "infinity" if value > 0 else "-infinity"
