"""JSON lines, parsed by Arrow: an object a line, the vector an array in it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.json as json

from ...errors import BadInput
from ..base import Opened, Wanted
from ..layout import is_text, is_vector
from ..registry import Format
from ..sieve import Place, Sieve
from ..source import File
from ..tables import chosen_columns, ids_beside, opened_table
from ..textual import BLOCK


def open_jsonl(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a file of JSON objects, one a line; fields are settled by the first block.

    A text stays a text, also where it looks like a date. A key that is there twice is an error.
    """
    schema = _schema(file, wanted)
    if wanted.sieve.skips:
        batches = _tolerant(file.stream(held), file.name, schema, wanted.sieve)
    else:
        batches = _blocks(_reader(_stream(file, held), file.name, schema), file.name)
    return opened_table(file.name, schema, batches, wanted, provenance=file.provenance("jsonl"))


def read_jsonl(file: File) -> pa.Table:
    """Read a whole file, for attributes."""
    with ExitStack() as held:
        schema = _texts(_reader(_stream(file, held), file.name, None).schema)
        stream = _stream(file, held)
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
        if wanted.sieve.skips:
            head = _head(file.stream(held), file.name)
        else:
            reader = _reader(_stream(file, held), file.name, None)
            head = next((each for each in reader if each.num_rows), None)
    if head is None:
        raise BadInput(f"{file.name} holds no rows: there is nothing to load", source=file.name)
    schema = _texts(head.schema)
    head = pa.RecordBatch.from_arrays(
        [_column(head.column(i), each.type) for i, each in enumerate(schema)], schema=schema
    )
    _check(head, file.name, 0)
    outside = ids_beside(schema, wanted, file.name) is not None
    chosen = chosen_columns(head, file.name, wanted, outside)
    fields = []
    for each in schema:
        kind = each.type
        if each.name in chosen.vectors:
            kind = pa.list_(pa.float32()) if is_vector(kind) else kind
            kind = pa.float32() if len(chosen.vectors) > 1 else kind
        fields.append(pa.field(each.name, kind))
    return pa.schema(fields)


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
        _check(block, name, rows)
        rows += block.num_rows
        if block.num_rows:
            yield block


def _check(block: pa.RecordBatch, name: str, rows: int) -> None:
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


class _Lines(io.RawIOBase):
    """The file for Arrow, which crashes where a block begins with null (apache/arrow#47409)."""

    # Two, because a search that begins with one certain byte is the fastest.
    _NULL = tuple(re.compile(each + rb"[ \t\r\n\xef\xbb\xbf]*null") for each in (rb"\n", rb"\r"))
    _CUT = re.compile(rb"[\r\n][ \t\r\n\xef\xbb\xbf]*(n(u(l)?)?)?\Z")

    def __init__(self, stream: Any, name: str) -> None:
        super().__init__()
        self._stream, self._name = stream, name
        self._before, self._line = b"\n", 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read bytes, and refuse a line that is null.

        Raises
        ------
        BadInput
        """
        data = bytes(self._stream.read(size))
        seen = self._before + data
        for each in self._NULL:
            if found := each.search(seen):
                line = self._line + seen.count(b"\n", 0, found.end())
                raise BadInput(
                    f"{self._name} line {line} holds null and no object; remove the line and load"
                    " again",
                    source=self._name,
                    row=line,
                )
        cut = self._CUT.search(seen, max(0, len(seen) - 100))
        self._before = cut[0] if cut else b""
        self._line += seen.count(b"\n") - self._before.count(b"\n")
        return data


def _stream(file: File, held: ExitStack) -> _Lines:
    return _Lines(file.stream(held), file.name)


def _tolerant(stream: Any, name: str, schema: pa.Schema, sieve: Sieve) -> Iterator[pa.RecordBatch]:
    """Parse what can be parsed; the rows that are left out are noted as lines' rows."""
    place, rows = Place(name), 0
    for block in _whole_lines(stream, name):
        begin = rows
        for at, count, found in _parsed(block, _parse(schema, "error")):
            if isinstance(found, pa.Table):
                columns = [found.column(each).combine_chunks() for each in schema.names]
                batch = pa.RecordBatch.from_arrays(columns, schema=schema)
                yield sieve.numbered(batch, begin + at)
            else:
                sieve.refuse(place, begin + at, None, found, None)
                sieve.unparsed += 1
            rows = begin + at + count


def _head(stream: Any, name: str) -> pa.RecordBatch | None:
    """Return the rows of the first block that agree on what their fields hold, or most of them."""
    block = next(_whole_lines(stream, name), b"")
    parts = [found for *_, found in _parsed(block, _parse(None, "infer"))]
    head = pa.table({})
    for part in sorted((each for each in parts if isinstance(each, pa.Table)), key=len)[::-1]:
        try:
            head = pa.concat_tables([head, part], promote_options="permissive") if head else part
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            continue  # too few to say what a field holds
    return head.combine_chunks().to_batches()[0] if head.num_rows else None


def _whole_lines(stream: Any, name: str) -> Iterator[bytes]:
    """Give blocks that end where a line does."""
    rest = b""
    while chunk := stream.read(BLOCK):
        lines, _, rest = (rest + chunk).rpartition(b"\n")
        if len(rest) > BLOCK:
            raise BadInput(
                f"{name}: a line is longer than {BLOCK} bytes; mend or remove it and load again",
                source=name,
            )
        if lines.strip():
            yield lines
    if rest.strip():
        yield rest


def _parsed(block: bytes, parse: Any) -> Iterator[tuple[int, int, pa.Table | str]]:
    """Parse a block, or its halves: gives the first row, how many, and they or what is wrong.

    Arrow stops at the first bad row. Empty lines are no rows.
    """
    try:
        table = _strict(block, parse)
    except pa.ArrowInvalid:
        lines = [each for each in block.split(b"\n") if each.strip()]
    else:
        yield 0, table.num_rows, table
        return
    waiting = [(0, len(lines))]
    while waiting:
        at, count = waiting.pop()
        half = count // 2
        try:
            table = _strict(b"\n".join(lines[at : at + count]), parse)
            if table.num_rows != count:
                raise pa.ArrowInvalid("it is not one object")
            yield at, count, table
        except pa.ArrowInvalid as error:
            if count == 1:
                yield at, 1, _reason(error)
            else:
                waiting += [(at + half, count - half), (at, half)]


def _strict(lines: bytes, parse: Any) -> pa.Table:
    # One block, as large as it must be: a block's end inside a line would be another error.
    read = json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    table = json.read_json(pa.BufferReader(lines), read, parse)
    table.validate(full=True)
    return table


def _reason(error: pa.ArrowInvalid) -> str:
    reason = " ".join(str(error).split()).removeprefix("JSON parse error: ")
    if "UTF8" in reason:
        return "a text is not valid UTF-8"
    return "it cannot be read as JSON: " + re.sub(r" in row [0-9]+$", "", reason).rstrip(" .")


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
        streams=True,
    ),
)
