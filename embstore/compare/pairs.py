"""The ids that two versions have in common, with both of their vectors, streamed with flat memory.

The server joins; so a pair arrives together, however many there are and in whatever order they
were loaded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection
from ..query.stream import Fields, copied
from ..relations import version_table
from ..types import Metric, Precision
from .measures import at_random, check_ids_alike

# Vectors that are worked on at a time, as float32.
_BYTES = 32 << 20


@dataclass(frozen=True)
class Pairs:
    """Some ids, and what each version has for them.

    Attributes
    ----------
    ids : array (n,), int64 or string
    old, new : array (n, dim), float32 or float16; of bits packed, (n, bytes) uint8
    """

    ids: pa.Array
    old: NDArray[Any]
    new: NDArray[Any]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Return some of them."""
        return Pairs(self.ids.filter(pa.array(chosen)), self.old[chosen], self.new[chosen])


def pairs(connection: Connection, old: VersionRow, new: VersionRow) -> Generator[Pairs, None, None]:
    """Stream all pairs of two versions, some tens of megabytes at a time, in any order."""
    check_ids_alike(old, new)
    return _gathered(_streamed(connection, old, new, sql.SQL("")), old.dim + new.dim)


def drawn(
    connection: Connection, old: VersionRow, new: VersionRow, sample: int, seed: int = 0
) -> Pairs:
    """Return ``sample`` pairs at random: for the same seed the same ones, in the same order."""
    check_ids_alike(old, new)
    chosen = sql.SQL(" ORDER BY {} LIMIT {}").format(at_random("o", seed), sql.Literal(sample))
    parts = list(_streamed(connection, old, new, chosen))
    return _joined(parts) if parts else _nothing(old, new)


def directed(found: Pairs, old: VersionRow, new: VersionRow) -> Pairs:
    """Leave out the pairs that cannot be compared: zero vectors under cosine (and jaccard)."""
    good = np.ones(len(found), bool)
    for version, vectors in ((old, found.old), (new, found.new)):
        if version.metric in {Metric.COSINE, Metric.JACCARD}:
            good &= vectors.any(axis=1)
    return found if good.all() else found.take(good)


def _streamed(
    connection: Connection, old: VersionRow, new: VersionRow, chosen: sql.Composable
) -> Iterator[Pairs]:
    statement = sql.SQL(
        "COPY (SELECT o.id, o.embedding, n.embedding FROM {} o JOIN {} n ON n.id = o.id{})"
        " TO STDOUT (FORMAT binary)"
    ).format(_table(old), _table(new), chosen)

    def taken_apart(read: Fields) -> Pairs:
        ids = read.ids(old.id_type)
        first = read.vectors(old.precision, old.dim)
        return Pairs(ids, first, read.vectors(new.precision, new.dim))

    name = f"{old.ref} beside {new.ref}"
    for piece in copied(connection, statement, name, old.dim + new.dim, taken_apart):
        yield piece()


def _gathered(stream: Iterator[Pairs], dims: int) -> Generator[Pairs, None, None]:
    """Put small blocks together."""
    held: list[Pairs] = []
    rows, most = 0, max(1, _BYTES // (4 * dims))
    for each in stream:
        held.append(each)
        rows += len(each)
        if rows >= most:
            yield _joined(held)
            held, rows = [], 0
    if held:
        yield _joined(held)


def _joined(held: list[Pairs]) -> Pairs:
    return Pairs(
        pa.concat_arrays([each.ids for each in held]),
        np.concatenate([each.old for each in held]),
        np.concatenate([each.new for each in held]),
    )


def _nothing(old: VersionRow, new: VersionRow) -> Pairs:
    return Pairs(pa.array([], pa.int64()), no_vectors(old), no_vectors(new))


def no_vectors(version: VersionRow) -> NDArray[Any]:
    """Return an array of 0 vectors, as they are stored."""
    if version.precision is Precision.BIT:
        return np.zeros((0, version.precision.nbytes(version.dim)), np.uint8)
    return np.zeros((0, version.dim), str(version.precision))


def _table(version: VersionRow) -> sql.Identifier:
    return version_table(version.table_name, version.version)
