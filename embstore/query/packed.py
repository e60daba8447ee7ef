"""Many rows of a version at once, as they are stored, in whatever order they come.

The server packs a block of rows into one value, which numpy takes apart. Blocks are asked for over
several connections where there are some to spare.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql

from ..connection import Engine
from ..io import Io, Lender
from ..types import IdType, Vectors
from .lookup import BLOCK, send, unpacked
from .target import Target, id_parameter, rows

# Of the vectors of one block; several are on their way at a time.
_BYTES = 32 << 20


async def fetch(
    lender: Lender, io: Io, target: Target, ids: pa.Array
) -> tuple[Vectors, NDArray[np.int64]]:
    """Return vectors of a version, and where among them those of ``ids`` are.

    Parameters
    ----------
    target : Target
        A version, which nobody may drop meanwhile.
    ids : array (n,), int64 or string
        Each once.

    Returns
    -------
    vectors : array (rows + 1, dim), float32; of bits 0 and 1
        The last row is NaN, for what is not there.
    places : array (n,), int64
        -1 for an id that is not there.
    """
    assert target.row is not None
    asked = ids
    if target.id_type is IdType.BIGINT:
        # Rows are often stored in this order, and then each page is read once: 1.4 times as fast.
        asked = pa.array(np.sort(np.asarray(ids)))
    size = max(1, min(BLOCK, _BYTES // target.precision.nbytes(target.row.dim)))
    blocks = [asked.slice(at, size) for at in range(0, len(asked), size)]
    parts = await lender.each(io, partial(_block, lender.engine, target), blocks)
    keys = [ids.slice(0, 0), *(own for own, _ in parts)]
    vectors = [*(each for _, each in parts), np.full((1, target.row.dim), np.nan, np.float32)]
    places = pc.index_in(ids, value_set=pa.chunked_array(keys).combine_chunks())
    return np.concatenate(vectors), places.cast(pa.int64()).fill_null(-1).to_numpy()


async def _block(
    engine: Engine, target: Target, io: Io, ids: pa.Array
) -> tuple[pa.Array, NDArray[Any]]:
    statement = target.statement(("packed",), lambda: _statement(engine, target))
    packed, texts, lengths = (await rows(io, target, statement, {"ids": id_parameter(ids)}))[0]
    if packed is None:
        return ids.slice(0, 0), np.zeros((0, target.dim or 0), np.float32)
    bigint = target.id_type is IdType.BIGINT
    numbers, vectors = unpacked(packed, target.precision, keyed=bigint)
    keys = pa.array(numbers) if bigint else _texts(texts, lengths)
    return keys, vectors.astype(np.float32, copy=False)


def _statement(engine: Engine, target: Target) -> bytes:
    vector = sql.SQL("{}(embedding)").format(send(engine, target.precision))
    if target.id_type is IdType.BIGINT:
        packed = sql.SQL("string_agg(int8send(id) || {}, ''), NULL, NULL").format(vector)
    else:
        key = "convert_to(id, 'UTF8')"
        packed = sql.SQL(
            f"string_agg({{}}, ''), string_agg({key}, ''),"
            f" string_agg(int4send(octet_length({key})), '')"
        ).format(vector)
    return (
        sql.SQL("SELECT {} FROM {} WHERE id = ANY (%(ids)s)")
        .format(packed, target.relation)
        .as_bytes(None)
    )


def _texts(data: bytes, lengths: bytes) -> pa.Array:
    sizes = np.frombuffer(lengths, ">i4")
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return pa.StringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(data))
