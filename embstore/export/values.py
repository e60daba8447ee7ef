"""The values of a block of rows, as formats want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..catalog import VersionRow
from ..query.stream import Block
from ..types import Precision


def components(block: Block, version: VersionRow) -> NDArray[Any]:
    """Return the vectors (n, dim): float32 or float16, little-endian; of bits truth values."""
    if version.precision is Precision.BIT:
        return np.unpackbits(block.vectors, axis=1, count=version.dim).view(np.bool_)
    return block.vectors.astype(block.vectors.dtype.newbyteorder("<"), copy=False)


def singles(block: Block, version: VersionRow) -> NDArray[np.float32]:
    """Return the vectors (n, dim) as float32, which holds each float16 and bit exactly."""
    return components(block, version).astype("<f4", copy=False)


def shortest(vectors: NDArray[np.float32], separator: str) -> pa.Array:
    """Return each vector as text (n,): the fewest digits that read back as the same float32."""
    rows, dim = vectors.shape
    texts = pa.array(vectors.reshape(-1)).cast(pa.string())
    offsets = pa.array(np.arange(0, rows * dim + 1, dim, dtype=np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), separator)


def joined(pieces: Sequence[Any]) -> memoryview:
    """Join arrays (n,) of text or bytes, and scalars between them, row by row; return the bytes."""
    nothing = b"" if pa.types.is_binary(pieces[0].type) else ""
    rows = pc.binary_join_element_wise(*pieces, pa.scalar(nothing))
    _, offsets, data = rows.buffers()
    ends = np.frombuffer(offsets, np.int32)[rows.offset :]
    return memoryview(data)[int(ends[0]) : int(ends[len(rows)])]
