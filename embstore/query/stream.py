"""A whole version, streamed by binary COPY with flat memory, taken apart by numpy.

COPY sends each row as one message, so a row's start is known without reading it, and a block of
rows is taken apart column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import Copy, sql

from ..catalog import VersionRow
from ..connection import Connection, translated
from ..load.attributes import STORED
from ..load.encode import FIXED, HEADER, TRAILER
from ..readers.base import batch_rows
from ..relations import version_table
from ..types import IdType, Precision

T = TypeVar("T")

_COMPONENTS = {
    Precision.FLOAT32: pa.float32(),
    Precision.FLOAT16: pa.float16(),
    Precision.BIT: pa.uint8(),
}
# What a vector has before its components: the field's length, then four bytes for the dim.
_BEFORE = 8


@dataclass(frozen=True)
class Block:
    """Some rows.

    Attributes
    ----------
    ids : array (n,), int64 or string
    columns : list of arrays (n,), in the order of the version's attributes
    vectors : array (n, dim), float32 or float16; of bits packed, (n, bytes) uint8
    """

    ids: pa.Array
    columns: list[pa.Array]
    vectors: NDArray[Any]


def schema(version: VersionRow) -> pa.Schema:
    """Return the schema of ``batches``."""
    component = _COMPONENTS[version.precision]
    return pa.schema(
        [
            pa.field("id", id_kind(version.id_type), nullable=False),
            *(pa.field(each.name, STORED[each.type]) for each in version.attributes),
            pa.field("embedding", pa.list_(component, version.dim), nullable=False),
        ]
    )


def id_kind(id_type: IdType) -> pa.DataType:
    """Return the Arrow type of ids."""
    return pa.int64() if id_type is IdType.BIGINT else pa.string()


def batches(connection: Connection, version: VersionRow) -> Iterator[pa.RecordBatch]:
    """Stream the rows of a version in the order they were loaded."""
    target = schema(version)
    for block in blocks(connection, version):
        values = block.vectors
        if version.precision is Precision.BIT:
            values = np.unpackbits(values, axis=1, count=version.dim)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), version.dim)
        yield pa.RecordBatch.from_arrays([block.ids, *block.columns, flat], schema=target)


def blocks(connection: Connection, version: VersionRow) -> Generator[Block, None, None]:
    """Stream the rows of a version in the order they were loaded, vectors as they are stored."""
    for piece in pieces(connection, version):
        yield piece()


def pieces(
    connection: Connection, version: VersionRow, since: datetime | None = None
) -> Generator[Callable[[], Block], None, None]:
    """Stream as ``blocks`` does; of the rows that were appended ``since`` then, or of all.

    Each piece makes its block when it is called, in whatever thread: that takes half as long as
    the reading does.
    """
    columns = [
        sql.SQL("{}::text").format(sql.Identifier(each.name))
        if each.type == "jsonb"
        else sql.Identifier(each.name)
        for each in version.attributes
    ]
    only = sql.SQL("") if since is None else sql.SQL(" WHERE appended_at >= {}").format(since)
    statement = sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join([sql.Identifier("id"), *columns, sql.Identifier("embedding")]),
        version_table(version.table_name, version.version),
        only,
    )
    return copied(connection, statement, version.ref, version.dim, partial(_taken_apart, version))


def copied(
    connection: Connection,
    statement: sql.Composed,
    name: str,
    dim: int,
    taken_apart: Callable[[Fields], T],
) -> Generator[Callable[[], T], None, None]:
    """Stream the rows of a binary COPY, some megabytes at a time.

    Parameters
    ----------
    statement : COPY ... TO STDOUT (FORMAT binary)
    name : str
        What it reads, for messages.
    dim : int
        How many components a row has: as many rows are taken together as suit the cache.
    taken_apart : callable
        What makes something of some rows' fields; in whatever thread calls a piece.
    """
    with translated(f"reading {name}"), connection.transaction():
        # Scans of one table would otherwise share their position, and start in its middle.
        connection.execute("SET LOCAL synchronize_seqscans = off")
        with closing(connection.cursor()) as cursor, cursor.copy(statement) as copy:
            messages = _messages(copy)
            skip = len(HEADER)
            while True:
                # One buffer: a list of messages would be 4000 objects for the garbage collector,
                # which doubles the time.
                buffer = BytesIO()
                lengths = list(map(buffer.write, islice(messages, batch_rows(dim))))
                if not lengths:
                    return
                lengths[0] -= skip
                data = buffer.getbuffer()[skip:]
                yield partial(_made, taken_apart, data, lengths)
                skip = 0


def _made(taken_apart: Callable[[Fields], T], data: memoryview, lengths: list[int]) -> T:
    return taken_apart(Fields(data, lengths))


def _messages(copy: Copy) -> Iterator[Any]:
    """Yield the message of each row.

    Straight from libpq while there is one in its buffer: psycopg's own loop takes a third longer,
    and is left to do what it does well, to wait.
    """
    take = copy.connection.pgconn.get_copy_data
    message: Any
    end = len(HEADER) + len(TRAILER)  # of no rows at all
    while True:
        size, message = take(1)
        if size == 0:
            message = copy.read()
            size = len(message)
            if not size:
                return
        if size == end:
            copy.read()  # the end, or why there is none
            return
        end = len(TRAILER)
        yield message


def _taken_apart(version: VersionRow, read: Fields) -> Block:
    ids = read.ids(version.id_type)
    columns = [
        read.fixed(each.type, STORED[each.type]) if each.type in FIXED else read.texts()
        for each in version.attributes
    ]
    return Block(ids, columns, read.vectors(version.precision, version.dim))


class Fields:
    """The fields of a block of rows, left to right.

    Parameters
    ----------
    data : the rows' bytes, one row behind the other
    lengths : list of int
        Of the rows.
    """

    def __init__(self, data: memoryview, lengths: list[int]) -> None:
        sizes = np.array(lengths, np.int64)
        self._data = np.frombuffer(data, np.uint8)
        self._at = np.cumsum(sizes) - sizes + 2  # behind the count of fields

    def ids(self, id_type: IdType) -> pa.Array:
        """Return the next field as ids."""
        bigint = id_type is IdType.BIGINT
        return self.fixed("bigint", pa.int64()) if bigint else self.texts()

    def fixed(self, kind: str, stored: pa.DataType) -> pa.Array:
        """Return the next field, of a type of fixed width."""
        dtype, epoch = FIXED[kind]
        width = np.dtype(dtype).itemsize
        null = self._lengths() < 0
        values = self._bytes(width, 4).view(dtype).ravel()
        values = values.astype(values.dtype.newbyteorder("="))
        self._at += np.where(null, 4, 4 + width)
        mask = null if null.any() else None
        if kind == "boolean":
            return pa.array(values != 0, mask=mask)
        if epoch:
            return pa.array(values + values.dtype.type(epoch), mask=mask).view(stored)
        return pa.array(values, stored, mask=mask)

    def texts(self) -> pa.Array:
        """Return the next field as strings."""
        lengths = self._lengths()
        null = lengths < 0
        sizes = np.where(null, 0, lengths)
        offsets = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        first = self._at + 4
        data = self._data[np.repeat(first - offsets[:-1], sizes) + np.arange(offsets[-1])]
        self._at = first + sizes
        validity = pa.array(~null).buffers()[1] if null.any() else None
        return pa.StringArray.from_buffers(
            len(sizes), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data), validity
        )

    def vectors(self, precision: Precision, dim: int) -> NDArray[Any]:
        """Return the next field as vectors; see ``Block``."""
        width = precision.nbytes(dim)
        values = self._bytes(width, _BEFORE)
        self._at += _BEFORE + width
        if precision is Precision.BIT:
            return values
        kind = np.dtype(str(precision))
        # In place: a cast from the other byte order is thirty times slower.
        return values.view(f"u{kind.itemsize}").byteswap(inplace=True).view(kind)

    def _lengths(self) -> NDArray[np.int64]:
        return self._bytes(4, 0).view(">i4").ravel().astype(np.int64)

    def _bytes(self, width: int, skip: int) -> NDArray[np.uint8]:
        """Copy ``width`` bytes of each row from ``skip`` behind where it is read."""
        windows = np.lib.stride_tricks.sliding_window_view(self._data, width)
        return np.asarray(windows[self._at + skip])
