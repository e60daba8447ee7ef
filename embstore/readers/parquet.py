"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from .base import MAX_BATCH_ROWS, Opened, batch_rows
from .columns import is_vector
from .source import CHUNK, File
from .tables import opened_table


@contextmanager
def open_parquet(file: File, ids: object, vectors: str | None) -> Iterator[Opened]:
    """Open a Parquet file; columns are read through a buffer, never a whole row group."""
    with file.reading("Parquet"), file.seekable() as raw, _parquet(raw) as parquet:
        schema = parquet.schema_arrow

        def batches() -> Iterator[pa.RecordBatch]:
            with file.reading("Parquet"):
                yield from parquet.iter_batches(_rows(parquet), use_threads=False)

        yield opened_table(
            file.name,
            schema,
            batches(),
            ids,
            vectors,
            rows=parquet.metadata.num_rows,
            provenance=file.provenance("parquet"),
        )


def read_parquet(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with file.reading("Parquet"), file.seekable() as raw, _parquet(raw) as parquet:
        return parquet.read()


def _parquet(raw: IO[bytes]) -> Any:
    return pq.ParquetFile(raw, pre_buffer=False, buffer_size=CHUNK)


def _rows(parquet: Any) -> int:
    """Rows of a batch: from the dim where the type or the first row tells it."""
    dims = [1]
    for each in parquet.schema_arrow:
        if pa.types.is_fixed_size_list(each.type):
            dims.append(each.type.list_size)
        elif is_vector(each.type):
            first = next(parquet.iter_batches(1, columns=[each.name]), None)
            if first is not None and len(first.column(0)) and first.column(0)[0].is_valid:
                dims.append(len(first.column(0)[0]))
    columns = sum(pa.types.is_floating(each.type) for each in parquet.schema_arrow)
    return min(MAX_BATCH_ROWS, batch_rows(max(*dims, columns)))
