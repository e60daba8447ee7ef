"""Query vectors and settings of a search, checked before they are sent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import DimensionMismatch, InvalidQuery
from ..load.checks import MAX_NORM, MIN_NORM
from ..types import Index, Metric, Vectors
from .target import Target


def check_queries(queries: object, target: Target) -> Vectors:
    """Return the queries as float32 (q, dim); a single vector (dim,) is one query.

    Raises
    ------
    DimensionMismatch, InvalidQuery
        NaN or infinity; under cosine also a norm that has no direction. Bits other than 0 and 1;
        under jaccard also bits that are all 0.
    """
    try:
        with np.errstate(over="ignore"):
            vectors = np.atleast_2d(np.asarray(queries, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InvalidQuery(f"the queries are not an array of numbers: {error}") from error
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise InvalidQuery(f"the queries have shape {vectors.shape}: it must be (q, dim) or (dim,)")
    check_dim(vectors.shape[1], target)
    finite = np.isfinite(vectors)
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise InvalidQuery(f"query {row + 1} holds NaN or infinity")
    if target.metric.of_bits:
        _check_bits(vectors, target)
    if target.metric is Metric.COSINE:
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        bad = np.flatnonzero(~((norms >= MIN_NORM) & (norms <= MAX_NORM)))
        if len(bad):
            raise InvalidQuery(
                f"query {bad[0] + 1} has norm {norms[bad[0]]:g}: it has no direction to compare by"
                " cosine"
            )
    return vectors


def check_dim(dim: int, target: Target) -> None:
    """Refuse queries of another dim than the version's, where that is known.

    Raises
    ------
    DimensionMismatch
    """
    if target.dim not in {None, dim}:
        raise DimensionMismatch(f"{target.ref} has {target.dim} dimensions, the queries have {dim}")


def _check_bits(vectors: Vectors, target: Target) -> None:
    bad = np.flatnonzero(((vectors != 0) & (vectors != 1)).any(axis=1))
    if len(bad):
        raise InvalidQuery(
            f"query {bad[0] + 1} holds other values than 0 and 1, and {target.ref} holds bits"
        )
    empty = np.flatnonzero(~vectors.any(axis=1))
    if len(empty) and target.metric is Metric.JACCARD:
        raise InvalidQuery(
            f"query {empty[0] + 1} is all 0: it has nothing in common to compare by jaccard"
        )


# Squared norms that are finite and have a direction, with room for rounding.
_ORDINARY = (1e-30, 1e30)


def ordinary(queries: object, target: Target) -> Vectors | None:
    """Return the one query that is seen to be good by one product, as the hot path's are."""
    if not (isinstance(queries, np.ndarray) and queries.dtype == np.float32) or (
        target.metric.of_bits
    ):
        return None
    single = queries[0] if queries.ndim == 2 and len(queries) == 1 else queries
    if single.ndim != 1 or target.dim not in {None, len(single)}:
        return None
    return single if _ORDINARY[0] < float(single @ single) < _ORDINARY[1] else None


def check_search(asked: Mapping[str, int], index: Index | None, target: Target) -> None:
    """Refuse settings that the index of a version does not have.

    Raises
    ------
    InvalidQuery
    """
    for name, value in asked.items():
        if index is not None and name not in index.search:
            raise InvalidQuery(
                f"search={{{name!r}: ...}}: the {index.kind} index of {target.ref} takes"
                f" {', '.join(index.search)}"
            )
        if not isinstance(value, int) or value < 1:
            raise InvalidQuery(f"search={{{name!r}: {value!r}}}: a positive whole number is needed")
