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
from ..layout import is_vector
from ..registry import Format
from ..source import File
from ..tables import chosen_columns, ids_beside, opened_table
from ..textual import BLOCK


def open_jsonl(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a file of JSON objects, one a line; fields are settled by the first block.

    A text stays a text, also where it looks like a date. A key that is there twice is an error.
    """
    schema = _schema(file, wanted)
    batches = _blocks(_reader(file.stream(held), file.name, schema), file.name)
    return opened_table(file.name, schema, batches, wanted, provenance=file.provenance("jsonl"))


def read_jsonl(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with ExitStack() as held:
        schema = _texts(_reader(file.stream(held), file.name, None).schema)
        stream = file.stream(held)
        table = json.read_json(stream, json.ReadOptions(block_size=BLOCK), _parse(schema, "infer"))
    table.validate(full=True)
    return table


def _parse(schema: pa.Schema | None, unexpected: str) -> Any:
    return json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)


def _reader(stream: Any, name: str, schema: pa.Schema | None) -> Any:
    parse = _parse(schema, "infer" if schema is None else "error")
    read = json.ReadOptions(block_size=BLOCK)
    try:
        return json.open_json(stream, read, parse)
    except pa.ArrowInvalid as error:
        raise _located(error, name, 0) from error


def _schema(file: File, wanted: Wanted) -> pa.Schema:
    """Return the first block's schema, with vectors of floats though that block has whole ones."""
    with ExitStack() as held:
        reader = _reader(file.stream(held), file.name, None)
        head = next(_blocks(reader, file.name), None)
    if head is None:
        raise BadInput(f"{file.name} holds no rows: there is nothing to load", source=file.name)
    outside = ids_beside(head.schema, wanted) is not None
    schema = _texts(head.schema)
    head = pa.RecordBatch.from_arrays(
        [_column(head.column(i), each.type) for i, each in enumerate(schema)], schema=schema
    )
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


def _column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column that only serves the choice, where its type counts and not its values."""
    return column if column.type == kind else pa.nulls(len(column), kind)


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


def _blocks(reader: Any, name: str) -> Iterator[pa.RecordBatch]:
    """Pass on the blocks; Arrow looks neither at their text's encoding nor counts their rows."""
    rows = 0
    while True:
        try:
            block = next(reader, None)
        except pa.ArrowInvalid as error:
            raise _located(error, name, rows) from error
        if block is None:
            return
        _check_encoding(block, name, rows)
        rows += block.num_rows
        if block.num_rows:
            yield block


def _check_encoding(block: pa.RecordBatch, name: str, rows: int) -> None:
    try:
        block.validate(full=True)
    except pa.ArrowInvalid as error:
        for row in range(block.num_rows):
            try:
                block.slice(row, 1).validate(full=True)
            except pa.ArrowInvalid:
                raise BadInput(
                    f"{name} row {rows + row + 1}: a text is not valid UTF-8; mend or remove the"
                    " row and load again",
                    source=name,
                    row=rows + row + 1,
                ) from error
        raise


def _located(error: pa.ArrowInvalid, name: str, rows: int) -> BadInput:
    reason = " ".join(str(error).split()).removeprefix("JSON parse error: ")
    match = re.search(r"in row ([0-9]+)$", reason)
    row = rows + int(match[1]) + 1 if match else None
    place = f"{name} row {row}" if row else f"{name}, after row {rows}," if rows else name
    if "straddl" in reason:
        reason = f"a line is longer than {BLOCK} bytes"
    elif match:
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
    ),
)
