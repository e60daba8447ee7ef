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


@dataclass
class Report:
    """Sections of Markdown, printed as they come."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.lines.append(text)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self.say(f"\n## {title}\n")
        self.say(f"| {' | '.join(head)} |")
        self.say(f"| {' | '.join('---' for _ in head)} |")
        for row in rows:
            self.say(f"| {' | '.join(_shown(each) for each in row)} |")


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


def true_neighbours(queries: Array, base: Array, k: int) -> Array:
    """Rows of the k nearest by cosine."""
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)
    return np.stack([np.argsort(-(unit @ query))[:k] for query in queries])


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
