"""The binary form of the word2vec tool: per row a word, a space and dim little-endian float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import BadInput
from ...types import MAX_DIM, MAX_ID_BYTES
from ..base import EMBEDDING, ID, Opened, Wanted, batch_rows
from ..registry import Format
from ..sieve import BadRows, Place, Sieve, failing
from ..source import CHUNK, File
from .word2vec import check_no_columns, header, is_binary, no_header, word_schema

_MAX_HEADER = 24
_DAMAGED = "the file is damaged or no word2vec binary"


def open_word2vec_binary(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open the binary form, as the original tool or gensim writes it."""
    check_no_columns(file, wanted)
    found = header(file.head(_MAX_HEADER))
    if found is None or not 1 <= found[1] <= MAX_DIM:
        raise no_header(file)
    count, dim, start = found
    if not count:
        raise BadInput(f"{file.name} holds no rows: there is nothing to load", source=file.name)
    if file.length is not None and start + count * (4 * dim + 2) > file.length:
        raise BadInput(
            f"{file.name} declares {count} vectors of {dim} dimensions, which do not fit into its"
            f" {file.size} bytes: it is truncated or something else",
            source=file.name,
        )
    schema = wanted.sieve.schema(word_schema(dim))
    batches = _batches(file.stream(held), file.name, count, schema, start, wanted.sieve)
    return Opened(
        file.name,
        schema,
        batches,
        count,
        provenance=file.provenance("word2vec-binary"),
    )


def _batches(
    stream: Any, name: str, count: int, schema: pa.Schema, start: int, sieve: Sieve
) -> Iterator[pa.RecordBatch]:
    """Split the rows; only their words make them differ in length.

    The loop finds the ends of the words, a third of a microsecond a row; everything else is done
    for a batch at once.
    """
    dim = schema.field(EMBEDDING).type.list_size
    width, step, place = 4 * dim, batch_rows(dim), Place(name)

    def texts(batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [_texts(batch.column(0)), *batch.columns[1:]]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    # The longest that a row may be: with so much in the buffer, its end is there.
    longest = width + MAX_ID_BYTES + 2
    buffer, at = stream.read(CHUNK + longest), start
    row = 0
    while row < count:
        if len(buffer) - at < longest:
            buffer, at = buffer[at:] + stream.read(CHUNK + longest), 0
        first, spaces = at, []
        for _ in range(min(step, count - row)):
            space = buffer.find(b" ", at, at + MAX_ID_BYTES + 2)
            end = space + 1 + width
            if space < 0 or end > len(buffer):
                break
            spaces.append(space)
            at = end
        if not spaces:
            raise _broken(buffer, at, name, row, space)
        yield sieve.sift(_batch(buffer, first, spaces, dim), place, row, texts)
        row += len(spaces)
    if buffer[at:] + stream.read(2) not in {b"", b"\n"}:
        raise BadInput(
            f"{name} goes on behind the {count} vectors that it declares: its header or its end is"
            " damaged",
            source=name,
        )


def _broken(buffer: bytes, at: int, name: str, row: int, space: int) -> BadInput:
    problem = "the file ends inside this row: it is truncated"
    if space < 0 and len(buffer) - at > MAX_ID_BYTES:
        problem = f"the word is longer than {MAX_ID_BYTES} bytes: {_DAMAGED}"
    return BadInput(f"{name} row {row + 1}: {problem}", source=name, row=row + 1)


def _batch(buffer: bytes, first: int, spaces: list[int], dim: int) -> pa.RecordBatch:
    """Cut the rows, of which the first begins at byte ``first``."""
    rows = len(spaces)
    # Four pieces a row: a newline or nothing, the word, the space, the vector.
    cuts = np.empty((rows + 1, 4), np.int32)
    cuts[:-1, 2] = spaces
    cuts[:-1, 3] = cuts[:-1, 2] + 1
    cuts[0, 0], cuts[1:, 0] = first, cuts[:-1, 3] + 4 * dim
    # The original tool ends each vector with a newline, which then begins the next word.
    cuts[:-1, 1] = cuts[:-1, 0] + (np.frombuffer(buffer, np.uint8)[cuts[:-1, 0]] == ord("\n"))
    pieces = pa.Array.from_buffers(
        pa.binary(), 4 * rows, [None, pa.py_buffer(cuts), pa.py_buffer(buffer)]
    )
    words, values = (pieces.take(pa.array(np.arange(each, 4 * rows, 4))) for each in (1, 3))
    flat = np.frombuffer(values.buffers()[2], "<f4", rows * dim).astype(np.float32, copy=False)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), dim)
    return pa.RecordBatch.from_arrays([words, vectors], names=[ID, EMBEDDING])


def _texts(words: pa.Array) -> pa.Array:
    control = pc.match_substring_regex(words, r"[\x00-\x1f\x7f]")
    if pc.any(control).as_py():
        rows = np.flatnonzero(control.to_numpy(zero_copy_only=False))
        raise BadRows(rows, f"the word holds a control character: {_DAMAGED}", None, ID)
    try:
        return words.cast(pa.string())
    except pa.ArrowInvalid:
        bad = failing(words, lambda part: part.cast(pa.string()))
        raise BadRows(bad, f"the word is not valid UTF-8: {_DAMAGED}", None, ID) from None


FORMATS = (
    Format(
        "word2vec-binary",
        "word2vec binary",
        (".bin",),
        "the binary form of the word2vec tool",
        open_word2vec_binary,
        lambda head, _: is_binary(head),
        streams=True,
    ),
)
