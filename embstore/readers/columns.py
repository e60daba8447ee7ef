"""Columns of a table: which is the id, which the vector, and batches made of them.

Every reader of tables (Parquet, Arrow, CSV, JSON lines, frames) ends here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import BadInput
from .base import EMBEDDING, ID, MAX_BATCH_ROWS

MAX_BIGINT = 2**63 - 1


@dataclass(frozen=True)
class Layout:
    """Which column is what.

    Attributes
    ----------
    id : str or None
        None when the ids come from elsewhere.
    vectors : tuple of str
        One column of lists (or of text), or a column per dimension.
    attributes : tuple of str
    """

    id: str | None
    vectors: tuple[str, ...]
    attributes: tuple[str, ...]


def layout(
    schema: pa.Schema,
    name: str,
    ids: str | None,
    vectors: str | None,
    *,
    outside_ids: bool = False,
    texts: Sequence[str] = (),
) -> Layout:
    """Choose the columns.

    Parameters
    ----------
    ids, vectors : str or None
        What the user named.
    outside_ids : bool
        The ids come from elsewhere.
    texts : sequence of str
        Columns whose text looks like a vector.

    Raises
    ------
    BadInput
        When a name is not there, or the choice is not plain.
    """
    names = schema.names
    if len(set(names)) != len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise BadInput(f"{name} has two columns called {twice!r}: rename one", source=name)
    chosen = _vector_columns(schema, name, ids, vectors, texts)
    rest = [each for each in names if each not in chosen]
    if outside_ids:
        return Layout(None, chosen, tuple(rest))
    own = _id_column(schema, name, ids, rest)
    return Layout(own, chosen, tuple(each for each in rest if each != own))


def _vector_columns(
    schema: pa.Schema, name: str, ids: str | None, vectors: str | None, texts: Sequence[str]
) -> tuple[str, ...]:
    groups = _numbered(schema, ids)
    if vectors is not None:
        if vectors in schema.names:
            kind = schema.field(vectors).type
            if not (is_vector(kind) or _is_text(kind)):
                raise BadInput(
                    f"{name}: column {vectors!r} has type {kind} and holds no vectors",
                    source=name,
                    column=vectors,
                )
            return (vectors,)
        if vectors in groups:
            return groups[vectors]
        raise BadInput(
            f"{name} has no column {vectors!r}: it has {_listed(schema.names)}", source=name
        )
    lists = [each.name for each in schema if is_vector(each.type)]
    candidates = [(each,) for each in lists] or list(groups.values()) or [(each,) for each in texts]
    if EMBEDDING in lists:
        return (EMBEDDING,)
    if not candidates:
        raise BadInput(
            f"{name} has no column of vectors: it has {_listed(schema.names)}; name one with"
            " --vectors",
            source=name,
        )
    if len(candidates) > 1:
        shown = _listed([each[0] if len(each) == 1 else f"{each[0]}..." for each in candidates])
        raise BadInput(f"{name}: the vectors could be {shown}; say with --vectors", source=name)
    return candidates[0]


def _numbered(schema: pa.Schema, ids: str | None) -> dict[str, tuple[str, ...]]:
    """Columns of numbers called v0, v1, ... or v1, v2, ...: by their common beginning."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for each in schema:
        match = re.fullmatch(r"(.*?)(0|[1-9][0-9]*)", each.name)
        if match and _is_number(each.type) and each.name != ids:
            found[match[1]][int(match[2])] = each.name
    groups = {}
    for prefix, columns in found.items():
        start = min(columns)
        if start in (0, 1) and len(columns) > 1 and max(columns) == start + len(columns) - 1:
            groups[prefix] = tuple(columns[i] for i in sorted(columns))
    return groups


def _id_column(schema: pa.Schema, name: str, ids: str | None, rest: list[str]) -> str:
    if ids is not None:
        if ids not in rest:
            raise BadInput(
                f"{name} has no column or file {ids!r} for the ids: its columns are {_listed(rest)}",
                source=name,
            )
        check_id_type(schema.field(ids).type, name, ids)
        return ids
    if ID in rest:
        check_id_type(schema.field(ID).type, name, ID)
        return ID
    candidates = [each for each in rest if _is_id(schema.field(each).type)]
    if len(candidates) != 1:
        what = f"could be {_listed(candidates)}" if candidates else "are not there"
        raise BadInput(f"{name}: the ids {what}; say with --ids NAME or --ids FILE", source=name)
    return candidates[0]


def check_id_type(kind: pa.DataType, name: str, column: str) -> None:
    """Refuse a column that cannot hold ids.

    Raises
    ------
    BadInput
    """
    if not _is_id(kind):
        raise BadInput(
            f"{name}: column {column!r} has type {kind} and cannot hold ids, which are integers or"
            " text",
            source=name,
            column=column,
        )


def is_vector(kind: pa.DataType) -> bool:
    """Tell whether a column of this type can hold vectors."""
    is_list = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    return bool(is_list and _is_number(kind.value_type))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_id(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(value) or _is_text(value))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:12]))
    return f"{shown}, ..." if len(names) > 12 else shown or "none"


class Conversion:
    """Turns batches as a parser gives them into batches as `Opened` promises them."""

    def __init__(
        self, chosen: Layout, schema: pa.Schema, dim: int, name: str, unit: str, first: int
    ) -> None:
        self.chosen, self.dim = chosen, dim
        self._name, self._unit, self._first = name, unit, first
        fields = []
        if chosen.id is not None:
            kind = schema.field(chosen.id).type
            value = kind.value_type if pa.types.is_dictionary(kind) else kind
            fields.append(pa.field(ID, pa.int64() if pa.types.is_integer(value) else pa.string()))
        component = component_type([schema.field(each).type for each in chosen.vectors])
        fields.append(pa.field(EMBEDDING, pa.list_(component, dim)))
        fields += [pa.field(each, plain(schema.field(each).type)) for each in chosen.attributes]
        self.schema = pa.schema(fields)
        self._component = component
        self._rows = 0

    def batches(
        self, given: Iterable[pa.RecordBatch], ids: pa.Array | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Convert; ``ids`` are those from elsewhere, aligned with all rows."""
        for batch in given:
            for at in range(0, batch.num_rows, MAX_BATCH_ROWS):
                part = batch.slice(at, MAX_BATCH_ROWS)
                yield self._convert(part, ids)
                self._rows += part.num_rows
        if ids is not None and self._rows != len(ids):
            raise count_mismatch(self._name, self._rows, len(ids))

    def _convert(self, batch: pa.RecordBatch, ids: pa.Array | None) -> pa.RecordBatch:
        if ids is None:
            assert self.chosen.id is not None
            own = self._ids(batch.column(self.chosen.id))
        else:
            own = ids.slice(self._rows, batch.num_rows)
            if len(own) != batch.num_rows:
                raise count_mismatch(self._name, self._rows + batch.num_rows, len(ids))
        vectors = self._vectors([batch.column(each) for each in self.chosen.vectors], own)
        columns = {ID: own, EMBEDDING: vectors}
        for each in self.chosen.attributes:
            column = batch.column(each)
            target = plain(column.type)
            columns[each] = column if column.type == target else column.cast(target)
        arrays = [columns.get(each.name) for each in self.schema]
        if self.chosen.id is None:
            arrays = [own, *arrays]
        return pa.RecordBatch.from_arrays(arrays, schema=self.full_schema(own.type))

    def full_schema(self, id_type: pa.DataType) -> pa.Schema:
        """Return the schema of the batches, the id included."""
        if self.chosen.id is not None:
            return self.schema
        return pa.schema([pa.field(ID, id_type), *self.schema])

    def _ids(self, column: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.type == pa.uint64() and len(column):
            large = pc.greater(column, pa.scalar(MAX_BIGINT, pa.uint64()))
            if pc.any(large).as_py():
                row = pc.index(large, True).as_py()
                raise self.refuse(row, column[row].as_py(), "the id is beyond bigint", ID)
        return column.cast(pa.int64() if pa.types.is_integer(column.type) else pa.string())

    def _vectors(self, columns: list[pa.Array], ids: pa.Array) -> pa.Array:
        if len(columns) > 1 or not is_vector(columns[0].type):
            if len(columns) == 1:
                return self._vectors([parse_texts(columns[0])], ids)
            values = [self._values(each, ids) for each in columns]
            flat = np.column_stack(values).ravel()
        else:
            column = columns[0]
            if column.null_count:
                row = pc.index(pc.is_null(column), True).as_py()
                raise self.refuse(row, ids[row].as_py(), "the vector is missing")
            if not pa.types.is_fixed_size_list(column.type):
                lengths = pc.list_value_length(column)
                ragged = pc.not_equal(lengths, self.dim)
                if pc.any(ragged).as_py():
                    row = pc.index(ragged, True).as_py()
                    raise self.refuse(
                        row,
                        ids[row].as_py(),
                        f"{lengths[row].as_py()} components where the first row has {self.dim}",
                    )
            flat = self._values(column.flatten(), ids)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), self.dim)

    def _values(self, flat: pa.Array, ids: pa.Array) -> Any:
        if flat.null_count:
            per_row = max(1, len(flat) // max(1, len(ids)))
            place = pc.index(pc.is_null(flat), True).as_py()
            row = place // per_row
            raise self.refuse(row, ids[row].as_py(), "a component is missing")
        target = self._component.to_pandas_dtype()
        with np.errstate(over="ignore"):
            return flat.to_numpy(zero_copy_only=False).astype(target, copy=False)

    def refuse(
        self, row: int, key: object, problem: str, column: str = EMBEDDING
    ) -> BadInput:
        """Build the error for row ``row`` of the batch at hand."""
        number = self._first + self._rows + row
        return BadInput(
            f"{self._name} {self._unit} {number} (id {key!r}): {problem};"
            " mend or remove the row and load again",
            source=self._name,
            row=number,
            id=key,  # type: ignore[arg-type]
            column=column,
        )


def count_mismatch(name: str, vectors: int, ids: int) -> BadInput:
    """Build the error for ids that do not fit their vectors."""
    return BadInput(
        f"{name}: there are {ids} ids for {vectors} vectors;"
        " give one id per vector",
        source=name,
    )


def component_type(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """Return the float type that holds what these columns hold."""
    values = [kind.value_type if is_vector(kind) else kind for kind in kinds]
    if any(pa.types.is_float64(each) for each in values):
        return pa.float64()
    if values and all(pa.types.is_float16(each) for each in values):
        return pa.float16()
    return pa.float32()


def plain(kind: pa.DataType) -> pa.DataType:
    """Return an attribute's type without dictionaries and the many kinds of string."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    return pa.string() if _is_text(kind) else kind


def parse_texts(column: pa.Array) -> pa.Array:
    """Parse texts such as ``[0.1, 0.2]`` or ``0.1 0.2`` into lists."""
    inner = pc.utf8_trim(column.cast(pa.string()), "[](){} \t")
    spaced = pc.replace_substring_regex(inner, pattern=r"[,;\s]+", replacement=" ")
    return pc.split_pattern(spaced, " ").cast(pa.list_(pa.float32()))


def dim_of(chosen: Layout, batch: pa.RecordBatch | None, schema: pa.Schema, name: str) -> int:
    """Return the dim, from the types or from the first row.

    Raises
    ------
    BadInput
        When there is no row to tell it.
    """
    if len(chosen.vectors) > 1:
        return len(chosen.vectors)
    kind = schema.field(chosen.vectors[0]).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    if batch is None or not batch.num_rows:
        raise BadInput(f"{name} holds no rows: there is nothing to load", source=name)
    column = batch.column(chosen.vectors[0]).drop_null()
    if not len(column):
        raise BadInput(
            f"{name} row 1: the vector is missing; mend or remove the row and load again",
            source=name,
            row=1,
        )
    column = column.slice(0, 1)
    if not is_vector(column.type):
        column = parse_texts(column)
    return int(pc.list_value_length(column)[0].as_py())
