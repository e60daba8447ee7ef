"""CSV and TSV with a header line; rows are counted without it and without empty lines."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.compute as pc

from ...errors import BadInput
from ..base import ID, Opened, Wanted
from ..columns import as_integers
from ..layout import is_number
from ..registry import Format
from ..sieve import passing
from ..source import File
from ..tables import chosen_columns, ids_beside, opened_table
from ..textual import Dialect, first_block, open_text, read_text


def open_delimited(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a file with a header line.

    Types are settled by the first block: whole numbers are ids as bigint only if they are written
    as bigint prints them, so ``007`` stays text. Only an empty field without quotes is null, as
    for Postgres.
    """
    dialect = _dialect(file)
    types, whole_ids = _types(file, dialect, wanted)
    schema, blocks = open_text(file.stream(held), file.name, dialect, types, wanted.sieve)
    return opened_table(
        file.name,
        schema,
        blocks,
        wanted,
        whole_ids=whole_ids,
        provenance=file.provenance("tsv" if dialect.delimiter == "\t" else "csv"),
    )


def read_delimited(file: File, ids: str | None) -> pa.Table:
    """Read a whole file, for attributes; its ids stay text unless all are integers."""
    dialect = _dialect(file)
    names = _first_block(file, dialect, {}, False).schema.names
    own = ids or (ID if ID in names else names[0])
    with ExitStack() as held:
        table = read_text(file.stream(held), file.name, dialect, {own: pa.string()})
    if own not in names:
        return table
    place = names.index(own)
    whole = as_integers(pa.concat_arrays([pa.array([], pa.string()), *table.column(place).chunks]))
    return table if whole is None else table.set_column(place, own, whole)


def _dialect(file: File) -> Dialect:
    """Return what separates the fields: by the name, else by the first line."""
    line = file.head().split(b"\n")[0]
    tabs = file.ending in {".tsv", ".tab"} or line.count(b"\t") > line.count(b",")
    return Dialect("CSV", "\t" if tabs else ",")


def _first_block(
    file: File, dialect: Dialect, types: dict[str, pa.DataType], skips: bool
) -> pa.RecordBatch:
    with ExitStack() as held:
        block = first_block(file.stream(held), file.name, dialect, types, skips)
    if block is None:
        raise BadInput(f"{file.name} holds no rows: there is nothing to load", source=file.name)
    return block


def _types(file: File, dialect: Dialect, wanted: Wanted) -> tuple[dict[str, pa.DataType], bool]:
    """Settle every column's type, and whether ids are integers, by the first block."""
    skips = wanted.sieve.skips
    head = _with_numbers(_first_block(file, dialect, {}, skips))
    own = wanted.ids if isinstance(wanted.ids, str) else ID
    texts = {
        each.name: pa.string()
        for each in head.schema
        # What is no UTF-8, which is then refused with its row; ids beyond bigint.
        if pa.types.is_binary(each.type) or (each.name == own and pa.types.is_floating(each.type))
    }
    if texts:
        head = _with_numbers(_first_block(file, dialect, texts, skips))
    outside = ids_beside(head.schema, wanted, file.name) is not None
    chosen = chosen_columns(head, file.name, wanted, outside)
    # A column of which the first block has no value is text.
    types = {
        each.name: pa.string() if pa.types.is_null(each.type) else each.type for each in head.schema
    }
    single = pa.string() if len(chosen.vectors) == 1 else pa.float32()
    types |= dict.fromkeys(chosen.vectors, single)
    if chosen.id is None:
        return types, False
    types[chosen.id] = pa.string()
    if wanted.id_type is not None:
        return types, False
    again = _first_block(file, dialect, {chosen.id: pa.string()}, skips)
    texts = again.column(chosen.id).drop_null()
    return types, len(texts) > 0 and as_integers(texts) is not None


def _with_numbers(head: pa.RecordBatch) -> pa.RecordBatch:
    """Make numbers of a text column that is called v1 beside a v0 of numbers, and is mostly such.

    So one bad value is found where it is, instead of leaving a gap between v0 and v2.
    """
    stems = {_stem(each.name) for each in head.schema if is_number(each.type)}
    for place, field in enumerate(head.schema):
        if pa.types.is_string(field.type) and _stem(field.name) in stems - {None}:
            texts = pc.utf8_trim_whitespace(head.column(place))
            numbers = passing(texts, lambda part: part.cast(pa.float64()))
            if 2 * len(numbers) > len(texts):
                head = head.set_column(place, field.name, pa.nulls(len(head), pa.float64()))
    return head


def _stem(name: str) -> str | None:
    found = re.fullmatch(r"(.*?)[0-9]+", name, re.DOTALL | re.ASCII)
    return found[1] if found else None


FORMATS = (
    Format(
        "csv",
        "CSV",
        (".csv", ".tsv", ".tab"),
        "CSV or TSV with a header line; columns as in Parquet, or lists as text",
        open_delimited,
        lambda head, _: re.match(rb"[^\n\x00]*[,\t][^\n\x00]*\n", head) is not None,
        weak=True,
        read=read_delimited,
        streams=True,
    ),
)
