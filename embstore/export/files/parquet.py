"""Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...types import Precision
from ..registry import Format
from ..rows import Rows
from ..tables import batches, schema

# Of one row group: enough for readers to take large steps, and all of it that is in memory.
_GROUP_BYTES = 32 << 20


def write(paths: Sequence[Path], rows: Rows) -> None:
    """Write row groups of some 32 MB."""
    version, target = rows.version, schema(rows.version)
    plain = [each.name for each in target if each.name != "embedding"]
    # Components hardly repeat, so that looking for it takes time and saves nothing; bits do.
    bits = version.precision is Precision.BIT
    with pq.ParquetWriter(
        paths[0],
        target,
        use_dictionary=bits or plain,
        write_statistics=plain,
        compression="zstd",
    ) as writer:
        for group in _groups(batches(rows)):
            writer.write_table(pa.Table.from_batches(group, target))


def _groups(given: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in given:
        held.append(batch)
        size += batch.nbytes
        if size >= _GROUP_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


FORMATS = (
    Format(
        "parquet",
        (".parquet", ".pq"),
        "columns id, the attributes, embedding (fixed-size list)",
        write,
        attributes=True,
    ),
)
