"""Rows as Arrow tables: id, the attributes, embedding; and where they come from."""

from __future__ import annotations

from collections.abc import Generator

import pyarrow as pa

from ..catalog import VersionRow
from ..query.stream import schema as stream_schema
from ..readers.exported import described
from ..types import Precision
from .rows import Rows
from .values import components


def schema(version: VersionRow) -> pa.Schema:
    """Return the schema of ``batches``, whose metadata tell of the version."""
    fields = stream_schema(version)
    for each in version.attributes:
        if each.type == "jsonb":  # as such, it is jsonb again where it is loaded
            at = fields.get_field_index(each.name)
            fields = fields.set(at, pa.field(each.name, pa.json_()))
    return fields.with_metadata(described(version))


def batches(rows: Rows) -> Generator[pa.RecordBatch, None, None]:
    """Yield the rows as record batches."""
    target = schema(rows.version)
    bits = rows.version.precision is Precision.BIT
    for block in rows:
        values = components(block, rows.version)
        flat = pa.array((values.view("u1") if bits else values).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, rows.version.dim)
        columns = [
            pa.ExtensionArray.from_storage(field.type, column)
            if isinstance(field.type, pa.JsonType)
            else column
            for field, column in zip(list(target)[1:-1], block.columns, strict=True)
        ]
        yield pa.RecordBatch.from_arrays([block.ids, *columns, vectors], schema=target)
