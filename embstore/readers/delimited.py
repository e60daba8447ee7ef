"""CSV and TSV, parsed by Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from ..errors import BadInput
from ..types import IdType
from .base import ID, Opened
from .columns import layout
from .idfile import outside_ids
from .source import File
from .tables import opened_table

# A record must fit; 16,000 dims as text are some 200 kB.
BLOCK = 4 << 20
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"


@contextmanager
def open_delimited(
    file: File, ids: object, vectors: str | None, id_type: IdType | None = None
) -> Iterator[Opened]:
    """Open a file with a header line.

    Types are settled by the first block: whole numbers are ids as bigint only if they are written
    as bigint prints them, so ``007`` stays text.
    """
    delimiter = delimiter_of(file)
    with file.reading("CSV"):
        types = _types(file, delimiter, ids, vectors, id_type)
        with file.stream() as stream:
            reader = _reader(stream, delimiter, types)

            def batches() -> Iterator[pa.RecordBatch]:
                with file.reading("CSV"):
                    yield from reader

            yield opened_table(
                file.name,
                reader.schema,
                batches(),
                ids,
                vectors,
                provenance=file.provenance("tsv" if delimiter == "\t" else "csv"),
            )


def read_delimited(file: File, ids: str | None = None) -> pa.Table:
    """Read a whole file, for attributes."""
    delimiter = delimiter_of(file)
    with file.reading("CSV"):
        head = _first_block(file, delimiter, {})
        own = ids or (ID if ID in head.schema.names else head.schema.names[0])
        types = {own: _id_type(file, delimiter, own)} if own in head.schema.names else {}
        with file.stream() as stream:
            return _reader(stream, delimiter, types).read_all()


def delimiter_of(file: File) -> str:
    """Return what separates the fields: by the name, else by the first line."""
    if file.ending in {".tsv", ".tab"}:
        return "\t"
    line = file.head().split(b"\n")[0]
    return "\t" if line.count(b"\t") > line.count(b",") else ","


def _reader(stream: Any, delimiter: str, types: dict[str, pa.DataType]) -> Any:
    return csv.open_csv(
        stream,
        read_options=csv.ReadOptions(block_size=BLOCK),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False,
            null_values=["", "NULL", "null", "NA"],
        ),
    )


def _first_block(file: File, delimiter: str, types: dict[str, pa.DataType]) -> pa.RecordBatch:
    with file.stream() as stream:
        block = next(iter(_reader(stream, delimiter, types)), None)
        if block is None:
            raise BadInput(
                f"{file.name} holds no rows: there is nothing to load", source=file.name
            )
        return block


def _types(
    file: File, delimiter: str, ids: object, vectors: str | None, id_type: IdType | None
) -> dict[str, pa.DataType]:
    """Settle the types that inference from some rows gets wrong: components and ids."""
    head = _first_block(file, delimiter, {})
    outside = outside_ids(ids, head.schema.names) is not None
    texts = [n for n in head.schema.names if pa.types.is_string(head.schema.field(n).type)]
    chosen = layout(
        head.schema,
        file.name,
        ids if isinstance(ids, str) and not outside else None,
        vectors,
        outside_ids=outside,
        texts=[n for n in texts if str(head.column(n)[0].as_py() or "").lstrip().startswith("[")]
        if head.num_rows
        else (),
    )
    single = pa.string() if len(chosen.vectors) == 1 else pa.float32()
    types = dict.fromkeys(chosen.vectors, single)
    if chosen.id is not None:
        as_text = id_type is IdType.TEXT
        types[chosen.id] = pa.string() if as_text else _id_type(file, delimiter, chosen.id)
    return types


def _id_type(file: File, delimiter: str, column: str) -> pa.DataType:
    texts = _first_block(file, delimiter, {column: pa.string()}).column(column).drop_null()
    whole = pc.all(pc.match_substring_regex(texts, _INTEGER)).as_py()
    return pa.int64() if len(texts) and whole else pa.string()
