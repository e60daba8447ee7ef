"""A progress bar on stderr, where stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embstore.load import Progress

_LABEL = {
    "rows": "rows",
    "users": "users",
    "index": "index",
    "publish": "publishing",
    "exact": "exact answers",
    "recall": "recall",
    "neighbours": "neighbours",
    "drift": "drift",
    "align": "aligning",
    "gates": "gates",
}


@contextmanager
def bar() -> Iterator[Callable[[Progress], None] | None]:
    """Give a callback for ``Table.load``; None when nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(seen: Progress) -> None:
            if seen.phase not in tasks:
                tasks[seen.phase] = bars.add_task(_LABEL[seen.phase], total=None, rate="", note="")
            task = tasks[seen.phase]
            speed = next(each.speed for each in bars.tasks if each.id == task)
            rate = f"{speed:,.0f}/s" if speed and seen.phase in {"rows", "users"} else ""
            bars.update(task, completed=seen.done, total=seen.total, rate=rate, note=seen.note)

        yield report
