"""Arrow IPC: files (Feather version 2) and streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.ipc as ipc

from ..errors import BadInput
from .base import Opened
from .source import File
from .tables import opened_table

MAGIC = b"ARROW1"


@contextmanager
def open_arrow(file: File, ids: object, vectors: str | None) -> Iterator[Opened]:
    """Open an Arrow IPC file or stream."""
    with file.reading("Arrow"), file.seekable() as raw:
        schema, rows, batches = _reader(raw, file)

        def checked() -> Iterator[pa.RecordBatch]:
            with file.reading("Arrow"):
                for batch in batches:
                    # The format's offsets are taken on trust otherwise, to the point of a crash.
                    batch.validate(full=True)
                    yield batch

        yield opened_table(
            file.name,
            schema,
            checked(),
            ids,
            vectors,
            rows=rows,
            provenance=file.provenance("arrow"),
        )


def read_arrow(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with file.reading("Arrow"), file.seekable() as raw:
        schema, _, batches = _reader(raw, file)
        table = pa.Table.from_batches(batches, schema)
        table.validate(full=True)
        return table


def _reader(raw: object, file: File) -> tuple[pa.Schema, int | None, Iterator[pa.RecordBatch]]:
    if file.head(len(MAGIC)) == MAGIC:
        reader = ipc.open_file(raw)
        schema = reader.schema
        each = (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        stream = ipc.open_stream(raw)
        schema, each = stream.schema, iter(stream)
    for field in schema:
        if isinstance(field.type, pa.BaseExtensionType):
            raise BadInput(
                f"{file.name}: column {field.name!r} has the extension type {field.type}, which is"
                " not read; store it as a plain type",
                source=file.name,
                column=field.name,
            )
    return schema, None, each
