"""A replica's attributes: Arrow columns, mapped; values for a caller, and filters over them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..query.lookup import as_objects
from ..query.where import Condition
from ..types import Attribute

_COMPARE = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
# Filters that are remembered: services ask the same few again and again.
_REMEMBERED = 16


class Attributes:
    """The columns of a replica.

    Parameters
    ----------
    table : pyarrow.Table
        The attributes, with one row per vector; ``id`` is among the columns.
    attributes
        Their SQL types.
    """

    def __init__(self, table: pa.Table, attributes: Sequence[Attribute]) -> None:
        self._table = table
        self._json = {each.name for each in attributes if each.type == "jsonb"}
        self._masks: dict[tuple[Condition, ...], NDArray[np.bool_]] = {}

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column as it is stored."""
        return self._table.column(name)

    def at(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.object_]:
        """Return the values of a column at rows, as psycopg would give them; row -1 has None."""
        places = pa.array(rows.ravel(), mask=rows.ravel() < 0)
        values = self._table.column(name).take(places).to_pylist()
        if name in self._json:
            values = [each if each is None else json.loads(each) for each in values]
        return as_objects(values).reshape(rows.shape)

    def mask(self, conditions: tuple[Condition, ...]) -> NDArray[np.bool_]:
        """Return which rows (n,) fulfil all conditions."""
        try:
            found = self._masks.get(conditions)
        except TypeError:  # a list of values has no hash
            return self._mask(conditions)
        if found is None:
            if len(self._masks) >= _REMEMBERED:
                self._masks.clear()
            found = self._masks[conditions] = self._mask(conditions)
        return found

    def _mask(self, conditions: tuple[Condition, ...]) -> NDArray[np.bool_]:
        found = np.ones(len(self._table), np.bool_)
        for each in conditions:
            kept = _fulfilled(self._table.column(each.column), each)
            found &= kept.fill_null(False).to_numpy()
        return found


def _fulfilled(column: pa.ChunkedArray, condition: Condition) -> pa.ChunkedArray:
    """Return whether each value fulfils a condition, by SQL's rules; null is no."""
    value, op = condition.value, condition.op
    if value is None:
        return pc.is_valid(column) if op == "!=" else pc.is_null(column)
    if op == "in":
        return pc.is_in(column, value_set=value)
    if op == "not in":
        return pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=value)))
    kept = _COMPARE[op](column, pa.scalar(value))
    if pa.types.is_floating(column.type) and op.startswith(">"):
        kept = pc.or_(kept, pc.is_nan(column))  # which Postgres holds above all numbers
    return kept
