"""What a fitted PCA or SVD makes of new rows.

Folding-in, as of documents into a latent semantic space: M. W. Berry, S. T. Dumais and G. W.
O'Brien, "Using Linear Algebra for Intelligent Information Retrieval", SIAM Review 37 (1995), 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..compare.rotation import rotate
from ..errors import BadInput, DimensionMismatch, InvalidQuery
from ..types import Origin
from .made import Made, column_of, empty

if TYPE_CHECKING:
    from ..version import Version


def transform(version: Version, new: pa.Table, *, model: Any, X: Any) -> Made:
    """Give each new row what ``model.transform`` makes of its features.

    Parameters
    ----------
    version : Version
        Of vectors that are ``model.transform`` of the rows that it was fitted on, or of others.
    new : pyarrow.Table
        n new rows.
    model : fitted estimator
        A ``PCA``, ``TruncatedSVD``, ``NMF`` or pipeline of scikit-learn; whatever has
        ``transform``.
    X : array or sparse matrix (n, features), frame, or sequence of str
        The new rows' features, in their order; or the names of the columns that are.

    Returns
    -------
    Made
        ``vectors`` (n, dim), of origin ``fold_in``; a row whose features hold NaN has none.

    Raises
    ------
    InvalidQuery, BadInput, DimensionMismatch

    Notes
    -----
    The folding-in of M. W. Berry et al., SIAM Review 37 (1995), section 3.3.
    """
    vectors = empty(version, len(new))
    name = type(model).__name__
    if not hasattr(model, "transform"):
        raise InvalidQuery(f"model={name} cannot transform: give a fitted PCA, SVD or pipeline")
    if isinstance(X, Sequence) and all(isinstance(each, str) for each in X):
        columns = [column_of(new, each, version.ref) for each in X]
        X = np.column_stack([each.to_numpy(zero_copy_only=False) for each in columns])
    rows = X.shape[0] if hasattr(X, "shape") else len(X)
    if rows != len(new):
        raise BadInput(f"X has {rows} rows, and there are {len(new)} new ones: one for each")
    there = np.ones(rows, np.bool_)
    if isinstance(X, np.ndarray) and X.dtype.kind == "f":
        there = np.asarray(~np.isnan(X).any(axis=1))
        X = X[there]
    if there.any():
        found = model.transform(X)
        found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
        if found.shape[1:] != (version.dim,):
            raise DimensionMismatch(
                f"{name}.transform gives {found.shape[1:]} values a row, and {version.ref} has"
                f" {version.dim} dimensions"
            )
        # The model knows nothing of the axes that the version was brought to.
        rotation = version.rotation()
        vectors[there] = found if rotation is None else rotate(found, rotation)
    return Made(vectors, Origin.FOLD_IN)
