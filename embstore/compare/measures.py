"""What SQL can say of two versions: which ids they share, how long their vectors are, what repeats.

Each is of use by itself; a gate asks for one of them, ``store.compare`` for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, Engine, translated
from ..errors import InvalidQuery
from ..index.build import norm
from ..query.lookup import send
from ..relations import version_table
from ..types import Id, Precision

_NUMERIC = ("bigint", "double precision")


@dataclass(frozen=True)
class IdChanges:
    """How the ids of two versions differ.

    Attributes
    ----------
    added, removed, common : int
        Ids that only the new version has, only the old one, and both.
    added_sample, removed_sample : list
        Some of them, drawn by a hash of the id.
    """

    added: int
    removed: int
    common: int
    added_sample: list[Id]
    removed_sample: list[Id]

    @property
    def coverage(self) -> float:
        """The share of the old ids that the new version has."""
        return self.common / max(1, self.common + self.removed)


@dataclass(frozen=True)
class Norms:
    """The lengths of a version's vectors (L2); of bits, how many are set.

    Attributes
    ----------
    mean, p5, median, p95 : float
    """

    mean: float
    p5: float
    median: float
    p95: float


def coverage(
    connection: Connection, old: VersionRow, new: VersionRow, weight: str | None = None
) -> float:
    """Return the share of the old version's ids that the new one has.

    Parameters
    ----------
    weight : str
        A numeric attribute of the old version, how often an id is used for one: the share is of
        its sum. Where it is null it counts as 0.

    Raises
    ------
    InvalidQuery
        When the ids are of two types, or the weight cannot be summed up.
    """
    check_ids_alike(old, new)
    own: sql.Composable = sql.SQL("1")
    if weight is not None:
        types = {each.name: each.type for each in old.attributes}
        if types.get(weight) not in _NUMERIC:
            numeric = [name for name, kind in types.items() if kind in _NUMERIC]
            raise InvalidQuery(
                f"{old.ref} has no numeric attribute {weight!r} to weigh its ids by: it has"
                f" {', '.join(numeric) or 'none'}"
            )
        own = sql.SQL("coalesce(o.{}, 0)::double precision").format(sql.Identifier(weight))
    with translated(f"comparing the ids of {old.ref} and {new.ref}"):
        row = connection.execute(
            sql.SQL(
                "SELECT sum({own}) FILTER (WHERE n.id IS NOT NULL), sum({own}), min({own})"
                " FROM {old} o LEFT JOIN {new} n ON n.id = o.id"
            ).format(own=own, old=_table(old), new=_table(new))
        ).fetchone()
    assert row is not None
    kept, total, least = (float(each or 0) for each in row)
    if not 0 < total < math.inf or least < 0:
        raise InvalidQuery(
            f"attribute {weight!r} of {old.ref} is no weight: it must be finite, nowhere negative"
            " and somewhere positive"
        )
    return kept / total


def id_changes(
    connection: Connection, old: VersionRow, new: VersionRow, sample: int = 10
) -> IdChanges:
    """Count the ids that came and went, and draw ``sample`` of each.

    Raises
    ------
    InvalidQuery
        When the ids are of two types.
    """
    check_ids_alike(old, new)
    with translated(f"comparing the ids of {old.ref} and {new.ref}"):
        row = connection.execute(
            sql.SQL(
                "SELECT count(*) FILTER (WHERE o.id IS NULL),"
                " count(*) FILTER (WHERE n.id IS NULL),"
                " count(*) FILTER (WHERE o.id IS NOT NULL AND n.id IS NOT NULL)"
                " FROM {} o FULL JOIN {} n ON n.id = o.id"
            ).format(_table(old), _table(new))
        ).fetchone()
        assert row is not None
        added, removed, common = row
        samples = [
            _only_in(connection, one, other, sample) if count else []
            for one, other, count in ((new, old, added), (old, new, removed))
        ]
    return IdChanges(added, removed, common, *samples)


def _only_in(connection: Connection, one: VersionRow, other: VersionRow, sample: int) -> list[Id]:
    rows = connection.execute(
        sql.SQL(
            "SELECT id FROM {} a WHERE NOT EXISTS (SELECT FROM {} b WHERE b.id = a.id)"
            " ORDER BY {} LIMIT %s"
        ).format(_table(one), _table(other), at_random("a", 0)),
        (sample,),
    ).fetchall()
    return [each for (each,) in rows]


def norms(connection: Connection, engine: Engine, version: VersionRow) -> Norms:
    """Return how long a version's vectors are; of bits, how many are set."""
    length: sql.Composable = sql.SQL("bit_count(embedding)::double precision")
    if version.precision is not Precision.BIT:
        length = norm(engine, version)
    with translated(f"measuring the norms of {version.ref}"):
        row = connection.execute(
            sql.SQL(
                "SELECT avg(l), percentile_cont(ARRAY[0.05, 0.5, 0.95]) WITHIN GROUP (ORDER BY l)"
                " FROM (SELECT {} AS l FROM {}) AS lengths"
            ).format(length, _table(version))
        ).fetchone()
    assert row is not None
    return Norms(row[0], *row[1])


def norm_drift(old: Norms, new: Norms) -> float:
    """Return by which part the median norm has changed: ``abs(new / old - 1)``.

    Infinite where the old median is 0 and the new one is not.
    """
    if old.median == new.median:
        return 0.0
    return abs(new.median / old.median - 1) if old.median else math.inf


def duplicates(connection: Connection, engine: Engine, version: VersionRow) -> float:
    """Return the share of rows whose vector is, bit by bit, that of another row as well.

    Vectors are grouped by 128 bits of their SHA-256.
    """
    with translated(f"counting the duplicates of {version.ref}"):
        row = connection.execute(
            sql.SQL(
                "SELECT coalesce(sum(rows) FILTER (WHERE rows > 1), 0)::bigint, sum(rows)::bigint"
                " FROM (SELECT count(*) AS rows FROM {} GROUP BY"
                " substring(sha256({}(embedding)) for 16)) AS vectors"
            ).format(_table(version), send(engine, version.precision))
        ).fetchone()
    assert row is not None
    return float(row[0] / row[1])


def check_ids_alike(old: VersionRow, new: VersionRow) -> None:
    """Refuse versions whose ids cannot be compared.

    Raises
    ------
    InvalidQuery
    """
    if old.id_type is not new.id_type:
        raise InvalidQuery(
            f"{old.ref} has {old.id_type} ids and {new.ref} {new.id_type} ids: they have none in"
            " common"
        )


def at_random(row: str, seed: int) -> sql.Composed:
    """Return an order of rows, in SQL: by a hash of the id, the same wherever and whenever."""
    return sql.SQL('hashtextextended({id}::text COLLATE "C", {seed}), {id}').format(
        id=sql.Identifier(row, "id"), seed=sql.Literal(seed)
    )


def _table(version: VersionRow) -> sql.Identifier:
    return version_table(version.table_name, version.version)


def error_of_mean(values: NDArray[Any], population: int) -> float:
    """Return the standard error of the mean of values (n,) drawn without repeats from a population.

    0 where all of it was drawn (Cochran, "Sampling Techniques", 1977, equation 2.20).
    """
    count = len(values)
    if count >= population:
        return 0.0
    if count < 2:
        return math.inf
    return float(values.std(ddof=1)) * math.sqrt((1 - count / population) / count)
