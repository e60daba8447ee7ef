"""Move other aliases than ``live``, which releases move.

The SQL functions do it, so that psql, Python and the CLI do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..connection import Connection, translated


@dataclass(frozen=True)
class Moved:
    """An alias went from ``previous`` (None: it was new) to ``version`` (None: it is gone)."""

    table_name: str
    version: int | None
    previous: int | None


def promote(
    connection: Connection, refs: Sequence[str], *, alias: str, message: str | None = None
) -> list[Moved]:
    """Point an alias of each ref's table at that version: all of them, or none.

    Raises
    ------
    NotFound, InvalidName
    GateFailed, SpaceMismatch
        Of ``live``.
    """
    moves = []
    with translated(f"promoting {' '.join(refs)}"), connection.transaction():
        # Always in one order, so that two promotes of the same tables cannot wait for each other.
        for ref in sorted(refs):
            row = connection.execute(
                "SELECT table_name, version, previous FROM embstore.promote(%s, %s, %s)",
                (ref, alias, message),
            ).fetchone()
            assert row is not None
            moves.append(Moved(*row))
    return moves
