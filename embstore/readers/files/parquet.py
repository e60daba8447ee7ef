"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import BadInput
from ..base import MAX_BATCH_ROWS, Opened, Wanted, batch_rows
from ..columns import check_valid
from ..exported import with_origin
from ..layout import is_vector
from ..registry import Format
from ..source import CHUNK, File
from ..tables import opened_table

# Through a buffer, Arrow believes what a page says of its size: 2 KB that claim 2 GB cost that
# much and 6 s. Without one it reads a column of a row group whole, which a small file can afford.
_SMALL = 64 << 20


def open_parquet(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a Parquet file; a large one through a buffer, never a whole row group."""
    parquet = _parquet(file, held)
    opened = opened_table(
        file.name,
        parquet.schema_arrow,
        _counted(parquet, file.name),
        wanted,
        rows=parquet.metadata.num_rows,
        provenance=file.provenance("parquet"),
    )
    return with_origin(opened, parquet.schema_arrow.metadata)


def read_parquet(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with ExitStack() as held:
        return _parquet(file, held).read()


def _parquet(file: File, held: ExitStack) -> Any:
    raw = file.seekable(held)
    raw.seek(0, 2)
    buffer = CHUNK if raw.tell() > _SMALL else 0
    return held.enter_context(pq.ParquetFile(raw, pre_buffer=False, buffer_size=buffer))


def _counted(parquet: Any, name: str) -> Iterator[pa.RecordBatch]:
    """Give the rows; Arrow does not compare the footer's counts of them with each other."""
    rows, declared = 0, parquet.metadata.num_rows
    for batch in parquet.iter_batches(_rows(parquet), use_threads=False):
        check_valid(batch, name, rows)
        rows += batch.num_rows
        yield batch
    if rows != declared:
        raise BadInput(
            f"{name} declares {declared} rows and holds {rows}: it is damaged", source=name
        )


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


FORMATS = (
    Format(
        "parquet",
        "Parquet",
        (".parquet", ".pq"),
        "a column of lists, or one column per dimension",
        open_parquet,
        lambda head, _: head.startswith(b"PAR1"),
        read=lambda file, _: read_parquet(file),
    ),
)
