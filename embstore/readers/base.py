"""What every reader gives: a described stream of Arrow record batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput
from ..types import IdType
from .sieve import Place, Sieve

ID = "id"
EMBEDDING = "embedding"

# Bytes of one batch: what it becomes on its way to COPY still fits the processor's cache. Measured
# at 300k x 64: 1 MB 0.23 s, 2 MB 0.30 s, 8 MB 0.32 s. The few batches alive at a time stay far
# under the memory bound whatever the dim.
BATCH_BYTES = 1 << 20
MAX_BATCH_ROWS = 65_536


def batch_rows(dim: int) -> int:
    """How many rows of ``dim`` float32 components make one batch."""
    return max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // (4 * max(1, dim))))


@dataclass(frozen=True)
class Wanted:
    """What the user said about a source.

    Attributes
    ----------
    ids : object
        A column's or array's name, the ids themselves, or a path to them.
    vectors : str or None
        The column or array that holds the vectors.
    id_type : IdType or None
        What the ids will become, where a text file leaves the choice.
    biases : str or None
        The column or array of biases to fold, ``"1"`` for ones.
    fold : bool
        Append the biases to the vectors.
    data : object
        What a fitted transformer is to transform: a matrix, a frame, or a path to one.
    allow_pickle : bool
        The user trusts the file with running code.
    bits : bool
        The table holds bits.
    sieve : Sieve
        What becomes of bad rows.
    """

    ids: object = None
    vectors: str | None = None
    id_type: IdType | None = None
    biases: str | None = None
    fold: bool = False
    data: object = None
    allow_pickle: bool = False
    bits: bool = False
    sieve: Sieve = field(default_factory=Sieve)


@dataclass(frozen=True)
class Opened:
    """An opened source.

    Attributes
    ----------
    name : str
        The source as the user named it; every message about it starts with this.
    schema : pyarrow.Schema
        ``id`` (int64 or string), ``embedding`` (fixed_size_list of float16, float32 or float64, or
        of uint8 where the components are known to be bits), then the attributes; where rows may be
        left out, `sieve.ROW` may be among them. Every batch has exactly this schema.
    batches : iterator of pyarrow.RecordBatch
        In the source's order. Raises BadInput when the source turns out damaged on the way.
    rows : int or None
        The number of rows where the source declares it.
    unit, first : str, int
        How a person finds row i (from 0) of the source: "{unit} {first + i}".
    provenance : mapping
        What the reader can tell about the source (format, size, ...); JSON types only.
    trainer : str or None
        What made the vectors, where the source tells: ``gensim.Word2Vec``.
    params, metrics : mapping
        What the source tells of how they were made and how well; JSON types only.
    later : callable
        What takes a look at the whole source, such as its sha256; called when the batches are
        at their end, beside what the server does then.
    biases : str or None
        The attribute that ``bias="fold"`` takes, ``"1"`` for ones; None where the reader cannot
        tell.
    sieve : Sieve
        What becomes of bad rows.
    """

    name: str
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    rows: int | None = None
    unit: str = "row"
    first: int = 1
    provenance: Mapping[str, object] = field(default_factory=dict)
    trainer: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, object] = field(default_factory=dict)
    later: Callable[[], Mapping[str, object]] = dict
    biases: str | None = None
    sieve: Sieve = field(default_factory=Sieve)

    @property
    def place(self) -> Place:
        """How messages name its rows."""
        return Place(self.name, self.unit, self.first)

    @property
    def dim(self) -> int:
        """Components of each vector."""
        return int(self.schema.field(EMBEDDING).type.list_size)


class RowNumbers:
    """The ids 0, 1, 2, ... of however many rows there are."""

    name = "row-number"
    type = pa.int64()

    def slice(self, at: int, count: int) -> pa.Array:
        """Return the ids of ``count`` rows."""
        return pa.array(np.arange(at, at + count))


class Picked:
    """Ids of some rows, as a vocabulary gives them; the rows without an id are left out.

    Attributes
    ----------
    type : pyarrow.DataType
    keys : pyarrow.Array (n,)
    rows : array (n,), int64
        Their numbers from 0, ascending.
    """

    def __init__(self, keys: pa.Array, rows: NDArray[np.int64]) -> None:
        self.type, self.rows = keys.type, rows
        self.keys = keys

    def __len__(self) -> int:
        return len(self.rows)

    def slice(self, at: int, count: int) -> pa.Array:
        """Return the ids of those of the rows ``at`` to ``at + count`` that have one."""
        first, last = np.searchsorted(self.rows, [at, at + count])
        return self.keys.slice(first, last - first)

    def within(self, at: int, count: int) -> NDArray[np.int64]:
        """Return which of the rows ``at`` to ``at + count`` have an id, counted from ``at``."""
        first, last = np.searchsorted(self.rows, [at, at + count])
        return self.rows[first:last] - at


Ids: TypeAlias = "pa.Array | RowNumbers | Picked"


def check_count(name: str, rows: int, ids: Ids) -> None:
    """Refuse another number of ids than there are vectors, and row numbers beyond them.

    Raises
    ------
    BadInput
    """
    if isinstance(ids, Picked):
        if len(ids) and ids.rows[-1] >= rows:
            raise BadInput(
                f"{name} has {rows} rows, and the vocabulary names row {ids.rows[-1]} (from 0): it"
                " belongs to other vectors",
                source=name,
            )
    elif not isinstance(ids, RowNumbers) and len(ids) != rows:
        raise count_mismatch(name, rows, len(ids))


def count_mismatch(name: str, vectors: int, ids: int, more: str = "") -> BadInput:
    """Build the error for ids that do not fit their vectors."""
    return BadInput(
        f"{name}: there are {ids} ids for {more}{vectors} vectors; give one id per vector",
        source=name,
    )
