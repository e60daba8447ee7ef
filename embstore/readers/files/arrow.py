"""Arrow IPC: files (Feather version 2) and streams.

A record batch of the file is read whole: keep them small where it is written (65,536 rows is what
most tools write).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.ipc as ipc

from ..base import Opened, Wanted
from ..columns import check_valid
from ..exported import with_origin
from ..messages import MAGIC, Checked, Patient, check_file
from ..registry import Format
from ..source import File
from ..tables import opened_table

STREAM_MAGIC = b"\xff\xff\xff\xff"


def open_arrow(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open an Arrow IPC file or stream."""
    schema, batches = _batches(file, held)
    opened = opened_table(file.name, schema, batches, wanted, provenance=file.provenance("arrow"))
    return with_origin(opened, schema.metadata)


def read_arrow(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with ExitStack() as held:
        schema, batches = _batches(file, held)
        return pa.Table.from_batches(batches, schema)


def _batches(file: File, held: ExitStack) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if file.head(len(MAGIC)) == MAGIC:
        raw = Patient(file.seekable(held))
        check_file(raw, file.name)
        reader = ipc.open_file(raw)
        return reader.schema, _checked(
            (reader.get_batch(i) for i in range(reader.num_record_batches)), file.name
        )
    stream = ipc.open_stream(Checked(file.stream(held), file.name))
    return stream.schema, _checked(iter(stream), file.name)


def _checked(batches: Iterator[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        check_valid(batch, name, rows)
        rows += batch.num_rows
        yield batch


FORMATS = (
    Format(
        "arrow",
        "Arrow",
        (".arrow", ".feather", ".arrows"),
        "Arrow IPC file or stream, Feather; columns as in Parquet",
        open_arrow,
        lambda head, _: head.startswith((MAGIC, STREAM_MAGIC)),
        read=lambda file, _: read_arrow(file),
        streams=True,
    ),
)
