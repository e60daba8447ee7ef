"""Who took to what: pairs of user and item, grouped by user."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .errors import BadInput, InvalidQuery
from .query.target import Target, check_ids
from .readers import read_attributes
from .types import IdType


class Interactions:
    """Pairs of user and item, held in memory: 8 bytes a pair where ids are numbers.

    Attributes
    ----------
    users : Arrow array (n,)
        Each user once.
    items : Arrow array (pairs,)
        Those of the first user, of the second, ...
    starts : array (n + 1,), int64
        Where each user's items begin.
    """

    def __init__(self, users: pa.Array, items: pa.Array) -> None:
        self.users = users.unique()
        codes = pc.index_in(users, value_set=self.users).to_numpy()
        order = np.argsort(codes, kind="stable")
        self.items = items.take(order)
        self.starts = np.searchsorted(codes[order], np.arange(len(self.users) + 1))

    @classmethod
    def read(cls, source: object, name: str, users: Target | None, items: Target) -> Interactions:
        """Read the columns ``user_id`` and ``item_id``, else the first two.

        Parameters
        ----------
        source : path, frame, Arrow table, Query, ...
        name : str
            What a message calls it.
        users, items : Target
            Whose ids they are; without ``users``, numbers or texts.

        Raises
        ------
        BadInput, NotFound
        """
        table = read_attributes(source)
        asked = []
        for column, target in zip(pair(table, name), (users, items), strict=True):
            try:
                ids = table.column(column)
                asked.append(check_ids(ids, target or _as_it_is(ids, items)))
            except InvalidQuery as error:
                raise BadInput(f"{name}: {error}", column=column) from error
        return cls(*asked)

    def __len__(self) -> int:
        return len(self.items)

    def distinct(self, less: Interactions | None = None) -> Interactions:
        """Return each pair once, those of ``less`` left out."""
        items = self.items.unique()
        own = np.unique(self._keys(self.users, items))
        if less is not None:
            own = own[~np.isin(own, less._keys(self.users, items))]
        return Interactions(
            self.users.take(pa.array(own // len(items))), items.take(pa.array(own % len(items)))
        )

    def _keys(self, users: pa.Array, items: pa.Array) -> NDArray[np.int64]:
        """Return a number for each pair of these users and items, the others left out."""
        user = pc.index_in(self.users, value_set=users).fill_null(-1).to_numpy()
        user = np.repeat(user, np.diff(self.starts)).astype(np.int64)
        item = pc.index_in(self.items, value_set=items).fill_null(-1).to_numpy()
        known = (user >= 0) & (item >= 0)
        return np.asarray(user[known] * len(items) + item[known])

    def _places(self, ids: pa.Array) -> tuple[NDArray[Any], NDArray[Any]]:
        codes = pc.index_in(ids, value_set=self.users).fill_null(-1).to_numpy()
        starts = np.where(codes < 0, 0, self.starts[codes])
        return starts, np.where(codes < 0, 0, self.starts[codes + 1] - starts)

    def lengths(self, ids: pa.Array) -> NDArray[Any]:
        """How many pairs each user has."""
        return self._places(ids)[1]

    def lists(self, ids: pa.Array) -> pa.ListArray:
        """Return the items of each user, as a list array."""
        starts, lengths = self._places(ids)
        ends = np.cumsum(lengths)
        taken = np.arange(ends[-1] if len(ends) else 0)
        taken += np.repeat(starts - ends + lengths, lengths)
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return pa.ListArray.from_arrays(offsets, self.items.take(taken))


def pair(table: pa.Table, name: str) -> tuple[str, str]:
    """Return the columns of users and of items in a table of ``read_attributes``.

    Raises
    ------
    BadInput
    """
    names = table.schema.names
    if len(names) < 2:
        raise BadInput(f"{name} has one column: it needs user_id and item_id")
    # The first column is called id by now, whatever it was.
    user = "user_id" if "user_id" in names else names[0]
    return user, "item_id" if "item_id" in names else names[user == names[0]]


def _as_it_is(ids: pa.ChunkedArray, items: Target) -> Target:
    """Return what takes users that no version holds: numbers, or texts."""
    kind = IdType.BIGINT if pa.types.is_integer(ids.type) else IdType.TEXT
    return Target("user_id", "", kind, items.metric, items.precision)
