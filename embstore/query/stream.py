"""A whole version as Arrow record batches, by COPY, with flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, Engine, translated
from ..load.attributes import STORED
from ..readers.base import batch_rows
from ..relations import version_table
from ..types import IdType, Precision
from .lookup import send, unpacked

_COMPONENTS = {
    Precision.FLOAT32: pa.float32(),
    Precision.FLOAT16: pa.float16(),
    Precision.BIT: pa.uint8(),
}
_CURSOR = sql.Identifier("embstore_stream")


def schema(version: VersionRow) -> pa.Schema:
    """Return the schema of ``batches``."""
    component = _COMPONENTS[version.precision]
    key = pa.int64() if version.id_type is IdType.BIGINT else pa.string()
    return pa.schema(
        [
            pa.field("id", key, nullable=False),
            *(pa.field(each.name, STORED[each.type]) for each in version.attributes),
            pa.field("embedding", pa.list_(component, version.dim), nullable=False),
        ]
    )


def batches(
    connection: Connection, engine: Engine, version: VersionRow
) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a version in the order they were loaded.

    Each fetch packs its vectors into one value on the server, which numpy reads in one step.
    """
    columns = [
        sql.SQL("{}::text").format(sql.Identifier(each.name))
        if each.type == "jsonb"
        else sql.Identifier(each.name)
        for each in version.attributes
    ]
    embedding = sql.SQL("{}(embedding)").format(send(engine, version.precision))
    query = sql.SQL("DECLARE {} NO SCROLL CURSOR FOR SELECT {} FROM {}").format(
        _CURSOR,
        sql.SQL(", ").join([sql.Identifier("id"), *columns, embedding]),
        version_table(version.table_name, version.version),
    )
    fetch = sql.SQL("FETCH {} FROM {}").format(sql.Literal(batch_rows(version.dim)), _CURSOR)
    with translated(f"reading {version.ref}"), connection.transaction():
        # Scans of one table would otherwise share their position, and start in its middle.
        connection.execute("SET LOCAL synchronize_seqscans = off")
        connection.execute(query)
        while rows := connection.execute(fetch, binary=True).fetchall():
            yield _batch(version, list(zip(*rows, strict=True)))


def _batch(version: VersionRow, columns: list[Any]) -> pa.RecordBatch:
    values = unpacked(b"".join(columns[-1]), len(columns[-1]), version.precision)
    flat = pa.array(values.ravel())
    target = schema(version)
    arrays = [
        pa.array(column, field.type) for column, field in zip(columns[:-1], target, strict=False)
    ]
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, version.dim))
    return pa.RecordBatch.from_arrays(arrays, schema=target)
