"""Arrow IPC: files (Feather version 2) and streams.

A record batch of the file is read whole: keep them small where it is written (65,536 rows is what
most tools write).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc

from ..base import Opened, Wanted
from ..columns import check_valid
from ..registry import Format
from ..source import CHUNK, File
from ..tables import opened_table

MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"


def open_arrow(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open an Arrow IPC file or stream."""
    schema, batches = _batches(file, held)
    return opened_table(file.name, schema, batches, wanted, provenance=file.provenance("arrow"))


def read_arrow(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with ExitStack() as held:
        schema, batches = _batches(file, held)
        return pa.Table.from_batches(batches, schema)


def _batches(file: File, held: ExitStack) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if file.head(len(MAGIC)) == MAGIC:
        reader = ipc.open_file(_Patient(file.seekable(held)))
        return reader.schema, _checked(
            (reader.get_batch(i) for i in range(reader.num_record_batches)), file.name
        )
    stream = ipc.open_stream(_Patient(file.stream(held)))
    return stream.schema, _checked(iter(stream), file.name)


def _checked(batches: Iterator[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        check_valid(batch, name, rows)
        rows += batch.num_rows
        yield batch


class _Patient(io.RawIOBase):
    """The file for Arrow, which would allocate at once whatever length a message claims."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes as asked for, fewer at the end."""
        parts = []
        while size and (part := self._stream.read(min(size, 8 * CHUNK) if size > 0 else CHUNK)):
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; return it."""
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        """Return the place."""
        return int(self._stream.tell())


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
