"""Releases: ``live`` of several tables moves in one step, and back in one.

The SQL functions do it, so that psql, Python and the CLI do the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from ..connection import Connection, translated
from .aliases import Moved


@dataclass(frozen=True)
class Release:
    """A change of what is live, of one table or of several.

    Attributes
    ----------
    number : int or None
        None where all of it was live already, and nothing has changed.
    action : {"promote", "rollback"}
    moves : tuple of Moved
        Where each table's ``live`` went; among those that are listed, only what changed.
    refs : tuple of str
        What was asked for: ``("items@8", "users@8")``; of a rollback what came back.
    undoes : int or None
        The release that a rollback undid.
    forced : bool
        Gates and spaces were not to stop it.
    gates : tuple of dict
        What was measured before: gate, value, bound, passed.
    message : str or None
    moved_at : datetime or None
    moved_by : str or None
    """

    number: int | None
    action: str
    moves: tuple[Moved, ...]
    refs: tuple[str, ...]
    undoes: int | None
    forced: bool
    gates: tuple[dict[str, Any], ...]
    message: str | None
    moved_at: datetime | None
    moved_by: str | None


def release(
    connection: Connection,
    refs: Sequence[str],
    *,
    message: str | None = None,
    forced: bool = False,
    gates: Sequence[Mapping[str, Any]] | None = None,
    expected: Mapping[str, int | None] | None = None,
) -> Release:
    """Make the versions live: all of them in one step, or none.

    Parameters
    ----------
    gates : sequence of mappings
        What was measured; None says that nothing was, which tables with gates do not take.
    expected : mapping of table name to version
        What was live when they were measured; if it is not any more, nothing happens.

    Raises
    ------
    NotFound, InvalidName, InvalidQuery, GateFailed, SpaceMismatch, DatabaseFailed
    """
    tables = [ref.partition("@")[0] for ref in refs]
    # In a pipeline, whose statements make one trip: the locks are held no longer than they must.
    with (
        translated(f"releasing {' '.join(refs)}"),
        connection.pipeline(),
        connection.transaction(),
    ):
        moved = connection.execute(
            "SELECT table_name, version, previous FROM embstore.release(%s, %s, %s, %s, %s)",
            (
                list(refs),
                message,
                forced,
                None if gates is None else Jsonb(list(gates)),
                None if expected is None else Jsonb(dict(expected)),
            ),
        )
        # The row locks that are held let no other release of these tables come between.
        newest = connection.execute(_LIST, {"tables": tables, "limit": 1})
    moves = tuple(Moved(*row) for row in moved.fetchall())
    if any(each.version != each.previous for each in moves):
        return replace(_release(newest.fetchall()[0]), moves=moves)
    return Release(
        None,
        "promote",
        moves,
        tuple(f"{each.table_name}@{each.version}" for each in moves),
        None,
        forced,
        (),
        message,
        None,
        None,
    )


def rollback(connection: Connection, table: str, *, message: str | None = None) -> list[Moved]:
    """Undo the last release of a table that is not undone yet, of all its tables.

    Raises
    ------
    NotFound
        When nothing is left to undo, a version before has been dropped, or one of the other tables
        was moved since.
    """
    with translated(f"rolling back {table}"):
        rows = connection.execute(
            "SELECT table_name, version, previous FROM embstore.rollback(%s, %s)", (table, message)
        ).fetchall()
    return [Moved(*row) for row in rows]


def releases(
    connection: Connection, table: str | None = None, limit: int | None = None
) -> list[Release]:
    """Return the releases, of one table or of all, the newest first."""
    of = {"tables": None if table is None else [table], "limit": limit}
    with translated("listing releases"):
        return [_release(row) for row in connection.execute(_LIST, of).fetchall()]


_LIST = (
    "SELECT r.release, r.action, r.refs, r.undoes, r.forced, r.gates, r.message, r.moved_at,"
    " r.moved_by, array_agg(h.table_name ORDER BY h.table_name),"
    " array_agg(h.version ORDER BY h.table_name), array_agg(h.previous ORDER BY h.table_name)"
    " FROM embstore.releases r JOIN embstore.alias_history h ON h.release = r.release"
    " WHERE r.release IN (SELECT n.release FROM embstore.alias_history n"
    "  WHERE n.release IS NOT NULL"
    "  AND (%(tables)s::text[] IS NULL OR n.table_name = ANY (%(tables)s))"
    "  GROUP BY 1 ORDER BY 1 DESC LIMIT %(limit)s)"
    " GROUP BY r.release ORDER BY r.release DESC"
)


def _release(row: tuple[Any, ...]) -> Release:
    return Release(
        number=row[0],
        action=row[1],
        moves=tuple(map(Moved, *row[9:])),
        refs=tuple(row[2]),
        undoes=row[3],
        forced=row[4],
        gates=tuple(row[5]),
        message=row[6],
        moved_at=row[7],
        moved_by=row[8],
    )
