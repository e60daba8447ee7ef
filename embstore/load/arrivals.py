"""Which row of which source arrived on the server as which; a few numbers per batch."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..readers.sieve import Place


class Arrivals:
    """The rows that were sent, in their order: as runs of rows that follow one another."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[tuple[Place, int]] = []
        self._sent = 0

    def add(self, place: Place, rows: NDArray[Any]) -> None:
        """Note that these rows (from 0) of a source were sent."""
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for at in (0, *breaks.tolist()):
            self._starts.append(self._sent + at)
            self._runs.append((place, int(rows[at])))
        self._sent += len(rows)

    def place(self, arrival: int) -> tuple[Place, int]:
        """Return the source and the row (from 0) of the row that was sent as ``arrival``-th."""
        run = bisect_right(self._starts, arrival) - 1
        place, first = self._runs[run]
        return place, first + arrival - self._starts[run]
