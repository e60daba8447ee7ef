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
    with translated(f"releasing {' '.join(refs)}"):
        rows = connection.execute(
            "SELECT table_name, version, previous, release"
            " FROM embstore.release(%s, %s, %s, %s, %s)",
            (
                list(refs),
                message,
                forced,
                None if gates is None else Jsonb(list(gates)),
                None if expected is None else Jsonb(dict(expected)),
            ),
        ).fetchall()
        moves, number = tuple(Moved(*row[:3]) for row in rows), rows[0][3]
        if number is not None:
            (done,) = _listed(connection, number=number)
            return replace(done, moves=moves)
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
    with translated("listing releases"):
        return _listed(connection, table=table, limit=limit)


def _listed(
    connection: Connection,
    *,
    table: str | None = None,
    number: int | None = None,
    limit: int | None = None,
) -> list[Release]:
    rows = connection.execute(
        "SELECT r.release, r.action, r.refs, r.undoes, r.forced, r.gates, r.message, r.moved_at,"
        " r.moved_by, array_agg(h.table_name ORDER BY h.table_name),"
        " array_agg(h.version ORDER BY h.table_name), array_agg(h.previous ORDER BY h.table_name)"
        " FROM embstore.releases r JOIN embstore.alias_history h ON h.release = r.release"
        " WHERE r.release IN (SELECT n.release FROM embstore.alias_history n"
        "  WHERE n.release IS NOT NULL AND n.release = coalesce(%(number)s, n.release)"
        "  AND n.table_name = coalesce(%(table)s, n.table_name)"
        "  GROUP BY 1 ORDER BY 1 DESC LIMIT %(limit)s)"
        " GROUP BY r.release ORDER BY r.release DESC",
        {"table": table, "number": number, "limit": limit},
    ).fetchall()
    return [_release(row) for row in rows]


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
