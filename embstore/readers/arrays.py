"""Arrays: a matrix with its ids, and named arrays (.npz, mappings) that belong together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput
from .base import EMBEDDING, ID, Ids, Picked, batch_rows
from .layout import listed
from .source import read_exactly


@dataclass(frozen=True)
class Kind:
    """Shape and type of an array that need not be read for that."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Choice:
    """Which named array is what; ``ids`` is None where the ids come from elsewhere."""

    vectors: str
    ids: str | None
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """An array that is read by its rows: in memory, on a device or in a file.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        Of what ``read`` gives; ``object`` for what is no array of numbers or text.
    read : callable
        From the first row (from 0) and a count, an array (count, ...).
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Rows:
        """Return an array in memory."""
        return cls(array.shape, array.dtype, lambda at, count: array[at : at + count])

    def whole(self) -> NDArray[Any]:
        """Return all rows of an array of one dimension or more."""
        return self.read(0, self.shape[0])

    def column(self) -> Rows:
        """Return an array (n, 1) as (n,)."""
        return Rows(
            self.shape[:1], self.dtype, lambda at, count: self.read(at, count).reshape(count)
        )

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Read a matrix in blocks of about a batch's size."""
        rows, dim = self.shape
        step = block_rows(dim, self.dtype)
        return (self.read(at, min(step, rows - at)) for at in range(0, rows, step))


def check_vectors(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Refuse an array that is no matrix of numbers.

    Raises
    ------
    BadInput
    """
    if len(shape) != 2 or dtype.kind not in "bfiu" or dtype.itemsize > 8:
        raise BadInput(
            f"{name} has shape {shape} of {dtype}: vectors are a two-dimensional array of numbers,"
            " a row each",
            source=name,
        )
    if not shape[0]:
        raise BadInput(f"{name} holds no rows: there is nothing to load", source=name)
    if not shape[1]:
        raise BadInput(f"{name} has shape {shape}: its vectors have no components", source=name)


def choose(
    kinds: Mapping[str, Kind], name: str, ids: str | None, vectors: str | None, outside: bool
) -> Choice:
    """Choose the arrays: the vectors' name, and ids of the same length and likest name.

    Raises
    ------
    BadInput
        When the choice is not plain, listing what there is.
    """
    vectors = _vectors(kinds, name, vectors)
    check_vectors(kinds[vectors].shape, kinds[vectors].dtype, f"{name} ({vectors})")
    rows = kinds[vectors].shape[0]
    beside = [n for n, kind in kinds.items() if kind.shape == (rows,)]
    own = None if outside else _ids(kinds, beside, name, ids, vectors)
    stem = _stem(vectors)
    attributes = [
        each
        for each in beside
        if each != own
        and kinds[each].dtype.kind in "bfiuSU"
        and (each.startswith(stem) if stem else not _stem(each))
    ]
    for taken in (ID, EMBEDDING):
        if taken in attributes:
            raise BadInput(
                f"{name}: array {taken!r} cannot become an attribute, because the"
                f" {'ids' if taken == ID else 'vectors'} will be called that; rename or leave it"
                " out",
                source=name,
                column=taken,
            )
    return Choice(vectors, own, tuple(attributes))


def _vectors(kinds: Mapping[str, Kind], name: str, vectors: str | None) -> str:
    matrices = [n for n, k in kinds.items() if len(k.shape) == 2 and k.dtype.kind in "bfiu"]
    if vectors is not None:
        if vectors not in matrices:
            raise BadInput(
                f"{name} has no two-dimensional array {vectors!r}: it has {listed(list(kinds))}",
                source=name,
                column=vectors,
            )
        return vectors
    if len(matrices) != 1:
        what = f"could be {listed(matrices)}" if matrices else "are not there"
        raise BadInput(
            f"{name}: the vectors {what}; say with --vectors NAME (it has {listed(list(kinds))})",
            source=name,
        )
    return matrices[0]


def _ids(
    kinds: Mapping[str, Kind], beside: list[str], name: str, ids: str | None, vectors: str
) -> str:
    if ids is not None:
        if len(kinds[ids].shape) != 1 or kinds[ids].dtype.kind not in "iuSUO":
            raise BadInput(
                f"{name}: array {ids!r} has shape {kinds[ids].shape} of {kinds[ids].dtype} and"
                " cannot hold ids, which are integers or text in one dimension",
                source=name,
                column=ids,
            )
        return ids  # the caller compares the lengths
    keys = [n for n in beside if kinds[n].dtype.kind in "iuSU" and _of_one(n, vectors)]
    best = max((_common(each, vectors) for each in keys), default=0)
    likest = [each for each in keys if _common(each, vectors) == best]
    called = [each for each in likest if each[len(_stem(each)) :].lower() in {"id", "ids"}]
    likest = called if len(called) == 1 else likest
    if len(likest) != 1:
        what = f"could be {listed(likest)}" if likest else "are not there"
        raise BadInput(
            f"{name}: the ids of {vectors} {what}; say with --ids NAME or --ids FILE", source=name
        )
    return likest[0]


def _stem(name: str) -> str:
    """``item_`` of ``item_factors``."""
    match = re.match(r".*[_.\-/]", name, re.DOTALL)
    return match[0] if match else ""


def _of_one(a: str, b: str) -> bool:
    """Tell whether two names can belong together: ``user_ids`` are no ids of ``item_factors``."""
    return _stem(a).startswith(_stem(b)) or _stem(b).startswith(_stem(a))


def _common(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def component_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the float type that a batch of this array has; truth values are bits, uint8."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float32)


def block_rows(dim: int, dtype: np.dtype[Any]) -> int:
    """How many rows to read at a time."""
    return batch_rows(dim * max(1, dtype.itemsize // 4))


def row_blocks(
    stream: Any, dtype: np.dtype[Any], shape: tuple[int, ...], name: str
) -> Iterator[NDArray[Any]]:
    """Read the rows of a matrix, which follow in the stream, in blocks (n, dim).

    Raises
    ------
    BadInput
        When the data end early.
    """
    rows, dim = shape
    step = block_rows(dim, dtype)
    for at in range(0, rows, step):
        count = min(step, rows - at)
        data = read_exactly(stream, count * dim * dtype.itemsize, name)
        yield np.frombuffer(data, dtype).reshape(count, dim)


def matrix_schema(
    ids: Ids, dtype: np.dtype[Any], dim: int, extra: Mapping[str, pa.Array] | None = None
) -> pa.Schema:
    """Return the schema of `matrix_batches`."""
    component = pa.from_numpy_dtype(component_type(dtype))
    beside = [(name, values.type) for name, values in (extra or {}).items()]
    return pa.schema([(ID, ids.type), (EMBEDDING, pa.list_(component, dim)), *beside])


def matrix_batches(
    blocks: Iterator[NDArray[Any]],
    ids: Ids,
    schema: pa.Schema,
    extra: Mapping[str, pa.Array] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Pair blocks (n, dim) with their ids and the values beside them."""
    kind = schema.field(EMBEDDING).type
    target = np.dtype(kind.value_type.to_pandas_dtype())
    at = 0
    for block in blocks:
        beside = [values.slice(at, len(block)) for values in (extra or {}).values()]
        keys = ids.slice(at, len(block))
        at += len(block)
        if isinstance(ids, Picked):
            rows = ids.within(at - len(block), len(block))
            block, beside = block[rows], [values.take(pa.array(rows)) for values in beside]
        flat = pa.array(np.ascontiguousarray(block, dtype=target).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
        yield pa.RecordBatch.from_arrays([keys, vectors, *beside], schema=schema)


def value_array(values: NDArray[Any]) -> pa.Array:
    """Return a one-dimensional array of numbers or text as Arrow."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "S":
        native = np.char.decode(native, "utf-8")
    return pa.array(native.astype(object) if native.dtype.kind == "U" else native)
