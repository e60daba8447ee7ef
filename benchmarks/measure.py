"""Timing, and the tables that the measurements are printed in."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Goal:
    """A figure and what it should be at most, or at least."""

    what: str
    measured: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass
class Report:
    """Sections of Markdown, printed as they come; pictures go to ``folder``/images."""

    folder: Path
    lines: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.lines.append(text)

    def goal(self, what: str, measured: float, limit: float, *, at_least: bool = False) -> None:
        """Note a figure beside its goal: at most ``limit``, or at least."""
        goal = Goal(what, measured, limit, at_least)
        self.goals.append(goal)
        print(f"  goal: {' | '.join(map(_shown, _cells(goal)))}", flush=True)

    def picture(self, name: str, figure: Any, says: str) -> None:
        """Save a matplotlib figure as SVG and show it; ``says`` is for who cannot see it."""
        images = self.folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        # Without a date, a run that measures the same gives the same file.
        figure.savefig(images / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
        self.say(f"\n![{says}](images/{name}.svg)")

    def document(self, head: str) -> str:
        """All of it as one page, the goals first."""
        top = Report(self.folder)
        top.lines.append(head)
        if self.goals:
            top.lines += markdown("Goals", GOAL_HEAD, [_cells(goal) for goal in self.goals])
        return "\n".join(top.lines + self.lines) + "\n"

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        for line in markdown(title, head, rows):
            self.say(line)


GOAL_HEAD = ("what", "goal", "measured", "met")


def _cells(goal: Goal) -> list[object]:
    bound = "at least" if goal.at_least else "at most"
    return [goal.what, f"{bound} {goal.limit:g}", goal.measured, "yes" if goal.met else "no"]


def markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [f"\n## {title}\n", f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return lines + [f"| {' | '.join(_shown(each) for each in row)} |" for row in rows]


def _shown(value: object) -> str:
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and value < 1000
        else (f"{value:,.0f}" if isinstance(value, float | int) else str(value))
    )


def interleaved(rounds: int, *functions: Callable[[], float]) -> list[float]:
    """Medians of functions that return seconds, run in turns so that a slow minute hits all."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for each, own in zip(functions, seconds, strict=True):
            own.append(each())
    return [statistics.median(own) for own in seconds]


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def medians(calls: int, *functions: Callable[[int], object]) -> list[float]:
    """Median milliseconds per call of functions of the call's number, in turns of 20 calls."""
    own: list[list[float]] = [[] for _ in functions]
    for function in functions:
        for i in range(20):
            function(i)  # prepared statements, caches
    for first in range(0, calls, 20):
        for function, seconds in zip(functions, own, strict=True):
            seconds += [timed(partial(function, i)) for i in range(first, first + 20)]
    return [1000 * statistics.median(seconds) for seconds in own]


def vectors(rows: int, dim: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """Vectors as trainers make them: around a centre for each hundred."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, rows // 100), dim), dtype=np.float32)
    spread = rng.standard_normal((rows, dim), dtype=np.float32)
    return np.asarray(centres[rng.integers(0, len(centres), rows)] + 0.7 * spread)


def factors(rows: int, dim: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """Vectors as factorizations make them: each component smaller than the one before.

    Without clusters, recall is a question: HNSW at pgvector's default of 40 finds 0.8 of them.
    """
    rng = np.random.default_rng(seed)
    scale = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    return rng.standard_normal((rows, dim), dtype=np.float32) * scale


def true_neighbours(queries: Array, base: Array, k: int) -> Array:
    """Rows of the k nearest by cosine, in no order."""
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    return np.stack([np.argpartition(unit @ query, -k)[-k:] for query in queries])


def answers(
    nearest: Callable[[Array], Sequence[Any]],
    queries: Array,
    true: Array,
    limit: float = 10.0,
) -> tuple[float, float]:
    """Median milliseconds of a query and recall, over ``true``'s queries or ``limit`` seconds."""
    for query in queries[-5:]:
        nearest(query)  # prepared statements, caches
    found, seconds = [], []
    end = time.perf_counter() + limit
    for query in queries[: len(true)]:
        start = time.perf_counter()
        found.append(nearest(query))
        seconds.append(time.perf_counter() - start)
        if start > end:
            break
    return 1000 * statistics.median(seconds), recall(found, true[: len(found)])


def recall(found: Sequence[Sequence[Any]], true: Array) -> float:
    hits = [len(set(map(int, a)) & set(b.tolist())) for a, b in zip(found, true, strict=True)]
    return sum(hits) / true.size


def machine() -> str:
    model = (
        next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        if Path("/proc/cpuinfo").exists()
        else platform.processor()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GB, Python {platform.python_version()}"
