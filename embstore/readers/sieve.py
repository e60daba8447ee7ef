"""Bad rows: the first one ends the load, or each is noted and left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput

T = TypeVar("T")

# Where rows may be left out, a last column of the batches says which rows of the source (from 0)
# are there; without it they follow one another.
ROW = "embstore:row"

_ROW_FIELD = pa.field(ROW, pa.int64())


@dataclass(frozen=True)
class Place:
    """How a person finds row i (from 0) of a source: "{unit} {first + i}"."""

    source: str
    unit: str = "row"
    first: int = 1

    def name(self, row: int) -> str:
        """Return what messages call the row: ``items.csv row 7``."""
        return f"{self.source} {self.unit} {self.first + row}"

    def describe(self, row: int, key: Any, problem: str) -> str:
        """Return what is wrong with the row: ``items.csv row 7 (id 12): ...``."""
        shown = "" if key is None else f" (id {key!r})"
        return f"{self.name(row)}{shown}: {problem}"


class BadRows(Exception):
    """Rows of the batch at hand that cannot be loaded.

    Attributes
    ----------
    rows : array, int
        Where they are in the batch, ascending.
    problem : str or callable
        What is wrong with them, or with one of them.
    ids : pyarrow.Array or None
        The ids of the whole batch, as far as they are good.
    column : str
    """

    def __init__(
        self,
        rows: Sequence[int] | NDArray[Any],
        problem: str | Callable[[int], str],
        ids: pa.Array | None,
        column: str,
    ) -> None:
        super().__init__()
        self.rows = np.asarray(rows, dtype=np.int64)
        self.problem, self.ids, self.column = problem, ids, column


class Sieve:
    """What becomes of the bad rows of one source.

    Parameters
    ----------
    note : callable or None
        Takes place, row (from 0), id and problem of a row that is left out; None where the first
        bad row ends the load.

    Attributes
    ----------
    unparsed : int
        How many rows the parser has left out.
    """

    def __init__(self, note: Callable[[Place, int, Any, str], None] | None = None) -> None:
        self.note = note
        self.unparsed = 0

    @property
    def skips(self) -> bool:
        """Whether bad rows are left out."""
        return self.note is not None

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of batches that say which rows they hold, where they must."""
        return schema.append(_ROW_FIELD) if self.skips and ROW not in schema.names else schema

    def numbered(self, batch: pa.RecordBatch, at: int) -> pa.RecordBatch:
        """Let a batch that begins at row ``at`` say which rows it holds, where it must."""
        if not self.skips or ROW in batch.schema.names:
            return batch
        rows = pa.array(np.arange(at, at + batch.num_rows))
        return batch.append_column(_ROW_FIELD, rows)

    def sift(
        self, batch: pa.RecordBatch, place: Place, at: int, convert: Callable[[pa.RecordBatch], T]
    ) -> T:
        """Return what ``convert`` makes of the batch, or of its good rows.

        Parameters
        ----------
        at : int
            The row of the source with which the batch begins, if it does not say so itself.
        convert : callable
            Raises `BadRows`; is then called again without them.

        Raises
        ------
        BadInput
            Naming the first bad row, where none may be left out.
        """
        batch = self.numbered(batch, at)
        while True:
            try:
                return convert(batch)
            except BadRows as bad:
                where = at + bad.rows
                if ROW in batch.schema.names:
                    where = batch.column(ROW).to_numpy()[bad.rows]
                for row, number in zip(bad.rows.tolist(), where.tolist(), strict=True):
                    key = None if bad.ids is None else bad.ids[row].as_py()
                    problem = bad.problem if isinstance(bad.problem, str) else bad.problem(row)
                    self.refuse(place, number, key, problem, bad.column)
                good = np.ones(batch.num_rows, bool)
                good[bad.rows] = False
                batch = batch.filter(pa.array(good))

    def refuse(self, place: Place, row: int, key: Any, problem: str, column: str | None) -> None:
        """Refuse row ``row`` (from 0), or note that it is left out.

        Raises
        ------
        BadInput
        """
        if self.note is not None:
            self.note(place, row, key, problem)
            return
        raise BadInput(
            f"{place.describe(row, key, problem)}; mend or remove the row and load again",
            source=place.source,
            row=place.first + row,
            id=key,
            column=column,
        ) from None


def row_numbers(batch: pa.RecordBatch, at: int) -> NDArray[np.int64]:
    """Return the rows of the source (from 0) that a batch holds, which begins at ``at``."""
    if ROW in batch.schema.names:
        numbers: NDArray[np.int64] = batch.column(ROW).to_numpy()
        return numbers
    return np.arange(at, at + batch.num_rows)


def failing(array: Any, check: Callable[[Any], object]) -> list[int]:
    """Return the rows for which ``check`` raises ArrowInvalid, asking for halves.

    Parameters
    ----------
    array
        Whatever has ``len`` and ``slice``.
    """
    bad: list[int] = []
    waiting = [(0, len(array))]
    while waiting:
        at, count = waiting.pop()
        try:
            check(array.slice(at, count))
        except pa.ArrowInvalid:
            if count == 1:
                bad.append(at)
            else:
                half = count // 2
                waiting += [(at + half, count - half), (at, half)]
    return bad


def passing(array: Any, check: Callable[[Any], object]) -> Any:
    """Return the array without the rows for which ``check`` raises ArrowInvalid."""
    good = np.ones(len(array), bool)
    good[failing(array, check)] = False
    return array.filter(pa.array(good))
