"""What was measured of versions' recommendations, and how the catalog keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# Its key among a version's metrics.
METRIC = "ranking"
POPULARITY = "popularity"


@dataclass(frozen=True)
class Measure:
    """One measure of one version.

    Attributes
    ----------
    value : float or None
        None where it cannot be told: novelty without a history, or without answers.
    low, high : float or None
        Where the mean lies, in 95 of 100 draws of as many users.
    difference, difference_low, difference_high : float or None
        To the first version, with the same draws for both; None for the first itself.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None

    def __str__(self) -> str:
        """``0.1709±0.0034``: the value, and half the width of its interval."""
        if self.value is None:
            return ""
        return f"{self.value:.4f}{_half(self.low, self.high)}"

    def against(self) -> str:
        """``+0.0108±0.0025 *``: the difference; the star where its interval leaves out 0."""
        if self.difference is None:
            return ""
        low, high = self.difference_low, self.difference_high
        sure = low is not None and high is not None and (low > 0 or high < 0)
        return f"{self.difference:+.4f}{_half(low, high)}{' *' if sure else ''}"


def _half(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"±{(high - low) / 2:.4f}"


@dataclass(frozen=True)
class Ranked:
    """How well one version recommends.

    Attributes
    ----------
    ref : str
        ``popularity`` for the baseline.
    users : str or None
        Whose vectors asked: ``users@3``; None where they were made of the history.
    answered : int
        How many of the users got any item; the others count as misses.
    measures : mapping of name to Measure
        ``hit_rate@10``, ``recall@10``, ``ndcg@10``, ``mrr@10``, ``coverage@10``, ``novelty@10``,
        for each k.
    """

    ref: str
    users: str | None
    answered: int
    measures: Mapping[str, Measure]

    def as_json(self) -> dict[str, Any]:
        """Return it with plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Ranking:
    """How well versions recommend, against the same held-out interactions.

    Attributes
    ----------
    results : tuple of Ranked
        A version each, in the order asked for.
    popularity : Ranked or None
        Of recommending what most have taken to; None without a history.
    interactions, history : str or None
        What they were read from.
    users, pairs : int
        That were held out, without what is in the history.
    k : tuple of int
    exact : bool
        Whether every item was compared, or the version's own index asked.
    sample : int or None
    resamples, seed : int
    measured_at : datetime
    """

    results: tuple[Ranked, ...]
    popularity: Ranked | None
    interactions: str
    history: str | None
    users: int
    pairs: int
    k: tuple[int, ...]
    exact: bool
    sample: int | None
    resamples: int
    seed: int
    measured_at: datetime

    def __getitem__(self, ref: str) -> Ranked:
        """Return that of one version."""
        return next(each for each in self.results if each.ref == ref)

    def as_json(self) -> dict[str, Any]:
        """Return all of it, as ``embstore evaluate --json`` prints it."""
        found = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        found["results"] = [each.as_json() for each in self.results]
        found["popularity"] = self.popularity and self.popularity.as_json()
        found["measured_at"] = self.measured_at.isoformat(timespec="seconds")
        return found

    def of(self, result: Ranked) -> dict[str, Any]:
        """Return what the catalog keeps of one version, under ``METRIC`` of its metrics."""
        figures = {
            name: [each.value, each.low, each.high] for name, each in result.measures.items()
        }
        return {
            "interactions": self.interactions,
            "history": self.history,
            "users": result.users,
            "count": self.users,
            "pairs": self.pairs,
            "answered": result.answered,
            "exact": self.exact,
            "sample": self.sample,
            "seed": self.seed,
            "measured_at": self.measured_at.isoformat(timespec="seconds"),
            **figures,
        }
