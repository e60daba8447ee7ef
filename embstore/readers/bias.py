"""Biases folded into the vectors, so that an inner product includes them.

The score of a factorization is u . v + b, with b the item's bias. With items [v, b] and users
[u, 1] it is one inner product (Bachrach et al., "Speeding Up the Xbox Recommender System Using a
Euclidean Transformation for Inner-Product Spaces", RecSys 2014, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ..errors import BadInput
from .base import EMBEDDING, ID, Opened
from .layout import listed
from .sieve import ROW, BadRows


def folded(opened: Opened, biases: str | None) -> Opened:
    """Append the bias to each vector as its last component.

    Parameters
    ----------
    biases : str or None
        The attribute that holds them, or ``"1"`` for the other side of the product, which gets
        ones. By default what the reader says, else the only attribute that is called a bias.

    Raises
    ------
    BadInput
        When it is not plain which, or it holds no numbers.
    """
    chosen = biases or opened.biases or _only(opened)
    kind = opened.schema.field(EMBEDDING).type
    if pa.types.is_uint8(kind.value_type):
        raise BadInput(f"{opened.name} holds bits, which take no bias: leave it out")
    if chosen != "1":
        _check(opened, chosen)
    at = opened.schema.get_field_index(EMBEDDING)
    schema = opened.sieve.schema(opened.schema).set(
        at, pa.field(EMBEDDING, pa.list_(kind.value_type, kind.list_size + 1))
    )

    def fold(batch: pa.RecordBatch) -> pa.RecordBatch:
        flat = batch.column(EMBEDDING).flatten().to_numpy()
        vectors = np.empty((len(batch), kind.list_size + 1), flat.dtype)
        vectors[:, :-1] = flat.reshape(len(batch), kind.list_size)
        if chosen == "1":
            vectors[:, -1] = 1
        else:
            column = batch.column(chosen)
            if column.null_count:
                missing = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
                raise BadRows(missing, "the bias is missing", batch.column(ID), chosen)
            with np.errstate(over="ignore"):  # infinity is refused with its row later
                vectors[:, -1] = column.to_numpy(zero_copy_only=False)
        embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), kind.list_size + 1)
        columns = batch.columns
        columns[at] = embedding
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def batches() -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in opened.batches:
            yield opened.sieve.sift(batch, opened.place, rows, fold)
            rows += len(batch)

    return replace(
        opened,
        schema=schema,
        batches=batches(),
        provenance={**opened.provenance, "folded_bias": chosen},
    )


def _only(opened: Opened) -> str:
    called: list[str] = [each for each in opened.schema.names if "bias" in each.lower()]
    if len(called) == 1:
        return called[0]
    what = f"could be {listed(called)}" if called else "are not there"
    raise BadInput(
        f"{opened.name}: the biases {what}; say with --biases NAME (1 for the side that has none)",
        source=opened.name,
    )


def _check(opened: Opened, chosen: str) -> None:
    attributes = [each for each in opened.schema.names if each not in {ID, EMBEDDING, ROW}]
    if chosen not in attributes:
        raise BadInput(
            f"{opened.name} has no column or array {chosen!r} for the biases beside its vectors: it"
            f" has {listed(attributes)}",
            source=opened.name,
            column=chosen,
        )
    kind = opened.schema.field(chosen).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise BadInput(
            f"{opened.name}: column {chosen!r} has type {kind} and holds no biases, which are"
            " numbers",
            source=opened.name,
            column=chosen,
        )
