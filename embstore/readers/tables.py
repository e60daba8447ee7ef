"""From any stream of record batches to an `Opened`: what all readers of tables share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import BadInput
from .base import ID, Ids, Opened, Picked, Wanted
from .columns import Conversion, parse_texts
from .ids import id_array, outside_ids
from .layout import Layout, is_text, is_vector, layout, pandas_index
from .sieve import passing

# Two numbers or more, with or without brackets.
_LIKE_A_VECTOR = re.compile(
    r"\s*[\[({]?\s*[-+]?[0-9.]+(e[-+]?[0-9]+)?([\s,;]+[-+]?([0-9.]+(e[-+]?[0-9]+)?|nan|inf))+"
    r"\s*[\])}]?\s*|\s*\[\s*[-+0-9.e]+\s*\]\s*",
    re.IGNORECASE | re.ASCII,
)
# A longer text is compared by its beginning.
_SAMPLE = 4096
# How many rows tell the dim where the first may be bad.
_ROWS = 1000


def opened_table(
    name: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    wanted: Wanted,
    *,
    rows: int | None = None,
    whole_ids: bool = False,
    provenance: Mapping[str, object] | None = None,
) -> Opened:
    """Choose the columns and convert the batches as they come.

    Raises
    ------
    BadInput
        When there are no rows, or the choice is not plain.
    """
    outside = ids_beside(schema, wanted, name)
    given = iter(batches)
    first = next((each for each in given if each.num_rows), None)
    if first is None:
        raise BadInput(f"{name} holds no rows: there is nothing to load", source=name)
    chosen = chosen_columns(first.select(schema.names), name, wanted, outside is not None)
    dim = _dim(chosen, first, name, wanted.sieve.skips)
    conversion = Conversion(chosen, schema, dim, name, outside, whole_ids, wanted.sieve)
    return Opened(
        name,
        conversion.schema,
        conversion.batches(chain([first], given)),
        rows,
        provenance=provenance or {},
    )


def ids_beside(schema: pa.Schema, wanted: Wanted, name: str) -> Ids | None:
    """Return the ids that are in no column: given apart, or the named range of a pandas frame."""
    index = pandas_index(schema)
    if isinstance(index, tuple):
        label, numbers = index
        if (isinstance(wanted.ids, str) and wanted.ids == label) or (
            wanted.ids is None and ID not in schema.names
        ):
            return id_array(numbers, label)
    ids = outside_ids(wanted.ids, schema.names, name)
    if isinstance(ids, Picked):
        raise BadInput("a vocabulary gives the rows of a matrix their ids; name the id column")
    return ids


def chosen_columns(batch: pa.RecordBatch, name: str, wanted: Wanted, outside: bool) -> Layout:
    """Choose the columns by their names, their types and the first rows."""
    ids = wanted.ids if isinstance(wanted.ids, str) and not outside else None
    texts = _vector_texts(batch)
    return layout(batch.schema, name, ids, wanted.vectors, outside=outside, texts=texts)


def _vector_texts(batch: pa.RecordBatch) -> Sequence[str]:
    """Columns whose first text is written like a list of numbers."""
    found = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if is_text(field.type) and len(texts := column.drop_null()):
            text = str(texts[0].as_py())
            # The sample of a long text ends at a comma, where its first half is still a list.
            if len(text) > _SAMPLE:
                text = re.split(r"[\s,;]+\S*$", text[:_SAMPLE])[0]
            if _LIKE_A_VECTOR.fullmatch(text):
                found.append(field.name)
    return found


def _dim(chosen: Layout, batch: pa.RecordBatch, name: str, skips: bool) -> int:
    """Return the dim, from the types or from the first row; where that may be bad, from most."""
    if len(chosen.vectors) > 1:
        return len(chosen.vectors)
    column = batch.column(chosen.vectors[0])
    if pa.types.is_fixed_size_list(column.type):
        return _at_least_one(int(column.type.list_size), name)
    if skips:
        return _usual_dim(column, name)
    if not column[0].is_valid:
        raise BadInput(
            f"{name} row 1: the vector is missing; mend or remove the row and load again",
            source=name,
            row=1,
            column=chosen.vectors[0],
        )
    first = column.slice(0, 1)
    if not is_vector(first.type):
        try:
            first = parse_texts(first)
        except pa.ArrowInvalid as error:
            raise BadInput(
                f"{name} row 1: no vector ({error}); mend or remove the row and load again",
                source=name,
                row=1,
                column=chosen.vectors[0],
            ) from error
    return _at_least_one(int(pc.list_value_length(first)[0].as_py()), name)


def _usual_dim(column: pa.Array, name: str) -> int:
    """Return the dim that most of the first rows have."""
    first = column.slice(0, _ROWS).drop_null()
    if not is_vector(first.type):
        first = parse_texts(passing(first, parse_texts))
    lengths = pc.list_value_length(first)
    found = pc.mode(lengths.filter(pc.greater(lengths, 0)))
    if not len(found):
        raise BadInput(
            f"{name}: not one of its first {len(column)} rows has a vector; mend the file",
            source=name,
        )
    return int(found[0]["mode"].as_py())


def _at_least_one(dim: int, name: str) -> int:
    if not dim:
        raise BadInput(
            f"{name} row 1: the vector has no components; mend or remove the row and load again",
            source=name,
            row=1,
        )
    return dim
