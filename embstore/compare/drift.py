"""How far each id has moved once the versions are aligned."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..catalog import VersionRow
from ..connection import Connection
from ..query.target import id_array
from ..types import Id, Metric
from .pairs import Pairs, directed, pairs
from .rotation import Array64, rotate

_ROWS = 1 << 14


@dataclass(frozen=True, eq=False)
class Moves:
    """How far the common ids have moved.

    Attributes
    ----------
    values : array (n,), float32
        Of all of them, in no order.
    top : list of (id, float)
        Those that moved most, the farthest first.
    """

    values: NDArray[np.float32]
    top: list[tuple[Id, float]]


def moves(
    connection: Connection,
    old: VersionRow,
    new: VersionRow,
    matrix: Array64,
    scale: float,
    top: int,
    report: Callable[[int], None] = lambda _: None,
) -> Moves:
    """Measure in one stream how far each common id is from where it was, after the rotation.

    Parameters
    ----------
    scale : float
        What distances are divided by; under cosine the distance is the cosine's, 0 to 2.
    """
    unit = old.metric is Metric.COSINE
    values: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    ids, farthest = np.zeros(0, object), np.zeros(0)
    done = 0
    with closing(pairs(connection, old, new)) as stream:
        for block in stream:
            done += len(block)
            block = directed(block, old, new)
            far = np.concatenate([np.zeros(0), *_far(block, matrix, unit, scale)])
            values.append(far.astype(np.float32))
            best = np.argsort(-far, kind="stable")[:top]
            taken = id_array(block.ids.take(pa.array(best))).astype(object)
            ids, farthest = np.concatenate([ids, taken]), np.concatenate([farthest, far[best]])
            # Ties by id, so that the order is the same whatever order the server sends.
            order = np.lexsort((np.argsort(np.argsort(ids)), -farthest))[:top]
            ids, farthest = ids[order], farthest[order]
            report(done)
    return Moves(np.concatenate(values), list(zip(ids.tolist(), farthest.tolist(), strict=True)))


def _far(block: Pairs, matrix: Array64, unit: bool, scale: float) -> list[NDArray[Any]]:
    found = []
    for at in range(0, len(block), _ROWS):
        x = rotate(block.new[at : at + _ROWS], matrix)
        y = block.old[at : at + _ROWS].astype(np.float64)
        if unit:
            lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
            cosines = np.einsum("nd,nd->n", x, y) / lengths
            found.append(1 - np.clip(cosines, -1, 1))
        else:
            found.append(np.linalg.norm(x - y, axis=1) / scale)
    return found
