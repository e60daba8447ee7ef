"""JSON lines, parsed by Arrow: an object a line, the vector an array in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.json as json

from .base import Opened
from .columns import is_vector
from .source import File
from .tables import opened_table

# An object must fit; 16,000 dims as text are some 300 kB.
BLOCK = 4 << 20


@contextmanager
def open_jsonl(file: File, ids: object, vectors: str | None) -> Iterator[Opened]:
    """Open a file of JSON objects, one a line; fields are settled by the first block."""
    with file.reading("JSON lines"):
        schema = _schema(file)
        with file.stream() as stream:
            reader = _reader(stream, schema)

            def batches() -> Iterator[pa.RecordBatch]:
                with file.reading("JSON lines"):
                    yield from reader

            yield opened_table(
                file.name, schema, batches(), ids, vectors, provenance=file.provenance("jsonl")
            )


def read_jsonl(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with file.reading("JSON lines"), file.stream() as stream:
        return _reader(stream, None).read_all()


def _reader(stream: Any, schema: pa.Schema | None) -> Any:
    return json.open_json(
        stream,
        read_options=json.ReadOptions(block_size=BLOCK),
        parse_options=json.ParseOptions(
            explicit_schema=schema,
            unexpected_field_behavior="infer" if schema is None else "error",
        ),
    )


def _schema(file: File) -> pa.Schema:
    """Return the first block's schema, with vectors of floats though that block has whole ones."""
    with file.stream() as stream:
        found = _reader(stream, None).schema
    return pa.schema(
        [
            pa.field(each.name, pa.list_(pa.float32()) if is_vector(each.type) else each.type)
            for each in found
        ]
    )
