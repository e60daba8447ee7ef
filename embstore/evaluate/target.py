"""The index that reaches a recall: the smallest setting that does, a better graph, or none at all.

What is chosen is chosen before anybody can ask the version, so that it never answers otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..errors import InvalidQuery
from ..index import Wanted
from ..index.build import build, watched
from ..io import Lender, OneConnection
from ..query.nearest import MAX_EF_SEARCH
from ..query.target import Target
from ..relations import SCHEMA
from ..types import Index, Progress
from .queries import SAMPLE, Queries, given, own
from .recall import check_k, measure, searched, summary
from .result import Evaluation, Setting
from .truth import Truth, exact

if TYPE_CHECKING:
    from ..store import Store

# A graph for those whose links do not lead to all rows, as under inner product: twice the links,
# some three times the build. On 10,000 SVD factors, asked by their users, recall@10 was 0.99 at
# ef_search 1000 with the usual graph, and 1 at 150 with this one.
BETTER = {"m": 32, "ef_construction": 200}
_STEPS = (10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, MAX_EF_SEARCH)


@dataclass(frozen=True)
class Goal:
    """The recall that a load is to reach.

    Attributes
    ----------
    recall : float
        The mean over the queries, above 0 and at most 1.
    k : int
    queries : Queries or None
        None: the version's own vectors.
    """

    recall: float
    k: int
    queries: Queries | None

    @classmethod
    def of(
        cls,
        store: Store,
        target: Target,
        recall: float,
        queries: object,
        k: int,
    ) -> Self:
        """Return what ``target`` is to reach; of a load it need not be there yet.

        Raises
        ------
        DimensionMismatch, InvalidQuery, NotFound, BadInput
        """
        if isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 < recall <= 1:
            raise InvalidQuery(f"target_recall is {recall!r}: it must be above 0 and at most 1")
        check_k(k)
        if queries is None:
            return cls(recall, k, None)
        with store.reading() as connection:
            return cls(recall, k, given(connection, store.read_engine, queries, target))

    def check_dim(self, dim: int, name: str) -> None:
        """Refuse queries that the version will not be able to answer.

        Raises
        ------
        DimensionMismatch
        """
        if self.queries is not None:
            self.queries.check_dim(dim, name)


def goal_of(
    store: Store,
    target: Target,
    recall: float | None,
    queries: object,
    k: int,
    wanted: Wanted,
) -> Goal | None:
    """Return what a load is told to reach; None where it is told nothing.

    Raises
    ------
    DimensionMismatch, InvalidQuery, NotFound, BadInput
    """
    if recall is None:
        if queries is not None:
            raise InvalidQuery(
                "queries are what target_recall is measured with: give both, or neither"
            )
        return None
    if wanted.kind == "none":
        raise InvalidQuery("index none finds all there is: leave target_recall out")
    return Goal.of(store, target, recall, queries, k)


@dataclass(frozen=True)
class Reached:
    """What came of it.

    Attributes
    ----------
    index : Index or None
        None where only exact search reaches the recall.
    evaluation : Evaluation
        Of that index; where there is none, ``settings`` are those of the last that was tried.
    why : str
        What was measured, in one line.
    """

    index: Index | None
    evaluation: Evaluation
    why: str


def reach(
    connection: Connection,
    connect: Callable[[], Connection],
    engine: Engine,
    version: VersionRow,
    wanted: Wanted,
    goal: Goal,
    report: Callable[[Progress], None] | None,
    warn: Callable[[str], None],
) -> Reached:
    """Choose among what the version's index can find; in the caller's transaction, as a loader.

    An HNSW index that does not reach the recall is replaced by a better one, if its options were
    not asked for, and dropped if that does not either.
    """
    told = report or (lambda _: None)
    index = version.indexes[0]
    queries = goal.queries or own(connection, engine, version, sample=SAMPLE)
    truth = exact(connection, version, queries, goal.k, told)
    lender = OneConnection(connection, engine)
    while True:
        found, tried = smallest(lender, version, index, queries, truth, goal)
        if found is not None:
            index, why = settled(index, found, queries, goal)
            return Reached(index, summary(version, index, queries, goal.k, tried), why)
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(SCHEMA, index.name)))
        best = tried[-1]
        if index.kind != "hnsw" or wanted.m or wanted.ef_construction or index.options == BETTER:
            break
        better = dataclasses.replace(
            index,
            options=BETTER,
            why=f"{index.why}; the usual graph has recall@{goal.k} of {best.mean:.4g} at {best}",
        )
        bare = dataclasses.replace(version, indexes=())
        with watched(connection, connect, report) if report else nullcontext():
            index, warnings = build(connection, engine, bare, better, version.rows or 0)
        for each in warnings:
            warn(each)
    why = (
        f"only exact search reaches recall@{goal.k} of {goal.recall:g}: {index.kind} has"
        f" {best.mean:.4g} at {best} with {queries}"
    )
    return Reached(None, summary(version, None, queries, goal.k, tried), why)


def settled(index: Index, found: Setting, queries: Queries, goal: Goal) -> tuple[Index, str]:
    """Return the index searched by the setting that was found, and what was measured of it."""
    why = f"recall@{goal.k} of {found.mean:.4g} at {found} with {queries}"
    search = searched(index, found.value or 0, goal.k)
    known = index.why.partition("; recall@")[0]
    return dataclasses.replace(index, search=search, why=f"{known}; {why}"), why


def smallest(
    lender: Lender,
    version: VersionRow,
    index: Index,
    queries: Queries,
    truth: Truth,
    goal: Goal,
) -> tuple[Setting | None, list[Setting]]:
    """Return the smallest setting that reaches the recall, and all that were measured, ascending.

    The more is looked at, the more is found: so a few of the steps tell of all.
    """
    steps = _steps(index, goal.k)
    tried: dict[int, Setting] = {}
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        tried[steps[middle]] = setting = measure(
            lender, version, index, steps[middle], queries, truth, goal.k
        )
        if setting.mean >= goal.recall:
            high = middle
        else:
            low = middle + 1
    ordered = [tried[each] for each in sorted(tried)]
    return (tried[steps[low]] if low < len(steps) else None), ordered


def _steps(index: Index, k: int) -> Sequence[int]:
    if index.kind == "hnsw":
        return sorted({max(k, each) for each in _STEPS})
    # To read more than half of the rows list by list is slower than to read all of them.
    most = max(1, index.options["lists"] // 2)
    halvings = range(2 * math.ceil(math.log2(most)) + 1)
    return sorted({max(1, round(most / math.sqrt(2) ** each)) for each in halvings})
