"""Leaf indices as bits: one bit per leaf of each tree, set where a sample falls.

He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook" (ADKDD 2014), section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import BadInput
from ..types import Precision
from .base import EMBEDDING, ID, Opened, batch_rows
from .sieve import Sieve, row_numbers


class Leaves:
    """Which bit is which leaf: tree by tree, the leaves of each in the order of their indices.

    Parameters
    ----------
    name : str
        What messages call the source.
    trees : sequence of ranges or integer arrays
        The indices of each tree's leaves, ascending.
    """

    def __init__(self, name: str, trees: Sequence[range | NDArray[np.integer[Any]]]) -> None:
        self.counts = [len(each) for each in trees]
        self.dim = sum(self.counts)
        if self.dim > Precision.BIT.max_dim:
            raise BadInput(
                f"{name} has {self.dim} leaves in {len(trees)} trees: more than"
                f" {Precision.BIT.max_dim} bits cannot be stored; use fewer trees or leaves",
                source=name,
            )
        self._name = name
        self._tops = np.array([each[-1] for each in trees], np.int64)
        starts = np.cumsum([0, *(self._tops + 1)])
        self._starts = starts[:-1]
        self._bit = np.full(starts[-1], -1, np.int32)
        self._bit[
            np.concatenate([s + np.asarray(t) for s, t in zip(starts, trees, strict=False)])
        ] = np.arange(self.dim)

    def encode(self, indices: NDArray[Any]) -> NDArray[np.bool_]:
        """Turn the indices of leaves (n, trees) into bits (n, dim).

        Raises
        ------
        BadInput
            When one is no leaf.
        """
        rows = len(indices)
        whole = indices.astype(np.int64)
        inside = bool(((whole >= 0) & (whole <= self._tops)).all())
        set_bits = self._bit[self._starts + whole] if inside else np.full(1, -1)
        if set_bits.min(initial=0) < 0:
            raise BadInput(
                f"{self._name} gives a leaf that its trees do not have: load it when nothing"
                " changes it",
                source=self._name,
            )
        bits = np.zeros((rows, self.dim), np.bool_)
        bits[np.arange(rows)[:, None], set_bits] = True
        return bits

    def blocks(self, indices: NDArray[Any]) -> Iterator[NDArray[np.bool_]]:
        """Likewise, about a megabyte at a time."""
        step = batch_rows(self.dim // 4)
        for at in range(0, len(indices), step):
            yield self.encode(indices[at : at + step])

    def provenance(self) -> dict[str, object]:
        """Return what tells which bit is which leaf."""
        return {"trees": len(self.counts), "leaves": self.counts, "bits": self.dim}


def as_bits(opened: Opened, again: Callable[[], AbstractContextManager[Opened]] | None) -> Opened:
    """Make bits of whatever was opened: 0 and 1 are bits as they are, leaf indices one bit each.

    Leaf indices are whole numbers from 0, a column per tree; each tree has as many leaves as its
    largest index says, which takes a first look at all of them.

    Parameters
    ----------
    again : callable
        Opens the source for that first look; None where it can be read only once.

    Raises
    ------
    BadInput
    """
    if pa.types.is_uint8(opened.schema.field(EMBEDDING).type.value_type):
        return opened
    given = iter(opened.batches)
    first = next(given, None)
    if first is None:
        return opened
    opened = replace(opened, batches=chain([first], given))
    values = _matrix(first, opened.dim)
    if not (_are_indices(values) & (values > 1)).any():
        return opened  # whatever is neither 0 nor 1 is refused with its row
    if again is None:
        raise BadInput(
            f"{opened.name} holds leaf indices, whose largest must be known before the first is"
            " loaded, and can be read only once: load an array, a file or the model itself",
            source=opened.name,
        )
    with again() as other:
        leaves = Leaves(opened.name, [range(top + 1) for top in _largest(other)])
    at = opened.schema.get_field_index(EMBEDDING)
    schema = opened.schema.set(at, pa.field(EMBEDDING, pa.list_(pa.uint8(), leaves.dim)))
    return replace(
        opened,
        schema=schema,
        batches=_encoded(opened, leaves, schema, at),
        provenance={**opened.provenance, **leaves.provenance()},
    )


def _encoded(
    opened: Opened, leaves: Leaves, schema: pa.Schema, at: int
) -> Iterator[pa.RecordBatch]:
    for batch in opened.batches:
        done = 0
        for bits in leaves.blocks(_matrix(batch, opened.dim)):
            columns = batch.slice(done, len(bits)).columns
            done += len(bits)
            flat = pa.array(bits.view(np.uint8).reshape(-1))
            columns[at] = pa.FixedSizeListArray.from_arrays(flat, leaves.dim)
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _matrix(batch: pa.RecordBatch, dim: int) -> NDArray[Any]:
    flat = batch.column(EMBEDDING).flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(len(batch), dim)


def _are_indices(values: NDArray[Any]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return np.asarray((values >= 0) & (values % 1 == 0) & (values <= Precision.BIT.max_dim))


def _largest(opened: Opened) -> list[int]:
    """Return the largest index of each tree."""
    tops = np.zeros(opened.dim, np.int64)
    rows = 0
    for batch in opened.batches:
        values = _matrix(batch, opened.dim)
        if len(bad := np.argwhere(~_are_indices(values))):
            at, tree = (int(each) for each in bad[0])
            problem = (
                f"value {tree + 1} is {values[at, tree]:g}, which is no leaf index (whole numbers"
                " from 0)"
            )
            # Which leaves there are cannot be known without it, so it is never left out.
            number, key = int(row_numbers(batch, rows)[at]), batch.column(ID)[at].as_py()
            Sieve().refuse(opened.place, number, key, problem, EMBEDDING)
        tops = np.maximum(tops, values.max(axis=0, initial=0).astype(np.int64))
        rows += len(batch)
    return [int(each) for each in tops]
