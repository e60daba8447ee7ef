"""The binary form of the word2vec tool: per row a word, a space and dim little-endian float32."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import BadInput
from ...types import MAX_DIM, MAX_ID_BYTES
from ..base import Opened, Wanted, batch_rows
from ..registry import Format
from ..source import CHUNK, File
from .word2vec import check_no_columns, header, is_binary, no_header, word_schema

_MAX_HEADER = 24
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


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
    batches = _batches(file.stream(held), file.name, count, dim, start)
    return Opened(
        file.name,
        word_schema(dim),
        batches,
        count,
        provenance=file.provenance("word2vec-binary"),
    )


def _batches(stream: Any, name: str, count: int, dim: int, start: int) -> Iterator[pa.RecordBatch]:
    """Split the rows; only their words make them differ in length.

    The loop finds and cuts, a microsecond a row; everything else is done for a batch at once.
    """
    width, step, schema = 4 * dim, batch_rows(dim), word_schema(dim)
    # The longest that a row may be: with so much in the buffer, its end is there.
    longest = width + MAX_ID_BYTES + 2
    buffer, at = stream.read(CHUNK + longest), start
    for first in range(0, count, step):
        words: list[bytes] = []
        values: list[bytes] = []
        for row in range(first, min(first + step, count)):
            if len(buffer) - at < longest:
                buffer, at = buffer[at:] + stream.read(CHUNK + longest), 0
            space = buffer.find(b" ", at, at + MAX_ID_BYTES + 2)
            end = space + 1 + width
            if space < 0 or end > len(buffer):
                raise _broken(buffer, at, name, row, space)
            words.append(buffer[at:space])
            values.append(buffer[space + 1 : end])
            at = end
        flat = np.frombuffer(b"".join(values), "<f4").astype(np.float32, copy=False)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat), dim)
        yield pa.RecordBatch.from_arrays([_words(words, name, first), vectors], schema=schema)
    if buffer[at:] + stream.read(2) not in {b"", b"\n"}:
        raise BadInput(
            f"{name} goes on behind the {count} vectors that it declares: its header or its end is"
            " damaged",
            source=name,
        )


def _broken(buffer: bytes, at: int, name: str, row: int, space: int) -> BadInput:
    if space < 0 and len(buffer) - at > MAX_ID_BYTES:
        return _bad_word(name, row, f"is longer than {MAX_ID_BYTES} bytes")
    return BadInput(
        f"{name} row {row + 1}: the file ends inside this row: it is truncated",
        source=name,
        row=row + 1,
    )


def _words(words: list[bytes], name: str, first: int) -> pa.Array:
    # The original tool ends each vector with a newline, which then begins the next word.
    joined = b" ".join(words).replace(b" \n", b" ").removeprefix(b"\n")
    if _CONTROL.search(joined):
        bad = (_CONTROL.search(word.removeprefix(b"\n")) for word in words)
        row = next(i for i, found in enumerate(bad) if found)
        raise _bad_word(name, first + row, "holds a control character")
    try:
        return pa.array(joined.decode("utf-8").split(" "), pa.string())
    except UnicodeDecodeError as error:
        row = first + joined.count(b" ", 0, error.start)
        raise _bad_word(name, row, "is not valid UTF-8") from error


def _bad_word(name: str, row: int, problem: str) -> BadInput:
    return BadInput(
        f"{name} row {row + 1}: the word {problem}: the file is damaged or no word2vec binary",
        source=name,
        row=row + 1,
    )


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
