"""Recall of a version's index, by what it finds of the exact answers."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import numpy as np

from ..catalog import VersionRow
from ..errors import InvalidQuery
from ..index.choose import EF_SEARCH
from ..io import Lender, complete
from ..query.ask import Ask
from ..query.nearest import BLOCK, MAX_EF_SEARCH, nearest, similar
from ..query.target import Target
from ..types import Index, Precision, Progress
from .queries import Queries
from .result import Evaluation, Setting
from .truth import Truth

# Queries that are timed one by one: the median of so many holds still.
_TIMED = 100
# Without an index each query reads the whole version, and finds all.
_EXACT = 20
# What is tried of HNSW; pgvector's own default is 40.
SWEEP = (20, 40, EF_SEARCH, 200, 400, MAX_EF_SEARCH)


def searched(index: Index, value: int, k: int) -> dict[str, int]:
    """Return the index's ``search`` with another ``ef_search`` or ``probes``.

    An index of bits finds candidates that the full vectors rank: there the more that are looked
    at, the more are ranked.
    """
    search = {**index.search, knob(index): value}
    rounded = search["oversample"] > 1
    if index.kind == "hnsw" and index.precision is Precision.BIT and rounded:
        search["oversample"] = max(2, math.ceil(value / k))
    return search


def knob(index: Index) -> str:
    """Return what of a search says how far it looks."""
    return "ef_search" if index.kind == "hnsw" else "probes"


def sweep(version: VersionRow, k: int, asked: Iterable[int] | None = None) -> Sequence[int | None]:
    """Return the settings to measure, ascending; those that a search would raise to k, as k.

    Raises
    ------
    InvalidQuery
    """
    index = next(iter(version.indexes), None)
    if index is None:
        if asked is not None:
            raise InvalidQuery(
                f"{version.ref} has no index to be searched with other settings: leave them out"
            )
        return [None]
    stored = index.search[knob(index)]
    most = MAX_EF_SEARCH if index.kind == "hnsw" else index.options["lists"]
    if asked is not None:
        values = list(asked)
        for each in values:
            if type(each) is not int or not 1 <= each <= most:
                raise InvalidQuery(f"{knob(index)} is {each!r}: it must be 1 to {most}")
        if not values:
            raise InvalidQuery(f"there is no {knob(index)} to measure: give some, or none at all")
    elif index.kind == "hnsw":
        values = [*SWEEP, stored]
    else:
        values = [1, stored // 4, stored // 2, stored, 2 * stored, 4 * stored, most]
    least = k if index.kind == "hnsw" else 1
    return sorted({min(most, max(least, each)) for each in values})


def measure(
    lender: Lender,
    version: VersionRow,
    index: Index | None,
    value: int | None,
    queries: Queries,
    truth: Truth,
    k: int,
) -> Setting:
    """Ask a version as it would be asked if this were its index, searched so."""
    search: dict[str, int] = {}
    indexes: tuple[Index, ...] = ()
    if index is not None and value is not None:
        search = {knob(index): value}
        indexes = (dataclasses.replace(index, search=searched(index, value, k)),)
    target = Target.of_version(dataclasses.replace(version, indexes=indexes))
    ask = Ask.of(k)
    recalls = []
    count = len(queries) if indexes else _EXACT
    # Block by block: more would be asked by several connections, of which a load has one.
    for at in range(0, min(count, len(queries)), BLOCK):
        part = slice(at, min(count, at + BLOCK))
        if queries.ids is None:
            found = complete(nearest(lender, target, queries.vectors[part], ask))
        else:
            own = queries.ids[part]
            found = complete(similar(lender, target, own, ask))
        recalls.append(Truth(truth.distances[part], truth.slack[part]).recall(found.distances))
    recall = np.concatenate(recalls)
    times = []
    for each in queries.vectors[: min(count, _TIMED)]:
        began = time.perf_counter()
        complete(nearest(lender, target, each, ask))
        times.append(time.perf_counter() - began)
    return Setting(
        search,
        round(float(recall.mean()), 6),
        round(float(np.percentile(recall, 5)), 6),
        round(float(recall.min()), 6),
        round(float(np.median(times)) * 1000, 3),
    )


def evaluate(
    lender: Lender,
    version: VersionRow,
    queries: Queries,
    truth: Truth,
    k: int,
    values: Iterable[int | None],
    report: Callable[[Progress], None] = lambda _: None,
) -> Evaluation:
    """Measure the index that a version's queries use, with each of the settings."""
    index = next(iter(version.indexes), None)
    values = list(values)
    settings = []
    for done, value in enumerate(values, 1):
        settings.append(measure(lender, version, index, value, queries, truth, k))
        report(Progress("recall", done, len(values)))
    return summary(version, index, queries, k, settings)


def summary(
    version: VersionRow, index: Index | None, queries: Queries, k: int, settings: Iterable[Setting]
) -> Evaluation:
    """Put what was measured together; the index's own setting is the one that is used."""
    stored = None if index is None else index.search[knob(index)]
    if index is not None and index.kind == "hnsw" and stored is not None:
        stored = max(stored, k)
    ordered = tuple(sorted(settings, key=lambda each: each.value or 0))
    return Evaluation(
        version.ref,
        index,
        k,
        queries.name,
        len(queries),
        queries.seed,
        ordered,
        next((each for each in ordered if each.value == stored), None),
        datetime.now(UTC),
    )


def check_k(k: int) -> None:
    """Refuse a k that an index does not answer.

    Raises
    ------
    InvalidQuery
    """
    if type(k) is not int or not 1 <= k <= MAX_EF_SEARCH:
        raise InvalidQuery(
            f"k is {k!r}: recall is measured for 1 to {MAX_EF_SEARCH}, more is always exact"
        )
