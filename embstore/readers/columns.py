"""Batches as a parser gives them, turned into batches as `Opened` promises them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import BadInput
from .base import EMBEDDING, ID, Ids, batch_rows, check_count, count_mismatch
from .layout import Layout, is_text, is_vector
from .sieve import BadRows, Place, Sieve, failing, row_numbers

MAX_BIGINT = 2**63 - 1
# What int64 prints, so that "007" never becomes 7.
INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
# What ids from elsewhere are called while they go along with their rows.
_OUTSIDE = "embstore:id"


class Conversion:
    """From a parser's batches to those of `Opened`, row by row in step.

    Parameters
    ----------
    outside : Ids or None
        The ids, where they come from elsewhere.
    whole_ids : bool
        The ids are text that must be integers.
    sieve : Sieve
        What becomes of bad rows.
    """

    def __init__(
        self,
        chosen: Layout,
        schema: pa.Schema,
        dim: int,
        name: str,
        outside: Ids | None = None,
        whole_ids: bool = False,
        sieve: Sieve | None = None,
    ) -> None:
        self.chosen, self.dim = chosen, dim
        self._name, self._outside, self._whole = name, outside, whole_ids
        self._component = component_type([schema.field(each).type for each in chosen.vectors])
        self._sieve = sieve or Sieve()
        self._rows = 0
        kind = outside.type if outside is not None else _id_type(schema.field(chosen.id), whole_ids)
        self.schema = self._sieve.schema(
            pa.schema(
                [
                    pa.field(ID, kind),
                    pa.field(EMBEDDING, pa.list_(self._component, dim)),
                    *(pa.field(each, plain(schema.field(each).type)) for each in chosen.attributes),
                ]
            )
        )

    def batches(self, given: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Convert all, in batches of an even size."""
        return even(self._converted(given), batch_rows(self.dim))

    def _converted(self, given: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        step, place = batch_rows(self.dim), Place(self._name)
        for batch in given:
            for at in range(0, batch.num_rows, step):
                part = self._with_ids(batch.slice(at, step))
                yield self._sieve.sift(part, place, self._rows, self._convert)
                self._rows += part.num_rows
        if self._outside is not None:
            check_count(self._name, self._rows + self._sieve.unparsed, self._outside)

    def _with_ids(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Put the ids first, which are those of the rows that are still there."""
        if self._outside is None or not batch.num_rows:
            return batch
        rows = row_numbers(batch, self._rows)
        first, count = int(rows[0]), int(rows[-1] - rows[0]) + 1
        ids = self._outside.slice(first, count)
        if len(ids) != count:
            raise count_mismatch(self._name, first + count, first + len(ids), "at least ")
        if count != len(rows):
            ids = ids.take(pa.array(rows - first))
        return pa.RecordBatch.from_arrays(
            [ids, *batch.columns], names=[_OUTSIDE, *batch.schema.names]
        )

    def _convert(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._outside is None:
            ids = self._ids(batch.column(self.chosen.id))
        else:
            ids = batch.column(_OUTSIDE)
        arrays = [ids, self._vectors([batch.column(each) for each in self.chosen.vectors], ids)]
        for field in list(self.schema)[2:]:
            column = batch.column(field.name)
            arrays.append(column if column.type == field.type else column.cast(field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _ids(self, column: pa.Array) -> pa.Array:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if self._whole:
            return self._whole_ids(column)
        if pa.types.is_integer(column.type):
            if len(large := beyond_bigint(column)):
                raise BadRows(large, "the id is beyond bigint", column, ID)
            return column.cast(pa.int64())
        return column.cast(pa.string())

    def _whole_ids(self, column: pa.Array) -> pa.Array:
        whole = as_integers(column)
        if whole is not None:
            return whole
        good = pc.match_substring_regex(column, INTEGER).fill_null(True)
        bad = _where(pc.invert(good))
        if not len(bad):  # all digits, and some of them beyond bigint
            bad = failing(column, lambda part: part.cast(pa.int64()))
        problem = "the id is no bigint, as the first ones are (--id-type text loads all as text)"
        raise BadRows(bad, problem, column, ID)

    def _vectors(self, columns: list[pa.Array], ids: pa.Array) -> pa.Array:
        if len(columns) > 1:
            if any(each.null_count for each in columns):
                missing = np.any([each.is_null().to_numpy(False) for each in columns], axis=0)
                raise self._bad(np.flatnonzero(missing), "a component is missing", ids)
            flat = np.column_stack([self._values(each) for each in columns]).ravel()
        else:
            column = columns[0]
            if column.null_count:
                raise self._bad(_where(pc.is_null(column)), "the vector is missing", ids)
            if not is_vector(column.type):
                column = self._parsed(column, ids)
            if not pa.types.is_fixed_size_list(column.type):
                self._check_lengths(pc.list_value_length(column), ids)
            values = column.flatten()
            if values.null_count:
                missing = np.unique(_where(pc.is_null(values)) // self.dim)
                raise self._bad(missing, "a component is missing", ids)
            flat = self._values(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), self.dim)

    def _check_lengths(self, lengths: pa.Array, ids: pa.Array) -> None:
        ragged = _where(pc.not_equal(lengths, self.dim))
        if len(ragged):
            others = "most of the first rows have" if self._sieve.skips else "the first row has"
            raise BadRows(
                ragged,
                lambda row: f"{lengths[row].as_py()} components where {others} {self.dim}",
                ids,
                EMBEDDING,
            )

    def _parsed(self, column: pa.Array, ids: pa.Array) -> pa.Array:
        try:
            return parse_texts(column)
        except pa.ArrowInvalid:
            raise BadRows(
                failing(column, parse_texts),
                lambda row: _unparsed(column.slice(row, 1)),
                ids,
                EMBEDDING,
            ) from None

    def _values(self, flat: pa.Array) -> Any:
        target = self._component.to_pandas_dtype()
        return flat.to_numpy(zero_copy_only=False).astype(target, copy=False)

    def _bad(self, rows: Any, problem: str, ids: pa.Array) -> BadRows:
        return BadRows(rows, problem, ids, EMBEDDING)


def _unparsed(text: pa.Array) -> str:
    """Say why a text is no vector."""
    try:
        parse_texts(text)
    except pa.ArrowInvalid as error:
        return f"no vector ({error})"
    return "no vector"


def even(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Join small batches, so that the work per batch is spent on about ``rows`` rows."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        if held and count + batch.num_rows > rows:
            yield pa.concat_batches(held) if len(held) > 1 else held[0]
            held, count = [], 0
        held.append(batch)
        count += batch.num_rows
    if held:
        yield pa.concat_batches(held) if len(held) > 1 else held[0]


def check_valid(batch: pa.RecordBatch, name: str, rows: int) -> None:
    """Refuse what Arrow takes on trust otherwise, to the point of a crash.

    Parameters
    ----------
    rows : int
        How many rows come before.

    Raises
    ------
    BadInput
        Naming the row whose text is no UTF-8.
    ArrowInvalid
        When it is damaged in another way.
    """
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        first = failing(batch, lambda part: part.validate(full=True))[0]
        raise BadInput(
            f"{name} row {rows + first + 1}: a text is not valid UTF-8; mend or remove the row and"
            " load again",
            source=name,
            row=rows + first + 1,
        ) from error


def _where(mask: pa.BooleanArray) -> Any:
    return np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False))


def _id_type(field: pa.Field, whole: bool) -> pa.DataType:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return pa.int64() if whole or pa.types.is_integer(kind) else pa.string()


def as_integers(texts: pa.Array) -> pa.Array | None:
    """Return texts as int64 if each is what int64 prints, else None; nulls stay."""
    if not pc.all(pc.match_substring_regex(texts, INTEGER)).as_py():
        return None
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:  # nineteen digits can be too many
        return None


def beyond_bigint(ids: pa.Array) -> Any:
    """Return the rows whose ids int64 cannot hold."""
    if not pa.types.is_uint64(ids.type):
        return np.zeros(0, np.int64)
    return _where(pc.greater(ids, pa.scalar(MAX_BIGINT, pa.uint64())))


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
    return pa.string() if is_text(kind) else kind


def parse_texts(column: pa.Array) -> pa.Array:
    """Parse texts such as ``[0.1, 0.2]`` or ``0.1 0.2`` into lists."""
    inner = pc.utf8_trim(column.cast(pa.string()), "[](){} \t\r\n")
    spaced = pc.replace_substring_regex(inner, pattern=r"\s*[,;]\s*|\s+", replacement=" ")
    return pc.split_pattern(spaced, " ").cast(pa.list_(pa.float32()))
