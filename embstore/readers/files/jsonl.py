"""JSON lines, parsed by Arrow: an object a line, the vector an array in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.json as json

from ...errors import BadInput
from ..base import Opened, Wanted
from ..columns import check_valid
from ..layout import is_text, is_vector
from ..registry import Format
from ..sieve import Place, Sieve
from ..source import File
from ..tables import chosen_columns, ids_beside, opened_table
from ..textual import BLOCK

# Arrow crashes where this is the first of its lines (apache/arrow#47409).
_NULL = re.compile(rb"(\xef\xbb\xbf)?\s*null")


def open_jsonl(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a file of JSON objects, one a line; fields are settled by the first block.

    A text stays a text, also where it looks like a date. A key that is there twice is an error.
    """
    schema = _schema(file, wanted)
    if wanted.sieve.skips:
        batches = _tolerant(file.stream(held), file.name, schema, wanted.sieve)
    else:
        batches = _blocks(file.stream(held), file.name, schema)
    return opened_table(file.name, schema, batches, wanted, provenance=file.provenance("jsonl"))


def read_jsonl(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with ExitStack() as held:
        schema = _texts(_head(file).schema)
        parts = list(_blocks(file.stream(held), file.name, schema, "infer"))
    return pa.concat_tables(map(_table, parts), promote_options="permissive")


def _table(block: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([block])


def _schema(file: File, wanted: Wanted) -> pa.Schema:
    """Return the first block's schema, with vectors of floats though that block has whole ones."""
    head = _agreed(file) if wanted.sieve.skips else _head(file)
    schema = _texts(head.schema)
    head = pa.RecordBatch.from_arrays(
        [_column(head.column(i), each.type) for i, each in enumerate(schema)], schema=schema
    )
    check_valid(head, file.name, 0)
    outside = ids_beside(schema, wanted, file.name) is not None
    chosen = chosen_columns(head, file.name, wanted, outside)
    fields = []
    for each in schema:
        kind = each.type
        if each.name in chosen.vectors:
            if is_vector(kind) and not pa.types.is_boolean(kind.value_type):
                kind = pa.list_(pa.float32())
            kind = pa.float32() if len(chosen.vectors) > 1 else kind
        fields.append(pa.field(each.name, kind))
    return pa.schema(fields)


def _head(file: File) -> pa.RecordBatch:
    """Return the first block, which is not checked and whose types are inferred."""
    with ExitStack() as held:
        block = next(_parsed(file.stream(held), file.name, None, "infer"), None)
    if block is None:
        raise _no_rows(file)
    return block


def _agreed(file: File) -> pa.RecordBatch:
    """Return the rows of the first block that agree on what their fields hold, or most of them."""
    with ExitStack() as held:
        lines = next(_lines(file.stream(held), file.name), b"")
    parts = [found for *_, found in _halves(lines, None, "infer")]
    head = pa.table({})
    for part in sorted((each for each in parts if isinstance(each, pa.Table)), key=len)[::-1]:
        try:
            head = pa.concat_tables([head, part], promote_options="permissive") if head else part
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            continue  # too few to say what a field holds
    if not head.num_rows:
        raise _no_rows(file)
    return head.combine_chunks().to_batches()[0]


def _no_rows(file: File) -> BadInput:
    return BadInput(f"{file.name} holds no rows: there is nothing to load", source=file.name)


def _column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column that only serves the choice, where no values count but texts.

    Lists are not valid anyway: Arrow miscounts those that begin with null as long as it infers
    their type (apache/arrow#51305).
    """
    return column if is_text(column.type) else pa.nulls(len(column), kind)


def _texts(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(each.name, _text(each.type)) for each in schema])


def _text(kind: pa.DataType) -> pa.DataType:
    """Undo what Arrow makes of text that looks like a date; a field without value is text."""
    if pa.types.is_timestamp(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _text(each.type)) for each in kind])
    return kind


def _blocks(
    stream: Any, name: str, schema: pa.Schema, unexpected: str = "error"
) -> Iterator[pa.RecordBatch]:
    """Pass on the blocks; Arrow does not look at their text's encoding."""
    rows = 0
    for block in _parsed(stream, name, schema, unexpected):
        check_valid(block, name, rows)
        rows += block.num_rows
        yield block


def _parsed(
    stream: Any, name: str, schema: pa.Schema | None, unexpected: str
) -> Iterator[pa.RecordBatch]:
    """Parse some lines at a time.

    Arrow's own reader of streams goes on in a thread when nobody wants the rest, does not count
    the rows of its blocks, and has no way to look at a block before it crashes.
    """
    rows = 0
    for lines in _lines(stream, name):
        try:
            table = _parse(lines, schema, unexpected)
        except pa.ArrowInvalid as error:
            raise _located(error, name, rows) from error
        for block in table.to_batches():
            rows += block.num_rows
            yield block


def _parse(lines: bytes, schema: pa.Schema | None, unexpected: str) -> pa.Table:
    """Parse whole lines; raises ArrowInvalid, which mostly tells the row among them."""
    if _NULL.match(lines):
        raise pa.ArrowInvalid("null is no object in row 0")
    # One block: its end inside a line would be an error.
    read = json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    parse = json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)
    return json.read_json(pa.BufferReader(lines), read, parse)


def _tolerant(stream: Any, name: str, schema: pa.Schema, sieve: Sieve) -> Iterator[pa.RecordBatch]:
    """Parse what can be parsed; the rows that are left out are noted as lines' rows."""
    place, rows = Place(name), 0
    for lines in _lines(stream, name):
        begin = rows
        for at, count, found in _halves(lines, schema, "error"):
            if isinstance(found, pa.Table):
                columns = [found.column(each).combine_chunks() for each in schema.names]
                batch = pa.RecordBatch.from_arrays(columns, schema=schema)
                yield sieve.numbered(batch, begin + at)
            else:
                sieve.refuse(place, begin + at, None, found, None)
                sieve.unparsed += 1
            rows = begin + at + count


def _halves(
    lines: bytes, schema: pa.Schema | None, unexpected: str
) -> Iterator[tuple[int, int, pa.Table | str]]:
    """Parse lines, or their halves: gives the first row, how many, and they or what is wrong.

    Arrow stops at the first bad row. Empty lines are no rows.
    """

    def parsed(part: bytes) -> pa.Table:
        table = _parse(part, schema, unexpected)
        table.validate(full=True)
        return table

    try:
        table = parsed(lines)
    except pa.ArrowInvalid:
        each_line = [each for each in lines.split(b"\n") if each.strip()]
    else:
        yield 0, table.num_rows, table
        return
    waiting = [(0, len(each_line))]
    while waiting:
        at, count = waiting.pop()
        half = count // 2
        try:
            table = parsed(b"\n".join(each_line[at : at + count]))
            if table.num_rows != count:
                raise pa.ArrowInvalid("it is not one object")
            yield at, count, table
        except pa.ArrowInvalid as error:
            if count == 1:
                yield at, 1, _reason(error)
            else:
                waiting += [(at + half, count - half), (at, half)]


def _reason(error: pa.ArrowInvalid) -> str:
    reason = " ".join(str(error).split()).removeprefix("JSON parse error: ")
    if "UTF8" in reason:
        return "a text is not valid UTF-8"
    return "it cannot be read as JSON: " + re.sub(r" in row [0-9]+$", "", reason).rstrip(" .")


def _lines(stream: Any, name: str) -> Iterator[bytes]:
    """Give about ``BLOCK`` bytes of whole lines at a time.

    Raises
    ------
    BadInput
        When there are more without a newline.
    """
    rest = b""
    while data := stream.read(BLOCK):
        end = data.rfind(b"\n") + 1
        if not end and len(rest) + len(data) > BLOCK:
            raise BadInput(
                f"{name}: a line is longer than {BLOCK} bytes; mend or remove it and load again",
                source=name,
            )
        if end:
            lines, rest = rest + data[:end], data[end:]
            if not lines.isspace():
                yield lines
        else:
            rest += data
    if rest and not rest.isspace():
        yield rest


def _located(error: pa.ArrowInvalid, name: str, rows: int) -> BadInput:
    reason = " ".join(str(error).split()).removeprefix("JSON parse error: ")
    match = re.search(r"in row ([0-9]+)$", reason)
    row = rows + int(match[1]) + 1 if match else None
    place = f"{name} row {row}" if row else f"{name}, after row {rows}," if rows else name
    if match:
        reason = reason[: match.start()].rstrip(" .")
    return BadInput(
        f"{place} cannot be read as JSON lines: {reason}; mend or remove the row (each field must"
        " hold what it holds in the first rows) and load again",
        source=name,
        row=row,
    )


FORMATS = (
    Format(
        "jsonl",
        "JSON lines",
        (".jsonl", ".ndjson", ".json"),
        "JSON objects, one a line; the vector an array",
        open_jsonl,
        lambda head, _: re.match(rb"(\xef\xbb\xbf)?\s*\{", head) is not None,
        read=lambda file, _: read_jsonl(file),
        streams=True,
    ),
)
