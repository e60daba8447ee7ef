"""The query vectors that a version is measured with: of another version, an array, a file, or own.

An index is as good as its answers to the queries that will be asked: users' vectors for items.
A version's own vectors are only a stand-in, and under inner product a poor one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from .. import catalog
from ..catalog import VersionRow
from ..connection import Connection, Engine, translated
from ..errors import DimensionMismatch, InvalidQuery
from ..io import SyncIo, complete
from ..query.check import check_queries
from ..query.lookup import vectors_of
from ..query.target import Target, check_ids
from ..refs import is_reference
from ..relations import version_table
from ..spaces import check_together
from ..types import Metric, Vectors

# A mean over so many is off by less than 0.01, and its 5th percentile rests on fifty.
SAMPLE = 1000


@dataclass(frozen=True, eq=False)
class Queries:
    """Query vectors.

    Attributes
    ----------
    name : str
        What they are: ``users@3``, a file's name, ``an array``, ``its own vectors``.
    vectors : array (q, dim), float32
    seed : int
        Of the sample.
    ids : Arrow array (q,) or None
        Of a version's own vectors, the ids to leave out of the answers.
    """

    name: str
    vectors: Vectors
    seed: int
    ids: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def __str__(self) -> str:
        return f"{len(self):,} {'query' if len(self) == 1 else 'queries'} of {self.name}"

    def check_dim(self, dim: int, name: str) -> None:
        """Refuse queries that ``name`` cannot answer.

        Raises
        ------
        DimensionMismatch
        """
        own = self.vectors.shape[1]
        if own == dim:
            return
        hint = ""
        if own == dim - 1:
            hint = (
                ": where the items' biases are folded in, the users need their 1 beside them,"
                " load them with biases=1 (--biases 1)"
            )
        raise DimensionMismatch(
            f"{name} has {dim} dimensions, the queries ({self.name}) have {own}{hint}"
        )


def given(
    connection: Connection,
    engine: Engine,
    queries: object,
    target: Target,
    *,
    sample: int | None = SAMPLE,
    seed: int = 0,
) -> Queries:
    """Return what a user names as queries of ``target``: a reference, a file's path or an array.

    Parameters
    ----------
    sample : int or None
        The most to take, at random; None takes all.

    Raises
    ------
    SpaceMismatch
        When they are known to be of another training.
    DimensionMismatch, InvalidQuery, NotFound, BadInput
    """
    check_sample(sample, seed)
    if isinstance(queries, str) and is_reference(queries):
        row = catalog.resolve(connection, queries)
        if target.row is not None and row.ref == target.row.ref:
            return own(connection, engine, row, sample=sample, seed=seed)
        if target.row is not None:
            check_together(connection, row, target.row)
        found = _sampled(connection, engine, row, target.metric, sample, seed)
    else:
        if isinstance(queries, str | os.PathLike):
            from ..readers import read_queries

            name, vectors = Path(queries).name, read_queries(os.fspath(queries))[1]
        else:
            name, vectors = "an array", queries
        checked = check_queries(vectors, _undimensioned(target))
        if sample is not None and len(checked) > sample:
            drawn = np.random.default_rng(seed).choice(len(checked), sample, replace=False)
            checked = checked[np.sort(drawn)]
        found = Queries(name, checked, seed)
    if not len(found):
        raise InvalidQuery(f"there are no queries in {found.name} to measure {target.ref} with")
    if target.dim is not None:
        found.check_dim(target.dim, target.ref)
    return found


def own(
    connection: Connection,
    engine: Engine,
    row: VersionRow,
    *,
    sample: int | None = SAMPLE,
    seed: int = 0,
) -> Queries:
    """Return some of a version's own vectors, with their ids."""
    check_sample(sample, seed)
    return _sampled(connection, engine, row, row.metric, sample, seed, themselves=True)


def check_sample(sample: int | None, seed: int) -> None:
    """Refuse a sample that cannot be drawn.

    Raises
    ------
    InvalidQuery
    """
    if sample is not None and (type(sample) is not int or sample < 1):
        raise InvalidQuery(f"sample is {sample!r}: it must be a positive whole number")
    if type(seed) is not int or not -(2**63) <= seed < 2**63:
        raise InvalidQuery(f"seed is {seed!r}: it must be a whole number of 64 bits")


def _undimensioned(target: Target) -> Target:
    """Return a target whose dim is not compared: ``Queries.check_dim`` says more about it."""
    return Target(target.ref, target.name, target.id_type, target.metric, target.precision)


def _sampled(
    connection: Connection,
    engine: Engine,
    row: VersionRow,
    metric: Metric,
    sample: int | None,
    seed: int,
    *,
    themselves: bool = False,
) -> Queries:
    """Draw rows by a hash of their ids, which gives the same rows wherever and whenever it runs."""
    with translated(f"drawing queries from {row.ref}"):
        drawn = connection.execute(
            sql.SQL(
                'SELECT id FROM {} ORDER BY hashtextextended(id::text COLLATE "C", %s), id LIMIT %s'
            ).format(version_table(row.table_name, row.version)),
            (seed, sample),
        ).fetchall()
    target = Target.of_version(row)
    ids = check_ids([each[0] for each in drawn], target)
    vectors = complete(vectors_of(SyncIo(connection), engine, target, ids))
    if metric in {Metric.COSINE, Metric.JACCARD}:  # trainers leave zeros for whom they never saw
        directed: Any = vectors.any(axis=1)
        ids, vectors = ids.filter(pa.array(directed)), vectors[directed]
    name = "its own vectors" if themselves else row.ref
    if not themselves:
        check_queries(vectors, Target(row.ref, "", row.id_type, metric, row.precision))
    return Queries(name, vectors, seed, ids if themselves else None)
