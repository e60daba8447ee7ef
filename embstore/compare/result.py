"""What comparing two versions finds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidQuery
from ..types import Id, Metric
from .measures import IdChanges, Norms, error_of_mean, norm_drift

if TYPE_CHECKING:
    from .overlap import Overlap

# Of a histogram.
_BINS = 20


@dataclass(frozen=True)
class Distribution:
    """Some numbers, one of each id.

    Attributes
    ----------
    count, of : int
        How many ids were looked at, and of how many they were drawn at random.
    mean, error : float
        Their mean, and its standard error as an estimate for all; 0 where all were looked at.
    p5, median, p95 : float
    histogram : tuple of (float, float, int)
        From, to, and how many ids lie there; the last bin holds its end too, and of a drift all
        that is farther.
    """

    count: int
    of: int
    mean: float
    error: float
    p5: float
    median: float
    p95: float
    histogram: tuple[tuple[float, float, int], ...]

    @classmethod
    def made(cls, values: NDArray[Any], of: int, edges: NDArray[np.float64]) -> Self:
        """Describe numbers (n,), n at least 1; ``edges`` are those of the histogram."""
        p5, median, p95 = np.quantile(values, (0.05, 0.5, 0.95)).tolist()
        counts, _ = np.histogram(values, edges)
        return cls(
            len(values),
            of,
            float(values.mean(dtype=np.float64)),
            error_of_mean(values, of),
            p5,
            median,
            p95,
            tuple(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)),
        )


@dataclass(frozen=True)
class Aligned:
    """How well the new version can be rotated onto the old one.

    Attributes
    ----------
    ids : int
        The common ids that the rotation was fitted on.
    residual, before : float
        What differs with the rotation and without, relative to the old vectors; see ``Rotation``.
    """

    ids: int
    residual: float
    before: float


@dataclass(frozen=True)
class MovedId:
    """One of the ids that moved most.

    Attributes
    ----------
    id : int or str
    drift : float or None
        How far it is from where it was, after alignment.
    overlap : float or None
        The share of its neighbours that stayed, where that was measured.
    attributes : mapping
        Of the new version.
    """

    id: Id
    drift: float | None
    overlap: float | None
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """How two versions differ; see ``Store.compare``.

    Attributes
    ----------
    old, new : str
        Their references, ``items@7``.
    metric : Metric
        Of the old version.
    rows, dims : (int, int)
        Of the old and of the new version.
    ids : IdChanges
        How many ids were added and removed, and some of them.
    norms : (Norms, Norms)
        The lengths of the vectors; of bits, how many are set.
    k, seed : int
    overlap : Distribution or None
        Of each id drawn: which share of its k nearest neighbours stayed. None where there are no
        common ids to compare.
    aligned : Aligned or None
        How well a rotation maps the new version onto the old one.
    drift : Distribution or None
        How far each common id has moved after that: under cosine the cosine distance (0 to 2), else
        the distance in units of the old vectors' root mean square length.
    unaligned : str or None
        Why there is neither.
    moved : tuple of MovedId
        The ids that moved most; without a drift those of the sample that kept the fewest
        neighbours.
    """

    old: str
    new: str
    metric: Metric
    rows: tuple[int, int]
    dims: tuple[int, int]
    ids: IdChanges
    norms: tuple[Norms, Norms]
    k: int
    seed: int
    overlap: Distribution | None
    aligned: Aligned | None
    drift: Distribution | None
    unaligned: str | None
    moved: tuple[MovedId, ...]

    @property
    def coverage(self) -> float:
        """The share of the old ids that the new version has."""
        return self.ids.coverage

    @property
    def norm_drift(self) -> float:
        """By which part the median norm has changed."""
        return norm_drift(*self.norms)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "old": {"ref": self.old, "rows": self.rows[0], "dim": self.dims[0]},
            "new": {"ref": self.new, "rows": self.rows[1], "dim": self.dims[1]},
            "metric": self.metric.value,
            "ids": {**asdict(self.ids), "coverage": self.coverage},
            "norms": {
                "old": asdict(self.norms[0]),
                "new": asdict(self.norms[1]),
                "drift": _finite(self.norm_drift),
            },
            "k": self.k,
            "seed": self.seed,
            "overlap": self.overlap and asdict(self.overlap),
            "aligned": self.aligned and asdict(self.aligned),
            "drift": self.drift and asdict(self.drift),
            "unaligned": self.unaligned,
            "moved": [asdict(each) for each in self.moved],
        }

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one page that needs no other file: the figures, their plots, what moved most.

        Raises
        ------
        InvalidQuery
            When it cannot be written.
        """
        from .report import page

        try:
            Path(path).write_text(page(self), encoding="utf-8")
        except OSError as error:
            raise InvalidQuery(
                f"{path}: the page cannot be written there ({error.strerror}); name another file"
            ) from error


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def of_overlap(found: Overlap) -> Distribution:
    """Describe an overlap, with a bin for each number of neighbours that may have stayed."""
    k = found.k
    edges = (np.arange(k + 2) - 0.5) / k if k <= _BINS else np.linspace(0, 1, _BINS + 1)
    return Distribution.made(found.values, found.common, np.clip(edges, 0, 1))


def of_drift(values: NDArray[np.float32], metric: Metric) -> Distribution:
    """Describe the drift of all common ids; the bins of most of them, and one for the far ones."""
    most = 2.0 if metric is Metric.COSINE else float(values.max())
    reach = max(float(np.quantile(values, 0.99)) * 1.1, 1e-6)
    edges = np.linspace(0, min(reach, max(most, 1e-6)), _BINS + 1)
    edges[-1] = max(edges[-1], float(values.max()))
    return Distribution.made(values, len(values), edges)
