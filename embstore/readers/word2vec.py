"""The formats of the word2vec tool: text and binary, ids being words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from ..errors import BadInput
from ..types import MAX_DIM, MAX_ID_BYTES
from .base import EMBEDDING, ID, Opened, batch_rows
from .source import CHUNK, File

_HEADER = re.compile(rb"([0-9]{1,12}) ([0-9]{1,6}) ?\r?\n")
_MAX_HEADER = 24
# Text is parsed in blocks of this size; a line must fit.
_BLOCK = 4 << 20


def header(head: bytes) -> tuple[int, int, int] | None:
    """Return the count, the dim and the header's length, if the bytes begin with one."""
    match = _HEADER.match(head)
    return (int(match[1]), int(match[2]), match.end()) if match else None


def is_binary(head: bytes) -> bool:
    """Tell the binary form from the text form by what follows the header and the first word."""
    found = header(head)
    if found is None:
        return False
    _, dim, start = found
    body = head[start:]
    first = body.lstrip(b"\n").split(b"\n")[0]
    fields = first.split()
    try:
        # In text the first line is a word and dim numbers; long lines are cut off by the sample.
        numbers = [float(each) for each in fields[1:-1]]
        return not numbers and dim > 2
    except ValueError:
        return True


@contextmanager
def open_word2vec_binary(file: File, ids: object, vectors: str | None) -> Iterator[Opened]:
    """Open the binary form: a header line, then per row a word, a space and dim float32."""
    count, dim, start = _declared(file)
    if file.packed is None and start + count * (4 * dim + 2) > file.size:
        raise BadInput(
            f"{file.name} declares {count} vectors of {dim} dimensions, which do not fit into its"
            f" {file.size} bytes: it is truncated or something else",
            source=file.name,
        )
    schema = _schema(dim)
    with file.reading("word2vec binary"), file.stream() as stream:

        def batches() -> Iterator[pa.RecordBatch]:
            with file.reading("word2vec binary"):
                yield from _binary_batches(stream, file.name, count, dim, start, schema)

        yield Opened(
            file.name, schema, batches(), count, provenance=file.provenance("word2vec-binary")
        )


def _binary_batches(
    stream: Any, name: str, count: int, dim: int, start: int, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    width, step = 4 * dim, batch_rows(dim)
    buffer, at = stream.read(CHUNK), start
    for first in range(0, count, step):
        words: list[bytes] = []
        values: list[bytes] = []
        for row in range(first, min(first + step, count)):
            # The longest a row may be; then its end is in the buffer, or the file is at its end.
            if len(buffer) - at < width + MAX_ID_BYTES + 2:
                buffer, at = buffer[at:] + stream.read(CHUNK + width), 0
            space = buffer.find(b" ", at, at + MAX_ID_BYTES + 2)
            end = space + 1 + width
            if space < 0 or end > len(buffer):
                raise _broken(buffer, at, name, row, space)
            words.append(buffer[at:space])
            values.append(buffer[space + 1 : end])
            at = end
        yield pa.RecordBatch.from_arrays(
            [_words(words, name, first), _vectors(b"".join(values), dim)], schema=schema
        )
    if (buffer[at:] + stream.read(2)).strip(b"\n"):
        raise BadInput(
            f"{name} goes on behind the {count} vectors that it declares: its header or its end is"
            " damaged",
            source=name,
        )


def _broken(buffer: bytes, at: int, name: str, row: int, space: int) -> BadInput:
    if space < 0 and len(buffer) - at > MAX_ID_BYTES:
        problem = f"the word is longer than {MAX_ID_BYTES} bytes"
    else:
        problem = "the file ends inside this row"
    return BadInput(f"{name} row {row + 1}: {problem}: it is damaged", source=name, row=row + 1)


def _words(words: list[bytes], name: str, first: int) -> pa.Array:
    # The original tool ends each vector with a newline, which then begins the next word.
    joined = b"\0".join([word.lstrip(b"\n") for word in words])
    try:
        texts = joined.decode("utf-8").split("\0")
    except UnicodeDecodeError as error:
        row = first + joined.count(b"\0", 0, error.start) + 1
        raise BadInput(
            f"{name} row {row}: the word is not valid UTF-8: the file is damaged or in another"
            " encoding",
            source=name,
            row=row,
        ) from error
    if len(texts) != len(words) or re.search(r"[\x01-\x1f\x7f]", joined.decode("utf-8")):
        row = next(i for i, word in enumerate(words) if re.search(rb"[\x00-\x1f\x7f]", word.lstrip(b"\n")))
        raise BadInput(
            f"{name} row {first + row + 1}: the word holds a control character: the file is"
            " damaged",
            source=name,
            row=first + row + 1,
        )
    return pa.array(texts, pa.string())


def _vectors(data: bytes, dim: int) -> pa.Array:
    flat = np.frombuffer(data, "<f4").astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), dim)


@contextmanager
def open_word2vec_text(file: File, ids: object, vectors: str | None) -> Iterator[Opened]:
    """Open the text form: a header line (GloVe has none), then a word and dim numbers a line."""
    head = file.head(1 << 20)
    found = header(head)
    start = found[2] if found else 0
    line = head[start:].split(b"\n")[0].removesuffix(b"\r")
    fields = line.split(b" ")
    trailing = bool(fields) and fields[-1] == b""  # as the original tool ends its lines
    dim = found[1] if found else len(fields) - 1 - trailing
    if not 1 <= dim <= MAX_DIM or len(fields) - 1 - trailing != dim:
        raise BadInput(
            f"{file.name} line {1 + bool(found)}: {len(fields) - 1 - trailing} numbers where"
            f" {dim} are declared; it is no word2vec text (--format says what it is)",
            source=file.name,
            row=1 + bool(found),
        )
    schema = _schema(dim)
    names = [ID, *(f"v{i}" for i in range(dim)), *(["end"] if trailing else [])]
    with file.reading("word2vec text"), file.stream() as stream:
        reader = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(
                block_size=_BLOCK, column_names=names, skip_rows=1 if found else 0
            ),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.float32() for name in names[1 : dim + 1]}
                | {ID: pa.string(), "end": pa.string()},
                strings_can_be_null=False,
                null_values=[],
            ),
        )

        def batches() -> Iterator[pa.RecordBatch]:
            rows = 0
            with file.reading("word2vec text"):
                for block in reader:
                    rows += block.num_rows
                    yield from _text_batches(block, dim, schema)
            if found and rows != found[0]:
                raise BadInput(
                    f"{file.name} declares {found[0]} vectors and holds {rows}: it is truncated or"
                    " its header is wrong",
                    source=file.name,
                )

        yield Opened(
            file.name,
            schema,
            batches(),
            found[0] if found else None,
            unit="line",
            first=1 + bool(found),
            provenance=file.provenance("word2vec-text"),
        )


def _text_batches(
    block: pa.RecordBatch, dim: int, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    step = batch_rows(dim)
    for at in range(0, block.num_rows, step):
        part = block.slice(at, step)
        columns = [part.column(i + 1).to_numpy() for i in range(dim)]
        flat = pa.array(np.column_stack(columns).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, dim)
        yield pa.RecordBatch.from_arrays([part.column(0), vectors], schema=schema)


def _declared(file: File) -> tuple[int, int, int]:
    found = header(file.head(_MAX_HEADER))
    if found is None or not 1 <= found[1] <= MAX_DIM or not found[0]:
        raise BadInput(
            f"{file.name} does not begin with a word2vec header, a count and a dim such as"
            f" '10000 64' (dims 1 to {MAX_DIM})",
            source=file.name,
        )
    return found


def _schema(dim: int) -> pa.Schema:
    return pa.schema([(ID, pa.string()), (EMBEDDING, pa.list_(pa.float32(), dim))])
