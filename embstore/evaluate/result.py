"""What was measured, and how the catalog keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..types import Index

# Its key among a version's metrics. The trainer may have measured a recall of its own, which this
# must not replace.
METRIC = "index_recall"


@dataclass(frozen=True)
class Setting:
    """What searches with one setting of an index find.

    Attributes
    ----------
    search : mapping
        As ``nearest(search=...)`` takes it: ``ef_search`` or ``probes``; empty where every row is
        compared.
    mean, p5, min : float
        Of the queries' recall: its mean, its 5th percentile, the worst.
    ms : float
        Milliseconds of one query, from client to client: the median.
    """

    search: Mapping[str, int]
    mean: float
    p5: float
    min: float
    ms: float

    @property
    def value(self) -> int | None:
        """Its ``ef_search`` or ``probes``; None where every row is compared."""
        return next(iter(self.search.values()), None)

    def __str__(self) -> str:
        name, value = next(iter(self.search.items()), ("exact", None))
        return name if value is None else f"{name} {value}"


@dataclass(frozen=True)
class Evaluation:
    """What an index finds of the k nearest rows, by its settings.

    Attributes
    ----------
    ref : str
    index : Index or None
        What was measured; None where queries compare every row.
    k : int
    queries : str
        Whose vectors: ``users@3``, a file's name, ``an array``, ``its own vectors``.
    count, seed : int
        Of the sample of them.
    settings : tuple of Setting
        In ascending order.
    used : Setting or None
        The one that queries use; None when it was not among those measured.
    measured_at : datetime
    """

    ref: str
    index: Index | None
    k: int
    queries: str
    count: int
    seed: int
    settings: tuple[Setting, ...]
    used: Setting | None
    measured_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return it as the catalog keeps it, under ``METRIC`` of the version's metrics."""
        return {
            **({} if self.used is None else _figures(self.used)),
            "k": self.k,
            "queries": self.queries,
            "count": self.count,
            "seed": self.seed,
            "index": self.index and self.index.name,
            "measured_at": self.measured_at.isoformat(timespec="seconds"),
            "settings": [_figures(each) for each in self.settings],
        }


def _figures(setting: Setting) -> dict[str, Any]:
    figures = dataclasses.asdict(setting)
    return {**figures.pop("search"), **figures}
