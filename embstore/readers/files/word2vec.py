"""The text form of the word2vec tool, ids being words; GloVe's is the same without a header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import numpy as np
import pyarrow as pa

from ...errors import BadInput
from ...types import MAX_DIM
from ..base import EMBEDDING, ID, Opened, Wanted, batch_rows
from ..columns import even
from ..registry import Format
from ..sieve import Sieve
from ..source import File
from ..textual import Dialect, open_text

_HEADER = re.compile(rb"([0-9]{1,12}) ([0-9]{1,6}) ?\r?\n")
_NUMBER = re.compile(
    rb"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?|[-+]?(nan|inf|infinity)", re.I
)
_PRINTABLE = re.compile(rb"[ -~]+")
# The first line is looked at whole; 16,000 dims are some 300 kB.
_FIRST_LINE = 1 << 20


def header(head: bytes) -> tuple[int, int, int] | None:
    """Return the count, the dim and the header's length, if the bytes begin with one."""
    match = _HEADER.match(head)
    return (int(match[1]), int(match[2]), match.end()) if match else None


def is_binary(head: bytes) -> bool:
    """Tell the binary form from the text form by what follows the header and the first word."""
    found = header(head)
    if found is None:
        return False
    line, newline, _ = head[found[2] :].partition(b"\n")
    numbers = line.rstrip(b" \r").split(b" ")[1:]
    if not newline:  # cut off by the sample, perhaps inside a number
        numbers = numbers[:-1] or numbers
    if len(numbers) > 1 and len(numbers) == found[1] and _PRINTABLE.fullmatch(b" ".join(numbers)):
        return False  # a wrong number in a text is to be found as such
    return not (numbers and all(_NUMBER.fullmatch(each) for each in numbers))


def open_word2vec(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open the text form: a header line (GloVe has none), then a word and dim numbers a line."""
    check_no_columns(file, wanted)
    head = file.head(_FIRST_LINE)
    found = header(head)
    lines = head[found[2] if found else 0 :].split(b"\n", 1000)
    fields = lines[0].removesuffix(b"\r").split(b" ")
    if found and wanted.sieve.skips:  # the first may be a bad one
        rows = (each.removesuffix(b"\r").split(b" ") for each in lines)
        fields = next(
            (each for each in rows if len(each) - 1 - (each[-1] == b"") == found[1]), fields
        )
    trailing = len(fields) > 1 and fields[-1] == b""  # as the original tool ends its lines
    numbers = len(fields) - 1 - trailing
    dim = found[1] if found else numbers
    line = 1 + bool(found)
    if not 1 <= dim <= MAX_DIM:
        raise no_header(file)
    if numbers != dim or (not found and numbers < 2):
        what = f"{dim} are declared" if found else "at least 2 are expected"
        raise BadInput(
            f"{file.name} line {line}: {numbers} numbers where {what}; it is no word2vec text"
            " (--format says what it is)",
            source=file.name,
            row=line,
        )
    names = [ID, *(f"v{i}" for i in range(dim)), *(["end"] if trailing else [])]
    dialect = Dialect(
        "word2vec text",
        " ",
        unit="line",
        header=0,
        quoted=False,
        columns=names,
        skip=1 if found else 0,
        nulls=(),
    )
    types = dict.fromkeys(names[1 : dim + 1], pa.float32()) | {ID: pa.string(), "end": pa.string()}
    types = {each: types[each] for each in names}
    _, blocks = open_text(file.stream(held), file.name, dialect, types, wanted.sieve)
    schema = wanted.sieve.schema(word_schema(dim))
    batches = even(_batches(blocks, schema), batch_rows(dim))
    return Opened(
        file.name,
        schema,
        counted(batches, found[0], file.name, wanted.sieve) if found else batches,
        found[0] if found else None,
        unit="line",
        first=line,
        provenance=file.provenance("word2vec"),
    )


def _batches(blocks: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    dim = schema.field(EMBEDDING).type.list_size
    step = batch_rows(dim)
    for block in blocks:
        for at in range(0, block.num_rows, step):
            part = block.slice(at, step)
            matrix = np.column_stack([part.column(i + 1).to_numpy() for i in range(dim)])
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), dim)
            rest = [part.column(each) for each in schema.names[2:]]
            yield pa.RecordBatch.from_arrays([part.column(0), vectors, *rest], schema=schema)


def counted(
    batches: Iterable[pa.RecordBatch], declared: int, name: str, sieve: Sieve | None = None
) -> Iterator[pa.RecordBatch]:
    """Pass on the batches; refuse another number of rows than the header declares.

    Raises
    ------
    BadInput
    """
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        yield batch
    rows += sieve.unparsed if sieve else 0
    if rows != declared:
        raise BadInput(
            f"{name} declares {declared} vectors and holds {rows}: it is truncated or its header is"
            " wrong",
            source=name,
        )


def check_no_columns(file: File, wanted: Wanted) -> None:
    """Refuse names of columns for a format that has none.

    Raises
    ------
    BadInput
    """
    if wanted.ids is not None or wanted.vectors is not None:
        raise BadInput(
            f"{file.name} is word2vec: its words are the ids and it has no columns; leave --ids and"
            " --vectors out",
            source=file.name,
        )


def no_header(file: File) -> BadInput:
    """Build the error for a file that is not what it was taken for."""
    return BadInput(
        f"{file.name} does not begin with a word2vec header, a count and a dim such as '10000 64'"
        f" (dims 1 to {MAX_DIM})",
        source=file.name,
    )


def word_schema(dim: int) -> pa.Schema:
    """Return the schema of both forms."""
    return pa.schema([(ID, pa.string()), (EMBEDDING, pa.list_(pa.float32(), dim))])


FORMATS = (
    Format(
        "word2vec",
        "word2vec text",
        (".vec", ".txt", ".w2v"),
        "a word and its numbers a line, with a header (word2vec, fastText .vec) or without (GloVe)",
        open_word2vec,
        lambda head, _: header(head) is not None and not is_binary(head),
        streams=True,
    ),
)
