"""Matrices in memory: what readers of trained models share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput
from .arrays import Kind, check_vectors, matrix_batches, matrix_schema, value_array
from .base import Ids, Opened, Picked, Wanted, batch_rows, check_count
from .ids import id_array, outside_ids
from .layout import listed


@dataclass(frozen=True)
class Matrix:
    """One matrix of a model that can be loaded.

    Attributes
    ----------
    vectors : array (n, dim), or a callable that returns it
        Called only if this matrix is chosen.
    ids : sequence of n integers or texts, or None
        None where the model does not know them; then the user must.
    beside : mapping of name to array (n,)
        What belongs to the rows, such as biases; becomes attributes.
    biases : str or None
        What ``bias="fold"`` appends: one of ``beside``, or ``"1"``.
    """

    vectors: NDArray[Any] | Callable[[], NDArray[Any]]
    ids: object = None
    beside: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    biases: str | None = None


def open_matrices(
    name: str,
    matrices: Mapping[str, Matrix],
    wanted: Wanted,
    *,
    format: str,
    default: str | None = None,
    trainer: str | None = None,
    params: Mapping[str, object] | None = None,
    metrics: Mapping[str, object] | None = None,
) -> Opened:
    """Open one of a model's matrices: the one that ``vectors=`` names, the default or the only one.

    Parameters
    ----------
    name : str
        What messages call the source.
    default : str or None
        The matrix that is meant where the user names none.

    Raises
    ------
    BadInput
        When the choice is not plain, or there are no ids, or not as many as rows.
    """
    only = next(iter(matrices)) if len(matrices) == 1 else None
    chosen = wanted.vectors or default or only
    if chosen is None or chosen not in matrices:
        what = f"has no {chosen!r}" if chosen else "has several matrices"
        raise BadInput(
            f"{name} {what}: say vectors= (--vectors) one of {listed(list(matrices))}",
            source=name,
            column=wanted.vectors,
        )
    matrix = matrices[chosen]
    vectors = np.asarray(matrix.vectors() if callable(matrix.vectors) else matrix.vectors)
    keys = outside_ids(wanted.ids, ())
    if keys is None and matrix.ids is not None:
        keys = id_array(matrix.ids, name)
    opened = open_matrix(
        name,
        vectors,
        need_ids(keys, f"{name} ({chosen})"),
        {each: value_array(np.asarray(values)) for each, values in matrix.beside.items()},
        {"format": format, **({"vectors": chosen} if len(matrices) > 1 else {})},
    )
    return Opened(
        name,
        opened.schema,
        opened.batches,
        opened.rows,
        provenance=opened.provenance,
        trainer=trainer,
        params=params or {},
        metrics=metrics or {},
        biases=matrix.biases,
    )


def need_ids(keys: Ids | None, name: str) -> Ids:
    """Return the ids, or say how to give them.

    Raises
    ------
    BadInput
    """
    if keys is None:
        raise BadInput(
            f"{name} holds vectors only: give their ids with ids= (--ids FILE), or"
            " ids='row-number' to count the rows from 0",
            source=name,
        )
    return keys


def unnamed_ids(name: str, wanted: Wanted) -> Ids:
    """Return the ids of a file that is one matrix and nothing else.

    Raises
    ------
    BadInput, NotFound
        When the user gave none, or named an array.
    """
    if wanted.vectors is not None:
        raise BadInput(f"{name} is one array without a name: leave --vectors out", source=name)
    return need_ids(outside_ids(wanted.ids, ()), name)


def open_matrix(
    name: str,
    matrix: NDArray[Any],
    keys: Ids,
    beside: Mapping[str, pa.Array],
    provenance: Mapping[str, object],
) -> Opened:
    """Open a matrix (n, dim) with its ids and what stands beside them.

    Raises
    ------
    BadInput
        When it is no matrix of numbers, or there are not as many ids as rows.
    """
    check_vectors(matrix.shape, matrix.dtype, name)
    rows, dim = matrix.shape
    step = batch_rows(dim)
    blocks = (matrix[at : at + step] for at in range(0, rows, step))
    return open_blocks(name, blocks, Kind((rows, dim), matrix.dtype), keys, beside, provenance)


def open_blocks(
    name: str,
    blocks: Iterator[NDArray[Any]],
    kind: Kind,
    keys: Ids,
    beside: Mapping[str, pa.Array],
    provenance: Mapping[str, object],
) -> Opened:
    """Open a matrix of this kind that comes in blocks (n, dim), as `open_matrix` does.

    Raises
    ------
    BadInput
        When it is no matrix of numbers, or there are not as many ids as rows.
    """
    check_vectors(kind.shape, kind.dtype, name)
    rows, dim = kind.shape
    check_count(name, rows, keys)
    schema = matrix_schema(keys, kind.dtype, dim, beside)
    batches = matrix_batches(blocks, keys, schema, beside)
    if isinstance(keys, Picked):
        rows = len(keys)
    return Opened(name, schema, batches, rows, provenance=provenance)
