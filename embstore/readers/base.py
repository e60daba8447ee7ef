"""What every reader gives: a described stream of Arrow record batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from ..types import IdType

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
    """

    ids: object = None
    vectors: str | None = None
    id_type: IdType | None = None


@dataclass(frozen=True)
class Opened:
    """An opened source.

    Attributes
    ----------
    name : str
        The source as the user named it; every message about it starts with this.
    schema : pyarrow.Schema
        ``id`` (int64 or string), ``embedding`` (fixed_size_list of float16, float32 or float64),
        then the attributes. Every batch has exactly this schema.
    batches : iterator of pyarrow.RecordBatch
        In the source's order. Raises BadInput when the source turns out damaged on the way.
    rows : int or None
        The number of rows where the source declares it.
    unit, first : str, int
        How a person finds row i (from 0) of the source: "{unit} {first + i}".
    provenance : mapping
        What the reader can tell about the source (format, size, ...); JSON types only.
    """

    name: str
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    rows: int | None = None
    unit: str = "row"
    first: int = 1
    provenance: Mapping[str, object] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Components of each vector."""
        return int(self.schema.field(EMBEDDING).type.list_size)
