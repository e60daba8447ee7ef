"""Arrow IPC: a file (Feather version 2), or a stream where the ending is .arrows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ..registry import Format
from ..rows import Rows
from ..tables import batches, schema


def write_file(paths: Sequence[Path], rows: Rows) -> None:
    """Write a record batch for about each megabyte, which a reader maps or reads alone."""
    with pa.ipc.new_file(paths[0], schema(rows.version)) as writer:
        for batch in batches(rows):
            writer.write_batch(batch)


def write_stream(paths: Sequence[Path], rows: Rows) -> None:
    """Write the same as a stream."""
    with pa.ipc.new_stream(paths[0], schema(rows.version)) as writer:
        for batch in batches(rows):
            writer.write_batch(batch)


_COLUMNS = "columns as in Parquet"

FORMATS = (
    Format("arrow", (".arrow", ".feather"), f"Arrow file: {_COLUMNS}", write_file, attributes=True),
    Format(
        "arrow-stream", (".arrows",), f"Arrow stream: {_COLUMNS}", write_stream, attributes=True
    ),
)
