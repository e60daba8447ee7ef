"""From any stream of record batches to an `Opened`: what all readers of tables share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import pyarrow as pa

from ..errors import BadInput
from .base import Opened
from .columns import Conversion, dim_of, layout
from .idfile import outside_ids


def opened_table(
    name: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    ids: object,
    vectors: str | None,
    *,
    rows: int | None = None,
    provenance: Mapping[str, object] | None = None,
) -> Opened:
    """Choose the columns and convert the batches as they come."""
    given = iter(batches)
    first = next((each for each in given if each.num_rows), None)
    if first is None:
        raise BadInput(f"{name} holds no rows: there is nothing to load", source=name)
    outside = outside_ids(ids, schema.names)
    chosen = layout(
        schema,
        name,
        ids if outside is None else None,  # type: ignore[arg-type]
        vectors,
        outside_ids=outside is not None,
        texts=_vector_texts(first),
    )
    conversion = Conversion(chosen, schema, dim_of(chosen, first, schema, name), name, "row", 1)
    return Opened(
        name,
        conversion.full_schema(outside.type) if outside is not None else conversion.schema,
        conversion.batches(chain([first], given), outside),
        rows,
        provenance=provenance or {},
    )


def _vector_texts(batch: pa.RecordBatch) -> Sequence[str]:
    """Columns whose first text is written like a list."""
    return [
        field.name
        for field, column in zip(batch.schema, batch.columns, strict=True)
        if pa.types.is_string(field.type)
        and len(column.drop_null())
        and str(column.drop_null()[0].as_py()).lstrip().startswith("[")
    ]
