"""Versions measured by what was held out, from end to end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .. import catalog
from ..catalog import VersionRow
from ..connection import Connection, snapshot
from ..errors import BadInput, InvalidQuery, NotFound
from ..evaluate.queries import check_sample
from ..evaluate.run import check_writable, record
from ..interactions import Interactions
from ..query.shape import Cut
from ..reads import Reads
from ..recall import BLOCK, check_pair
from ..spaces import FORCED, check_together
from ..types import Precision, Progress
from ..version import Version
from . import lists
from .bootstrap import interval, means, resampled
from .figures import Figures
from .lists import Lister
from .result import METRIC, POPULARITY, Measure, Ranked, Ranking

if TYPE_CHECKING:
    from ..store import Store

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Request:
    """What ``Store.evaluate`` was asked for beside the versions."""

    interactions: object
    history: object
    users: str | Sequence[str] | None
    k: int | Sequence[int]
    exact: bool
    sample: int | None
    resamples: int
    seed: int
    write: bool
    cache_dir: str | os.PathLike[str] | None
    force: bool
    progress: Callable[[Progress], None] | None
    warn: Callable[[str], None]

    def ks(self) -> tuple[int, ...]:
        """Return each k, ascending.

        Raises
        ------
        InvalidQuery
        """
        check_sample(self.sample, self.seed)
        if type(self.resamples) is not int or not (self.resamples == 0 or self.resamples >= 100):
            raise InvalidQuery(
                f"resamples is {self.resamples!r}: an interval takes 100 or more, 0 is for none"
            )
        given = [self.k] if isinstance(self.k, int) else list(self.k)
        if not given:
            raise InvalidQuery("there is no k to measure at: give one, or several")
        for each in given:
            Cut(each)  # says if it cannot be asked for
        return tuple(sorted(set(given)))


def evaluate(store: Store, refs: Sequence[str], request: Request) -> Ranking:
    """Measure versions; see ``Store.evaluate``."""
    ks = request.ks()
    items, users = _versions(store, refs, request)
    test, seen = _read(items, users, request)
    asked = test.users
    if request.sample is not None and len(asked) > request.sample:
        drawn = np.random.default_rng(request.seed).choice(
            len(asked), request.sample, replace=False
        )
        asked = asked.take(pa.array(np.sort(drawn)))
    measured = []
    rows = (len(items) + (seen is not None)) * len(asked)
    done = 0

    def run(name: str, whose: str | None, size: int, lister: Lister) -> None:
        nonlocal done
        figures = Figures(test, seen, ks)
        for at in range(0, len(asked), BLOCK):
            block = asked.slice(at, BLOCK)
            figures.add(block, lister(block))
            done += len(block)
            if request.progress:
                request.progress(Progress("users", done, rows))
        measured.append(_Measured(name, whose, size, figures))

    if seen is not None:
        lister = lists.of_popularity(ks[-1], seen)
        run(POPULARITY, None, len(seen.items.unique()), lister)
    for i, version in enumerate(items):
        # All rows are compared in process; an index is asked where users ask it.
        asking: Reads = version
        if request.exact:
            asking = version.replica(request.cache_dir, index="none")
        if users:
            vectors = lists.of_users(users[i])
        else:
            assert seen is not None
            vectors = lists.of_history(asking, seen)
        lister = lists.of_version(asking, vectors, ks[-1], seen, exact=request.exact)
        run(version.ref, users[i].ref if users else None, version.rows, lister)
    found = _summary(measured, ks, request)
    first = seen is not None  # of the results, the popularity is
    ranking = Ranking(
        tuple(found[first:]),
        found[0] if first else None,
        _name(request.interactions),
        None if request.history is None else _name(request.history),
        len(asked),
        int(test.lengths(asked).sum()),
        ks,
        request.exact,
        request.sample,
        request.resamples,
        request.seed,
        datetime.now(UTC),
    )
    if request.write:
        with store.writing() as connection:
            for version, result in zip(items, ranking.results, strict=True):
                record(connection, store.engine, version._row, METRIC, ranking.of(result))
    return ranking


def _versions(
    store: Store, refs: Sequence[str], request: Request
) -> tuple[list[Version], list[Version] | None]:
    """Resolve all references at one moment, and see that they belong together.

    Raises
    ------
    SpaceMismatch, DimensionMismatch, InvalidQuery, NotFound, DatabaseFailed
    """
    if not refs:
        raise InvalidQuery("name a version to measure, or several")
    given = request.users
    own = [given] * len(refs) if isinstance(given, str) else list(given or ())
    if given is not None and len(own) != len(refs):
        raise InvalidQuery(
            f"{len(own)} versions of users for {len(refs)} of items: name one for each, or one for"
            " all"
        )
    with store.reading() as lent, snapshot(lent):
        rows = [catalog.resolve(lent, ref) for ref in refs]
        found = [_of_one_space(lent, name, row) for name, row in zip(own, rows, strict=bool(own))]
    items, users = ([Version(store, row) for row in each] for each in (rows, found))
    if len({each.ref for each in items}) < len(items):
        raise InvalidQuery("a version is named twice: name each once")
    if len({each.id_type for each in items}) > 1:
        raise InvalidQuery(
            "ids are bigint in one of these versions and text in another: they are not of one set"
            " of items"
        )
    for each in items:
        if given is None and each.precision is Precision.BIT:
            raise InvalidQuery(
                f"{each.ref} holds bits, which have no mean: name the users' version"
            )
    for item, user in zip(items, users, strict=bool(users)):
        check_pair(user, item)
    if request.write:
        with store.writing() as lent:
            for each in items:
                check_writable(lent, each._row)
    if not request.force:
        with store.reading() as lent:
            for item, user in zip(items, users, strict=bool(users)):
                doubt = check_together(lent, user._row, item._row, FORCED)
                if doubt is not None:
                    request.warn(doubt)
    return items, users or None


def _of_one_space(connection: Connection, given: str, items: VersionRow) -> VersionRow:
    """Return the users of the items' own training, where only their table is named."""
    if "@" not in given and items.space is not None:
        for each in reversed(catalog.ready_versions(connection, given)):
            if each.space == items.space:
                return each
    return catalog.resolve(connection, given)


def _read(
    items: list[Version], users: list[Version] | None, request: Request
) -> tuple[Interactions, Interactions | None]:
    """Read what was held out and what was known, neither of which has the other's pairs.

    Raises
    ------
    BadInput, InvalidQuery, NotFound
    """
    if users is None and request.history is None:
        raise InvalidQuery(
            "nothing says what the users' vectors are: name their version (users, --users), or give"
            " the history they are made of (history, --history)"
        )
    of = users[0]._target() if users else None
    read = Interactions.read
    seen = None
    if request.history is not None:
        seen = read(request.history, _name(request.history), of, items[0]._target()).distinct()
        if not len(seen):
            raise NotFound(f"{_name(request.history)} holds no interaction: leave the history out")
    test = read(request.interactions, _name(request.interactions), of, items[0]._target())
    if seen is not None and seen.users.type != test.users.type:
        raise BadInput(
            f"users are {seen.users.type} in {_name(request.history)} and {test.users.type} in"
            f" {_name(request.interactions)}: give both as one type"
        )
    test = test.distinct(seen)
    if not len(test):
        raise NotFound(
            f"{_name(request.interactions)} holds no interaction"
            f"{'' if seen is None else ' that the history has not'}: there is nothing to measure"
        )
    return test, seen


def _name(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    return getattr(source, "name", None) or "a table"


@dataclass(frozen=True)
class _Measured:
    name: str
    users: str | None
    size: int
    figures: Figures


def _summary(measured: list[_Measured], ks: Sequence[int], request: Request) -> list[Ranked]:
    """Put means, intervals and differences together."""
    values = [each.figures.of_users() for each in measured]
    names = list(values[0])
    table = np.column_stack([own[name] for own in values for name in names])
    mean, drawn = means(table), None
    if request.resamples:
        drawn = resampled(table, request.resamples, request.seed)
    base = int(measured[0].name == POPULARITY)
    found = []
    for i, each in enumerate(measured):
        own = {}
        for j, name in enumerate(names):
            at, to = i * len(names) + j, base * len(names) + j
            own[name] = _measure(mean, drawn, at, None if i == base else to)
        for k in ks:
            own[f"coverage@{k}"] = Measure(each.figures.recommended(k) / each.size)
        ordered = {f"{name}@{k}": own[f"{name}@{k}"] for k in ks for name in _ORDER}
        found.append(Ranked(each.name, each.users, each.figures.answered, ordered))
    return found


_ORDER = ("hit_rate", "recall", "ndcg", "mrr", "coverage", "novelty")


def _measure(values: Array, drawn: Array | None, at: int, base: int | None) -> Measure:
    if np.isnan(values[at]):
        return Measure(None)
    low = high = difference = below = above = None
    if drawn is not None:
        low, high = interval(drawn[at])
    if base is not None and not np.isnan(values[base]):
        difference = float(values[at] - values[base])
        if drawn is not None:
            below, above = interval(drawn[at] - drawn[base])
    return Measure(float(values[at]), low, high, difference, below, above)
