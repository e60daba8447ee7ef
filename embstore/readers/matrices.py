"""Matrices and named arrays: what readers of trained models share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput
from .arrays import (
    Kind,
    Rows,
    check_vectors,
    choose,
    matrix_batches,
    matrix_schema,
    value_array,
)
from .base import Ids, Opened, Picked, Wanted, check_count
from .facts import plain
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
    kind = Kind(matrix.shape, matrix.dtype)
    return open_blocks(name, Rows.of(matrix).blocks(), kind, keys, beside, provenance)


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


def open_parameters(
    name: str,
    arrays: Mapping[str, Rows],
    wanted: Wanted,
    provenance: Mapping[str, object],
    default: str | None = None,
) -> Opened:
    """Open named arrays that belong together, such as a model's parameters.

    The vectors are what ``vectors=`` names, the default, or the only matrix; ids and attributes
    are the arrays of as many rows with the likest names, as in a .npz file. A matrix of one column
    beside wider ones is an array of biases; a linear layer's own bias is the attribute ``bias``.
    What has been chosen is ``provenance["vectors"]``.

    Raises
    ------
    BadInput
        When the choice is not plain, or there are no ids, or not as many as rows.
    """
    vectors = found_name(arrays, wanted.vectors) if wanted.vectors else default
    arrays = _biases_as_columns(arrays, vectors)
    kinds = {each: Kind(rows.shape, rows.dtype) for each, rows in arrays.items()}
    outside = outside_ids(wanted.ids, list(arrays), name)
    inside = wanted.ids if isinstance(wanted.ids, str) and outside is None else None
    bare = inside is None and not any(
        len(each.shape) == 1 and each.dtype.kind in "iuSU" for each in kinds.values()
    )
    chosen = choose(kinds, name, inside, vectors, outside is not None or bare)
    if plain(chosen.vectors) is None:
        raise BadInput(f"{name}: {chosen.vectors!r} is no name that can be kept", source=name)
    if chosen.ids is None:
        keys = need_ids(outside, f"{name} ({chosen.vectors})")
    else:
        keys = id_array(arrays[chosen.ids].whole(), f"{name} ({chosen.ids})")
    matrix = arrays[chosen.vectors]
    beside = {each: each for each in chosen.attributes}
    if wanted.biases:
        called = found_name(kinds, wanted.biases)
        if called in kinds and kinds[called].shape == matrix.shape[:1]:
            beside[wanted.biases] = called
    # A linear layer has one for each row of its weight, by the same name.
    own = f"{chosen.vectors.removesuffix('.weight')}.bias"
    if not wanted.biases and own in kinds and kinds[own].shape == matrix.shape[:1]:
        beside.setdefault("bias", own)
    extra = {each: value_array(arrays[called].whole()) for each, called in beside.items()}
    return open_blocks(
        name,
        matrix.blocks(),
        kinds[chosen.vectors],
        keys,
        extra,
        {**provenance, "vectors": chosen.vectors},
    )


def _biases_as_columns(arrays: Mapping[str, Rows], vectors: str | None) -> Mapping[str, Rows]:
    wide = any(len(each.shape) == 2 and each.shape[1] > 1 for each in arrays.values())
    return {
        name: each.column() if wide and each.shape[1:] == (1,) and name != vectors else each
        for name, each in arrays.items()
    }


def found_name(names: Iterable[str], given: str) -> str:
    """Return which parameter is meant by its name, its layer's, or the end of either.

    ``item`` is ``towers.item.weight`` where no other ends so; what is not there is returned as it
    was given.
    """
    names = list(names)
    layer = given.removesuffix(".weight")
    for meant in (given, layer, f"{given}.weight"):
        if meant in names:
            return meant
    ends = [each for each in names if each.removesuffix(".weight").endswith(f".{layer}")]
    return ends[0] if len(ends) == 1 else given
