"""Releases: ``live`` of several tables moves in one step, and back in one.

The SQL functions do it, so that psql, Python and the CLI do the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    number : int
    action : {"promote", "rollback"}
    moves : tuple of Moved
        The tables whose live version changed.
    refs : tuple of str
        What was asked for: ``("items@8", "users@8")``; of a rollback what came back.
    undoes : int or None
        The release that a rollback undid.
    forced : bool
        Gates and spaces were not to stop it.
    gates : tuple of dict
        What was measured before: gate, value, bound, passed.
    message : str or None
    moved_at : datetime
    moved_by : str
    """

    number: int
    action: str
    moves: tuple[Moved, ...]
    refs: tuple[str, ...]
    undoes: int | None
    forced: bool
    gates: tuple[dict[str, Any], ...]
    message: str | None
    moved_at: datetime
    moved_by: str


def release(
    connection: Connection,
    refs: Sequence[str],
    *,
    message: str | None = None,
    forced: bool = False,
    gates: Sequence[Mapping[str, Any]] | None = None,
    expected: Mapping[str, int | None] | None = None,
) -> list[Moved]:
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
            "SELECT table_name, version, previous FROM embstore.release(%s, %s, %s, %s, %s)",
            (
                list(refs),
                message,
                forced,
                None if gates is None else Jsonb(list(gates)),
                None if expected is None else Jsonb(dict(expected)),
            ),
        ).fetchall()
    return [Moved(*row) for row in rows]


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
        rows = connection.execute(
            "SELECT r.release, r.action, r.refs, r.undoes, r.forced, r.gates, r.message,"
            " r.moved_at, r.moved_by, m.tables, m.versions, m.previous"
            " FROM embstore.releases r JOIN LATERAL ("
            "  SELECT array_agg(h.table_name ORDER BY h.table_name),"
            "   array_agg(h.version ORDER BY h.table_name),"
            "   array_agg(h.previous ORDER BY h.table_name)"
            "  FROM embstore.alias_history h WHERE h.release = r.release"
            " ) AS m (tables, versions, previous) ON true"
            " WHERE %(table)s::text IS NULL OR %(table)s = ANY (m.tables)"
            " ORDER BY r.release DESC LIMIT %(limit)s",
            {"table": table, "limit": limit},
        ).fetchall()
    return [
        Release(
            number,
            action,
            tuple(map(Moved, tables, versions, previous)),
            tuple(refs),
            undoes,
            forced,
            tuple(gates),
            message,
            at,
            by,
        )
        for number, action, refs, undoes, forced, gates, message, at, by, tables, versions, previous in rows
    ]
