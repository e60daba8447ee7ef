"""The rotation that best maps one version onto another: the orthogonal Procrustes problem.

A training draws its own axes: two runs of the same model on the same data differ by a rotation, and
by what they learned anew. A rotation changes no inner product, no norm and no cosine inside a
version, so that who is near whom stays as it was; it only brings the axes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidQuery

Array64 = NDArray[np.float64]
# Rows that are multiplied at a time. Of twice as many BLAS shares the work among threads, which on
# a busy machine wait for each other: 1 GFLOP/s was measured, against 17.
_ROWS = 1 << 11


@dataclass(frozen=True, eq=False)
class Rotation:
    """An orthogonal matrix, a reflection maybe, and how well it fits.

    Attributes
    ----------
    matrix : array (dim, dim), float64
        ``aligned = vectors @ matrix``.
    ids : int
        The common ids that it was fitted on.
    residual : float
        What is left: ``||X R - Y|| / ||Y||`` (Frobenius) of the new vectors X and the old ones Y of
        those ids; under cosine of unit length. 0 says that the versions differ by the rotation
        alone; unrelated vectors of equal length leave about the square root of 2.
    before : float
        The same without the rotation.
    """

    matrix: Array64
    ids: int
    residual: float
    before: float


def rotate(vectors: NDArray[Any], matrix: Array64) -> Array64:
    """Return vectors (n, dim) in other axes, float64; what is not finite stays so, silently."""
    turned = np.empty(vectors.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        for at in range(0, len(vectors), _ROWS):
            part = vectors[at : at + _ROWS].astype(np.float64, copy=False)
            np.matmul(part, matrix, out=turned[at : at + _ROWS])
    return turned


class Procrustes:
    """Collects pairs of vectors, block by block, and solves for the rotation.

    Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966:
    with the singular value decomposition ``U S V'`` of ``X' Y``, it is ``U V'``. Sums are float64.
    Nothing is centred: inner products with other tables must stay as they were.

    Parameters
    ----------
    unit : bool
        Bring all vectors to unit length first, as a cosine sees them; zero vectors are left out.
    """

    def __init__(self, dim: int, *, unit: bool) -> None:
        self._unit = unit
        self._products = np.zeros((dim, dim))
        self._squares = [0.0, 0.0]
        self.ids = 0

    def add(self, new: NDArray[Any], old: NDArray[Any]) -> None:
        """Add pairs: vectors (n, dim) of the new version, and of the same ids of the old one."""
        for at in range(0, len(new), _ROWS):
            x, y = (each[at : at + _ROWS].astype(np.float64) for each in (new, old))
            if self._unit:
                x, y = both_unit(x, y)
            self._products += x.T @ y
            self._squares[0] += float(np.vdot(x, x))
            self._squares[1] += float(np.vdot(y, y))
            self.ids += len(x)

    @property
    def scale(self) -> float:
        """The root mean square length of the old vectors; 1 where all are zero."""
        return float(np.sqrt(self._squares[1] / max(1, self.ids))) or 1.0

    def check(self, new: str, old: str) -> None:
        """Refuse too few pairs: then there are many rotations that fit as well.

        Raises
        ------
        InvalidQuery
            Saying how many are needed.
        """
        dim = len(self._products)
        if self.ids < dim:
            raise InvalidQuery(
                f"{new} and {old} have {self.ids:,} ids in common that can be compared: a rotation"
                f" of {dim} dimensions needs at least {dim}"
            )

    def solve(self) -> Rotation:
        """Return the rotation of the new vectors onto the old ones."""
        u, singular, vt = np.linalg.svd(self._products)
        return Rotation(
            u @ vt,
            self.ids,
            self._residual(float(singular.sum())),
            self._residual(float(np.trace(self._products))),
        )

    def _residual(self, product: float) -> float:
        # The square of the norm of a difference, by the sums alone.
        x, y = self._squares
        left = max(0.0, x + y - 2 * product)
        return float(np.sqrt(left / y)) if y else 0.0


def both_unit(x: Array64, y: Array64) -> tuple[Array64, Array64]:
    """Return the pairs (n, dim) at unit length, without those of which one is zero."""
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    good = (lengths[0] > 0) & (lengths[1] > 0)
    if not good.all():
        x, y, lengths = x[good], y[good], (lengths[0][good], lengths[1][good])
    return x / lengths[0][:, None], y / lengths[1][:, None]
