"""Move aliases: the SQL functions do it, so that psql, Python and the CLI do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..connection import Connection, translated


@dataclass(frozen=True)
class Moved:
    """An alias was pointed from ``previous`` (None: it was new) to ``version``."""

    table_name: str
    version: int
    previous: int | None


def promote(
    connection: Connection, refs: Sequence[str], *, alias: str = "live", message: str | None = None
) -> list[Moved]:
    """Point an alias of each ref's table at that version: all of them, or none.

    Raises
    ------
    NotFound, InvalidName
    """
    moves = []
    with translated(f"promoting {' '.join(refs)}"), connection.transaction():
        # Always in one order, so that two releases of the same tables cannot wait for each other.
        for ref in sorted(refs):
            row = connection.execute(
                "SELECT table_name, version, previous FROM embstore.promote(%s, %s, %s)",
                (ref, alias, message),
            ).fetchone()
            assert row is not None
            moves.append(Moved(*row))
    return moves


def rollback(connection: Connection, table: str, *, message: str | None = None) -> Moved:
    """Undo the last promote of ``live`` that is not undone yet.

    Raises
    ------
    NotFound
        When nothing is left to undo, or the version before has been dropped.
    """
    with translated(f"rolling back {table}"):
        row = connection.execute(
            "SELECT table_name, version, previous FROM embstore.rollback(%s, %s)", (table, message)
        ).fetchone()
    assert row is not None
    return Moved(*row)
