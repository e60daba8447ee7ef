"""The binary form of the word2vec tool: a header, then per row a word, a space and float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..registry import Format
from ..rows import Rows
from ..values import joined, singles
from .word2vec import check


def write(paths: Sequence[Path], rows: Rows) -> None:
    """Write a newline behind each vector, as the original tool does."""
    with paths[0].open("wb") as file:
        file.write(b"%d %d\n" % (rows.total, rows.version.dim))
        width = 4 * rows.version.dim
        for block in rows:
            vectors = np.ascontiguousarray(singles(block, rows.version))
            raw = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(width), len(vectors), [None, pa.py_buffer(vectors)]
            ).cast(pa.binary())
            words = block.ids.cast(pa.string()).cast(pa.binary())
            file.write(joined([words, pa.scalar(b" "), raw, pa.scalar(b"\n")]))


FORMATS = (
    Format(
        "word2vec-binary",
        (".bin",),
        "word2vec binary: a word and its float32 a row",
        write,
        check=check,
    ),
)
