"""The measures of every user of one version, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..interactions import Interactions
from . import measures
from .lists import Lists

Array = NDArray[np.float64]


class Figures:
    """The measures of every user, block by block, and which items were recommended at all."""

    def __init__(self, test: Interactions, seen: Interactions | None, ks: Sequence[int]) -> None:
        self._test, self._ks = test, ks
        self._surprises: tuple[pa.Array, Array] | None = None
        if seen is not None:
            counts = seen.items.value_counts()
            share = counts.field("counts").to_numpy() / len(seen.users)
            self._surprises = counts.field("values"), -np.log2(share)
            self._most = float(np.log2(len(seen.users)))
        self._parts: list[dict[str, Array]] = []
        self._recommended: dict[int, pa.Array] = {}
        self.answered = 0

    def add(self, users: pa.Array, found: Lists) -> None:
        """Measure the lists of some users."""
        self.answered += int(found.answered.sum())
        most = self._ks[-1]
        shape = (len(users), most)
        wanted = self._test.lists(users)
        lengths = self._test.lengths(users)
        values = wanted.flatten().unique()
        place = pc.index_in(found.items, value_set=values).fill_null(-1).to_numpy()
        rows = np.repeat(np.arange(len(users)), most)
        owner = np.repeat(np.arange(len(users)), lengths)
        theirs = owner * len(values) + pc.index_in(wanted.flatten(), value_set=values).to_numpy()
        there = (place >= 0) & found.items.is_valid().to_numpy(zero_copy_only=False)
        hits = (there & np.isin(rows * len(values) + place, theirs)).reshape(shape)
        surprise = np.full(shape, np.nan)
        if self._surprises is not None:
            known, bits = self._surprises
            at = pc.index_in(found.items, value_set=known).fill_null(-1).to_numpy()
            # Who has never been taken is as unexpected as who was taken once.
            value = np.where(at >= 0, bits[at], self._most)
            empty = found.items.is_null().to_numpy(zero_copy_only=False)
            surprise = np.where(empty, np.nan, value).reshape(shape)
        part: dict[str, Array] = {}
        for k in self._ks:
            own = measures.of_users(hits, lengths, surprise, k)
            part |= {f"{name}@{k}": own[name] for name in measures.NAMES}
            first = np.arange(most) < k
            shown = found.items.filter(pa.array(np.tile(first, len(users)))).drop_null()
            before = [self._recommended[k]] if k in self._recommended else []
            self._recommended[k] = pa.concat_arrays([*before, shown]).unique()
        self._parts.append(part)

    def of_users(self) -> dict[str, Array]:
        """Return the measures of every user."""
        return {name: np.concatenate([p[name] for p in self._parts]) for name in self._parts[0]}

    def recommended(self, k: int) -> int:
        """Return how many different items are in the lists."""
        return len(self._recommended[k])
