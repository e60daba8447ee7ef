"""Pins: who needs which version, such as a model that was trained on it. A pinned one stays.

The SQL functions do it, so that psql, Python and the CLI do the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from .. import catalog
from ..connection import Connection, translated


@dataclass(frozen=True)
class Pin:
    """A row of ``embstore.pins``."""

    table_name: str
    version: int
    pinned_by: str
    note: str | None
    pinned_at: datetime
    pinned_user: str

    @property
    def ref(self) -> str:
        """``items@7``."""
        return f"{self.table_name}@{self.version}"


def pin(connection: Connection, ref: str, by: str, note: str | None = None) -> Pin:
    """Keep a version from being dropped.

    Raises
    ------
    NotFound, InvalidName
    InvalidQuery
        When ``by`` is empty.
    """
    with translated(f"pinning {ref}"), connection.transaction():
        connection.execute("SELECT embstore.pin(%s, %s, %s)", (ref, by, note))
        # The table's row is locked, so that this is the version that was pinned.
        version = catalog.resolve(connection, ref)
        found = pins(connection, version.table_name)
    return next(each for each in found if each.ref == version.ref and each.pinned_by == by)


def unpin(connection: Connection, ref: str, by: str) -> None:
    """Take a pin away.

    Raises
    ------
    NotFound
        Also when there is no such pin.
    """
    with translated(f"unpinning {ref}"):
        connection.execute("SELECT embstore.unpin(%s, %s)", (ref, by))


def pins(connection: Connection, table: str | None = None) -> list[Pin]:
    """Return the pins, of one table or of all, by version and by whom."""
    with translated("listing pins"):
        return (
            connection.cursor(row_factory=class_row(Pin))
            .execute(
                "SELECT table_name, version, pinned_by, note, pinned_at, pinned_user"
                " FROM embstore.pins WHERE %(table)s::text IS NULL OR table_name = %(table)s"
                " ORDER BY table_name, version, pinned_by",
                {"table": table},
            )
            .fetchall()
        )
