"""Delimited text, parsed by Arrow, with errors that name the row."""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from numpy.typing import NDArray

from ..errors import BadInput
from .sieve import ROW, BadRows, Place, Sieve, failing

# A row must fit: 16,000 dims as text are some 300 kB. Arrow's thread reads up to 32 blocks ahead of
# the parser, and no option says otherwise, so this also decides the memory: 64 MiB. Larger blocks
# are faster only for rows of some thousand columns.
BLOCK = 2 << 20
_CONVERSION = re.compile(r"In CSV column #([0-9]+): (?:Row #([0-9]+): )?(.*)", re.DOTALL)

_RAGGED = re.compile(
    r"CSV parse error: (?:Row #([0-9]+): )?Expected ([0-9]+) columns, got ([0-9]+)"
)


@dataclass(frozen=True)
class Dialect:
    """How a delimited text is written.

    Attributes
    ----------
    what, unit : str
        How messages call it, and its rows.
    header : int
        How many of the parser's row numbers are no rows.
    columns : sequence of str or None
        The columns' names, if the text does not begin with them.
    skip : int
        Lines before the first row.
    """

    what: str
    delimiter: str
    unit: str = "row"
    header: int = 1
    quoted: bool = True
    columns: Sequence[str] | None = None
    skip: int = 0
    nulls: tuple[str, ...] = ("",)


def open_text(
    stream: Any,
    name: str,
    dialect: Dialect,
    types: Mapping[str, pa.DataType],
    sieve: Sieve | None = None,
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Begin to parse; returns the schema and the blocks.

    Parameters
    ----------
    sieve : Sieve or None
        What becomes of rows that cannot be parsed. If they may be left out, ``types`` must name
        every column, and the blocks say which rows they hold.

    Raises
    ------
    BadInput
        Naming the row that cannot be parsed.
    """
    if sieve is not None and sieve.skips:
        return _Tolerant(name, dialect, types, sieve).open(stream)
    read, parse, convert = _options(dialect, types)
    names: list[str] = list(dialect.columns or types)
    with _located(name, dialect, names):
        reader = csv.open_csv(stream, read, parse, convert)
    names[:] = reader.schema.names

    def blocks() -> Iterator[pa.RecordBatch]:
        with _located(name, dialect, names):
            yield from reader

    return reader.schema, blocks()


def read_text(
    stream: Any, name: str, dialect: Dialect, types: Mapping[str, pa.DataType]
) -> pa.Table:
    """Parse all of it; types are settled by all rows.

    Raises
    ------
    BadInput
        Naming the row that cannot be parsed.
    """
    read, parse, convert = _options(dialect, types)
    with _located(name, dialect, []):
        return csv.read_csv(stream, read, parse, convert)


def first_block(
    stream: Any, name: str, dialect: Dialect, types: Mapping[str, pa.DataType], skips: bool
) -> pa.RecordBatch | None:
    """Return the first rows, with the types that they suggest where none is given.

    Parameters
    ----------
    skips : bool
        Leave out what cannot be parsed; `open_text` will meet it again.

    Raises
    ------
    BadInput
    """
    if skips:
        stream = _Repaired(stream)
    read, parse, convert = _options(dialect, types, (lambda _: "skip") if skips else None)
    with _located(name, dialect, []):
        reader = csv.open_csv(stream, read, parse, convert)
        return next((block for block in reader if block.num_rows), None)


# What stands for bytes that are no UTF-8; Arrow prints a traceback for a row of the wrong length
# that has some. ASCII's substitute character is no longer than what it stands for.
_SUBSTITUTE = "\x1a"
codecs.register_error("embstore.substitute", lambda error: (_SUBSTITUTE, error.end))  # type: ignore[attr-defined]


class _Repaired(io.RawIOBase):
    """A stream of valid UTF-8, whatever is in the one below."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("embstore.substitute")
        self.had_substitutes = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most as many bytes as asked for."""
        text, more = "", True
        while more and not text:
            chunk = self._stream.read(max(1, size - 3) if size >= 0 else -1)
            more = bool(chunk)
            text = self._decoder.decode(chunk, final=not more)
        self.had_substitutes = self.had_substitutes or _SUBSTITUTE in text
        return text.encode()


class _Tolerant:
    """Parses what can be parsed: fields as texts first, each column's values after that.

    Arrow can pass over rows with too few or too many fields, but not over values of the wrong type.
    """

    def __init__(
        self, name: str, dialect: Dialect, types: Mapping[str, pa.DataType], sieve: Sieve
    ) -> None:
        self._place = Place(name, dialect.unit, 1 + dialect.skip)
        self._dialect, self._types, self._sieve = dialect, types, sieve
        # Rows of another length: what the parser has met, in a thread that reads ahead, and which
        # of them (from 0, ascending) are noted.
        self._met: deque[tuple[int, str]] = deque()
        self._noted: list[int] = []

    def open(self, stream: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        repaired = _Repaired(stream)
        texts = dict.fromkeys(self._types, pa.string())
        with _located(self._place.source, self._dialect, []):
            reader = csv.open_csv(repaired, *_options(self._dialect, texts, self._meet))
        schema = pa.schema([(each, self._types[each]) for each in reader.schema.names])
        return schema, self._blocks(reader, repaired, self._sieve.schema(schema))

    def _blocks(
        self, reader: Any, repaired: _Repaired, schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        def convert(block: pa.RecordBatch) -> pa.RecordBatch:
            if repaired.had_substitutes:
                _check_texts(block)
            return _typed(block, schema)

        whole = 0  # rows with as many fields as there are columns
        while True:
            with _located(self._place.source, self._dialect, []):
                block = next(reader, None)
            self._note()
            if block is None:
                return
            rows = _without(self._noted, whole, block.num_rows)
            whole += block.num_rows
            block = block.append_column(schema.field(ROW), pa.array(rows))
            typed = self._sieve.sift(block, self._place, 0, convert)
            self._sieve.unparsed += block.num_rows - typed.num_rows
            yield typed

    def _meet(self, row: Any) -> str:
        at = row.number - self._dialect.header - self._place.first
        problem = f"{row.actual_columns} fields where {row.expected_columns} are expected"
        self._met.append((at, problem))
        return "skip"

    def _note(self) -> None:
        while self._met:
            at, problem = self._met.popleft()
            self._noted.append(at)
            self._sieve.unparsed += 1
            self._sieve.refuse(self._place, at, None, problem, None)


def _without(gone: Sequence[int], at: int, count: int) -> NDArray[np.int64]:
    """Return the numbers of the rows ``at`` to ``at + count`` of those that are not gone."""
    left = np.arange(at, at + count)
    before = np.asarray(gone, np.int64) - np.arange(len(gone))
    return left + np.searchsorted(before, left, side="right")


def _check_texts(block: pa.RecordBatch) -> None:
    for name, column in zip(block.schema.names, block.columns, strict=True):
        if pa.types.is_string(column.type):
            found = pc.match_substring(column, _SUBSTITUTE).fill_null(False)
            if rows := np.flatnonzero(found.to_numpy(zero_copy_only=False)).tolist():
                problem = f"column {name!r}: the text is not valid UTF-8"
                raise BadRows(rows, problem, None, name)


def _typed(block: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Turn columns of text into what they shall be."""
    arrays = []
    for field, column in zip(schema, block.columns, strict=True):
        try:
            arrays.append(_cast(column, field.type))
        except pa.ArrowInvalid:
            bad = failing(column, partial(_cast, kind=field.type))
            raise BadRows(bad, partial(_problem, column, field), None, field.name) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else pc.utf8_trim_whitespace(column).cast(kind)


def _problem(column: pa.Array, field: pa.Field, row: int) -> str:
    return f"column {field.name!r}: {column[row].as_py()[:100]!r} is no {field.type}"


def _options(
    dialect: Dialect,
    types: Mapping[str, pa.DataType],
    ragged: Callable[[Any], str] | None = None,
) -> tuple[Any, Any, Any]:
    return (
        # One thread: only then does Arrow number the rows in its errors. It costs nothing measured,
        # 207k against 170k rows/s at 64 dims.
        csv.ReadOptions(
            block_size=BLOCK,
            use_threads=False,
            column_names=dialect.columns,
            skip_rows=dialect.skip,
        ),
        csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char='"' if dialect.quoted else False,
            double_quote=dialect.quoted,
            newlines_in_values=dialect.quoted,
            ignore_empty_lines=dialect.quoted,
            invalid_row_handler=ragged,
        ),
        csv.ConvertOptions(
            column_types=dict(types),
            null_values=list(dialect.nulls),
            strings_can_be_null=bool(dialect.nulls),
            quoted_strings_can_be_null=False,
        ),
    )


@contextmanager
def _located(name: str, dialect: Dialect, names: list[str]) -> Iterator[None]:
    """Turn Arrow's errors into sentences that name the row."""
    try:
        yield
    except pa.ArrowInvalid as error:
        row = column = None
        if match := _RAGGED.match(str(error)):
            row = int(match[1]) if match[1] else None
            problem = f"{match[3]} fields where {match[2]} are expected"
        elif match := _CONVERSION.fullmatch(str(error)):
            row = int(match[2]) if match[2] else None
            at = int(match[1])
            column = names[at] if at < len(names) else None
            problem = f"column {column!r}: {match[3]}" if column else match[3]
        elif "straddl" in str(error):
            problem = f"a {dialect.unit} is longer than {BLOCK} bytes, or a quote is not closed"
        else:
            raise
        number = None if row is None else row - dialect.header
        place = name if number is None else f"{name} {dialect.unit} {number}"
        raise BadInput(
            f"{place} cannot be read as {dialect.what}: {' '.join(problem.split())}; mend or remove"
            " the row and load again",
            source=name,
            row=number,
            column=column,
        ) from error
