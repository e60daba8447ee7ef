"""scikit-learn: stored vectors as features of a pipeline."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from copy import copy
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .connection import parse
from .errors import ConnectionFailed, InvalidQuery, NotFound
from .query import frames
from .store import Store, connect
from .types import IdType, Vectors
from .version import Version

MISSING = ("zero", "mean", "nan", "raise")


class EmbeddingFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Replace columns of ids by the vectors of the ids, one after the other.

    ``fit`` notes the version that each reference names at that moment, and ``transform`` reads that
    version for ever: a model goes on getting the features that it was trained on, whatever is
    promoted. To move to what is live, fit again.

    A pickle holds the store's URL, with the password if it has one, and no connection; of the
    embedded server, only that it is that. An unpickled transformer connects when it is used.

    Parameters
    ----------
    store : Store, str or None
        An open store, or the URL of one; None stands for ``embstore.connect()``.
    tables : mapping of column to reference
        Such as ``{"user_id": "users", "item_id": "items@7"}``. A column is a name, or a position
        from 0; where names meet an array, its columns are theirs, in this order.
    missing : {"zero", "mean", "nan", "raise"}
        What an id that is not there, or null, gets: zeros, the mean of all vectors of the version,
        NaN, or an error.

    Attributes
    ----------
    versions_ : dict of column to reference
        What is read, such as ``{"user_id": "users@8", "item_id": "items@7"}``.
    dims_ : dict of column to int
    n_features_in_ : int
    feature_names_in_ : array of str
        Only where ``fit`` saw a frame.

    Examples
    --------
    >>> features = EmbeddingFeatures(store, {"item_id": "items"})  # doctest: +SKIP
    >>> make_pipeline(features, LogisticRegression()).fit(frame[["item_id"]], y)  # doctest: +SKIP
    """

    def __init__(
        self,
        store: Store | str | None = None,
        tables: Mapping[Any, str] | None = None,
        *,
        missing: str = "zero",
    ) -> None:
        self.store = store
        self.tables = tables
        self.missing = missing

    @property
    def store(self) -> Store | str | None:
        """The store, or its URL."""
        return self.__dict__["store"]  # type: ignore[no-any-return]

    @store.setter
    def store(self, store: Store | str | None) -> None:
        # Where scikit-learn prints the parameters, as text or as HTML, no password may appear.
        self.__dict__["store"] = _Url(store) if type(store) is str else store

    def fit(self, X: Any, y: object = None) -> Self:
        """Check the columns, and note the version of each.

        Parameters
        ----------
        X : frame (pandas, polars, pyarrow) or array of shape (n, columns)

        Raises
        ------
        InvalidQuery
            When ``tables`` is empty or names a column that is not there, or ``missing`` is no
            policy.
        NotFound
            When a reference names nothing.
        """
        if not self.tables:
            raise InvalidQuery(
                "tables is empty: name a table for each column, as in"
                " EmbeddingFeatures(store, {'item_id': 'items'})"
            )
        if self.missing not in MISSING:
            raise InvalidQuery(f"missing={self.missing!r} is no policy: use {', '.join(MISSING)}")
        self._columns(X, reset=True)
        versions = _versions(self._connected(), self.tables)
        self.versions_ = {column: each.ref for column, each in versions.items()}
        self.dims_ = {column: each.dim for column, each in versions.items()}
        self._filler = {column: self._fill(each) for column, each in versions.items()}
        return self

    def transform(self, X: Any) -> Vectors:
        """Look up the ids.

        Parameters
        ----------
        X : frame or array, as in ``fit``

        Returns
        -------
        array (n, sum of dims), float32
            A frame under ``set_output``.

        Raises
        ------
        InvalidQuery
            When a column cannot hold ids of its table.
        NotFound
            Under ``missing="raise"``, naming an id; or when a version was dropped.
        """
        check_is_fitted(self)
        columns = self._columns(X, reset=False)
        store = self._connected()
        parts = [
            self._vectors(store[ref], column, columns[column])
            for column, ref in self.versions_.items()
        ]
        return np.concatenate(parts, axis=1)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return names such as ``item_id_0``, one for each component."""
        check_is_fitted(self)
        names = [f"{column}_{place}" for column, dim in self.dims_.items() for place in range(dim)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = tags.input_tags.string = tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []  # what comes in is ids
        return tags

    def __sklearn_clone__(self) -> Self:
        """Share the open store, which scikit-learn would copy."""
        return type(self)(self.store, copy(self.tables), missing=self.missing)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if isinstance(store := self.store, Store):
            state["store"] = None if store.embedded else _Url(store.url)
        return state

    def _connected(self) -> Store:
        if isinstance(self.store, Store):
            return self.store
        return _connected(
            self.store, os.environ.get("EMBSTORE_URL"), os.environ.get("EMBSTORE_HOME")
        )

    def _columns(self, X: Any, *, reset: bool) -> dict[Any, Any]:
        """Take the columns apart; the names and the number of all must be those of the fit."""
        assert self.tables is not None
        frame = hasattr(X, "columns") or hasattr(X, "column_names")
        if frame:
            validate_data(self, X, reset=reset, skip_check_array=True)
            names = list(X.column_names if hasattr(X, "column_names") else X.columns)
        else:
            # None and NaN are ids that are not there; infinity is refused.
            X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")
            names = list(range(X.shape[1]))
            if len(names) == len(self.tables) and not set(names) & set(self.tables):
                names = list(self.tables)
        found = {}
        for column in self.tables:
            at = names.index(column) if column in names else column
            if not (isinstance(at, int) and 0 <= at < len(names)):
                listed = ", ".join(map(repr, names))
                raise InvalidQuery(f"X has no column {column!r}: it has {listed}")
            found[column] = frames.column(X, names[at]) if frame else X[:, at]
        return found

    def _vectors(self, version: Version, column: Any, values: Any) -> Vectors:
        ids = frames.ids(values, version.id_type, version.ref, column)
        # A column names each id many times; the server is asked for it once.
        encoded = ids.dictionary_encode()
        missing = "raise" if self.missing == "raise" else "zero"
        found = version.lookup(encoded.dictionary, missing)
        places = encoded.indices
        if not places.null_count and found.found.all():
            taken: Vectors = found.vectors[places.to_numpy()]
            return taken
        if places.null_count and self.missing == "raise":
            row = places.is_null().to_numpy(zero_copy_only=False).argmax()
            raise NotFound(
                f"column {column!r}, row {row + 1}, has no id: a lookup in {version.ref}"
                " under missing='raise' needs one"
            )
        # One row more, which the nulls point to.
        vectors = np.concatenate([found.vectors.reshape(-1, version.dim), [self._filler[column]]])
        vectors[:-1][~found.found] = self._filler[column]
        filled: Vectors = vectors[places.fill_null(len(vectors) - 1).to_numpy()]
        return filled.astype(np.float32, copy=False)

    def _fill(self, version: Version) -> Vectors:
        """Return what an id that is not there gets, (dim,)."""
        if self.missing != "mean":
            return np.full(version.dim, np.nan if self.missing == "nan" else 0, np.float32)
        nobody = uuid.uuid4()
        key = -(nobody.int >> 65) if version.id_type is IdType.BIGINT else str(nobody)
        mean: Vectors = version.lookup([key], "mean").vectors[0]
        return mean


class _Url(str):
    """A URL that prints without its password."""

    __slots__ = ()

    def __repr__(self) -> str:
        try:
            return f"'{parse(self)}'"
        except ConnectionFailed:
            return "'a URL that cannot be read'"


@cache
def _connected(url: str | None, default: str | None, home: str | None) -> Store:
    """One store for all clones in this process; the last two only tell the defaults apart."""
    return connect(url)


def _versions(store: Store, tables: Mapping[Any, str]) -> dict[Any, Version]:
    """Return the version of each column's table, all as they are at one moment."""
    found = store.features({ref: [] for ref in tables.values()}).versions
    return {
        column: store[f"{ref.partition('@')[0]}@{found[ref]}"] for column, ref in tables.items()
    }
