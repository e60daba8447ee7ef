"""The weighted mean of what is known about a new item: its authors, its tags, its shop.

J. Wang, P. Huang, H. Zhao, Z. Zhang, B. Zhao and D. L. Lee, "Billion-scale Commodity Embedding for
E-commerce Recommendation in Alibaba", KDD 2018, sections 2.4 (EGES) and 3.4 (cold start items).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import InvalidQuery
from ..types import Origin
from .made import Made, beside, column_of, empty

if TYPE_CHECKING:
    from ..version import Version


def side_information(
    version: Version,
    new: pa.Table,
    *,
    tables: Mapping[str, str],
    weights: Mapping[str, float] | None = None,
    force: bool = False,
) -> Made:
    """Give each new row the weighted mean of the vectors of its side information.

    ``H = sum_j exp(a_j) W_j / sum_j exp(a_j)``, where ``W_j`` is the vector of its j-th side
    information, over those that the row has and the tables know.

    Parameters
    ----------
    version : Version
    new : pyarrow.Table
        n new rows.
    tables : mapping of column to reference
        Which table holds the vectors of a column's values: ``{"author": "authors", "tags":
        "tags@3"}``. A column of lists counts as the mean of those of its values that are there.
    weights : mapping of column to float
        The ``a_j`` as they were trained; equal where it is not said.
    force : bool
        Use tables of which nothing says that they are of the version's training.

    Returns
    -------
    Made
        ``vectors`` (n, dim); a row of which no table knows anything has none.

    Raises
    ------
    InvalidQuery, BadInput, NotFound, DimensionMismatch, SpaceMismatch

    Notes
    -----
    The method of J. Wang et al., KDD 2018, sections 2.4 and 3.4.
    """
    weights = dict(weights or {})
    if not tables:
        raise InvalidQuery("side_information of no table: say tables={'author': 'authors'}")
    if unknown := [name for name in weights if name not in tables]:
        raise InvalidQuery(f"weights: {unknown[0]!r} is no column of tables={dict(tables)}")
    vectors = empty(version, len(new))
    sums, total = np.zeros_like(vectors), np.zeros(len(new))
    notes: tuple[str, ...] = ()
    # Of large weights only the difference counts, and exp of it does not overflow.
    largest = max(weights.get(name, 0.0) for name in tables)
    for name, ref in tables.items():
        other, told = beside(version, ref, force)
        notes += told
        mean, found = _mean(other, column_of(new, name, version.ref))
        weight = float(np.exp(weights.get(name, 0.0) - largest))
        sums[found] += weight * mean[found]
        total[found] += weight
    made = total > 0
    vectors[made] = sums[made] / total[made, None]
    return Made(vectors, Origin.SIDE_INFORMATION, notes=notes)


def _mean(other: Version, values: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean of each row's values (n, dim), and which rows have one."""
    from scipy.sparse import csr_array

    kinds = pa.types
    if kinds.is_list(values.type) or kinds.is_large_list(values.type):
        lengths = pc.list_value_length(values).fill_null(0).to_numpy()
        flat = values.flatten()
    else:
        lengths, flat = np.ones(len(values), np.int64), values
    rows = np.repeat(np.arange(len(values)), lengths)
    there = pc.is_valid(flat).to_numpy(zero_copy_only=False)
    encoded = flat.filter(pa.array(there)).dictionary_encode()
    features = other.lookup(encoded.dictionary, missing="zero")
    places = np.asarray(encoded.indices)
    known = features.found[places]
    shape = (len(values), len(features))
    each = csr_array((np.ones(known.sum()), (rows[there][known], places[known])), shape)
    counts = np.asarray(each.sum(axis=1)).ravel()
    mean = each @ features.vectors.astype(np.float64) / np.maximum(counts, 1)[:, None]
    return mean, counts > 0
