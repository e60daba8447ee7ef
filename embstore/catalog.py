"""Tables, versions, aliases and history as the catalog holds them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, LiteralString, Self

import psycopg
from psycopg.rows import class_row, kwargs_row
from psycopg.types.json import Jsonb

from .connection import Connection, translated
from .errors import AlreadyExists, NotFound
from .relations import check_table_name
from .types import Attribute, IdType, Index, Metric, Origin, Precision, Status


@dataclass(frozen=True)
class TableRow:
    """A row of ``embstore.tables``; id_type and precision are None before the first load."""

    name: str
    id_type: IdType | None
    metric: Metric
    precision: Precision | None
    created_at: datetime
    created_by: str

    @classmethod
    def make(cls, **row: Any) -> Self:
        """Build from a result row."""
        return cls(
            **row
            | {
                "id_type": row["id_type"] and IdType(row["id_type"]),
                "metric": Metric(row["metric"]),
                "precision": row["precision"] and Precision(row["precision"]),
            }
        )


@dataclass(frozen=True)
class VersionRow:
    """A row of ``embstore.versions``."""

    table_name: str
    version: int
    status: Status
    dim: int
    id_type: IdType
    metric: Metric
    precision: Precision
    rows: int | None
    bytes: int | None
    index_kind: str
    indexes: tuple[Index, ...]
    attributes: tuple[Attribute, ...]
    trainer: str | None
    params: dict[str, Any]
    metrics: dict[str, Any]
    source: dict[str, Any]
    checksum: str | None
    created_at: datetime
    created_by: str
    ready_at: datetime | None
    retired_at: datetime | None
    space: str | None
    appended: int

    @classmethod
    def make(cls, **row: Any) -> Self:
        """Build from a result row."""
        return cls(
            **row
            | {
                "status": Status(row["status"]),
                "id_type": IdType(row["id_type"]),
                "metric": Metric(row["metric"]),
                "precision": Precision(row["precision"]),
                "indexes": tuple(
                    Index(**each | {"precision": Precision(each["precision"])})
                    for each in row["indexes"]
                ),
                "attributes": tuple(Attribute(**each) for each in row["attributes"]),
            }
        )

    @property
    def ref(self) -> str:
        """``items@7``."""
        return f"{self.table_name}@{self.version}"


def as_indexes(indexes: Iterable[Index]) -> Jsonb:
    """Return indexes as the catalog's jsonb."""
    return Jsonb([asdict(each) for each in indexes])


@dataclass(frozen=True)
class Move:
    """A row of ``embstore.alias_history``; version is None where a rollback left none live."""

    move: int
    table_name: str
    alias: str
    version: int | None
    previous: int | None
    action: str
    undoes: int | None
    moved_at: datetime
    moved_by: str
    message: str | None
    release: int | None


@dataclass(frozen=True)
class Append:
    """A row of ``embstore.appends``; checksum is the version's after it, append counts from 1."""

    table_name: str
    version: int
    append: int
    rows: int
    origin: Origin
    checksum: str
    message: str | None
    appended_at: datetime
    appended_by: str

    @classmethod
    def make(cls, **row: Any) -> Self:
        """Build from a result row."""
        return cls(**row | {"origin": Origin(row["origin"])})


def _columns(of: type) -> LiteralString:
    return ", ".join(each.name for each in fields(of))


_TABLE: LiteralString = _columns(TableRow)
_VERSION: LiteralString = _columns(VersionRow)
_MOVE: LiteralString = _columns(Move)
_APPEND: LiteralString = _columns(Append)


def create_table(
    connection: Connection,
    name: str,
    metric: Metric,
    id_type: IdType | None = None,
    precision: Precision | None = None,
) -> None:
    """Add an empty table.

    Raises
    ------
    InvalidName, AlreadyExists
    """
    check_table_name(name)
    try:
        with translated(f"creating table {name}"):
            connection.execute(
                "INSERT INTO embstore.tables (name, id_type, metric, precision, created_at,"
                " created_by) VALUES (%s, %s, %s, %s, clock_timestamp(), session_user)",
                (name, id_type, metric, precision),
            )
    except Exception as error:
        if isinstance(error.__cause__, psycopg.errors.UniqueViolation):
            raise AlreadyExists(
                f"there is already a table {name!r}: load into it, or drop it first"
            ) from error.__cause__
        raise


def table(connection: Connection, name: str) -> TableRow:
    """Return one table.

    Raises
    ------
    InvalidName, NotFound
    """
    check_table_name(name)
    with translated(f"reading table {name}"):
        row = (
            connection.cursor(row_factory=kwargs_row(TableRow.make))
            .execute(f"SELECT {_TABLE} FROM embstore.tables WHERE name = %s", (name,))  # noqa: S608
            .fetchone()
        )
    if row is None:
        raise NotFound(f"there is no table {name!r}: embstore tables lists them")
    return row


def tables(connection: Connection) -> list[TableRow]:
    """All tables, by name."""
    with translated("listing tables"):
        return (
            connection.cursor(row_factory=kwargs_row(TableRow.make))
            .execute(f"SELECT {_TABLE} FROM embstore.tables ORDER BY name")  # noqa: S608
            .fetchall()
        )


# The ready version that a reference names, as ``version_row`` takes it.
RESOLVE = f"SELECT {_VERSION} FROM embstore.resolve(%s)".encode()  # noqa: S608


def version_row(row: tuple[Any, ...]) -> VersionRow:
    """Build from a row of ``RESOLVE``."""
    names = (each.name for each in fields(VersionRow))
    return VersionRow.make(**dict(zip(names, row, strict=True)))


def resolve(connection: Connection, ref: str) -> VersionRow:
    """Return the ready version that a reference names.

    Raises
    ------
    InvalidName, NotFound
        Saying which part is not there.
    """
    with translated(f"resolving {ref}"):
        row = connection.execute(RESOLVE, (ref,)).fetchone()
    assert row is not None
    return version_row(row)


def versions(connection: Connection, name: str | None = None) -> list[VersionRow]:
    """Versions of one table or of all, oldest first, whatever their status."""
    with translated("listing versions"):
        return (
            connection.cursor(row_factory=kwargs_row(VersionRow.make))
            .execute(
                f"SELECT {_VERSION} FROM embstore.versions"  # noqa: S608
                " WHERE %(name)s::text IS NULL OR table_name = %(name)s"
                " ORDER BY table_name, version",
                {"name": name},
            )
            .fetchall()
        )


def ready_versions(connection: Connection, name: str) -> list[VersionRow]:
    """Return the versions of a table that queries may see, oldest first."""
    return [row for row in versions(connection, name) if row.status is Status.READY]


def aliases(connection: Connection, name: str | None = None) -> dict[tuple[str, int], list[str]]:
    """Return the aliases by (table, version)."""
    with translated("listing aliases"):
        rows = connection.execute(
            "SELECT table_name, version, array_agg(alias ORDER BY alias <> 'live', alias)"
            " FROM embstore.aliases WHERE %(name)s::text IS NULL OR table_name = %(name)s"
            " GROUP BY 1, 2",
            {"name": name},
        ).fetchall()
    return {(of, version): names for of, version, names in rows}


def history(connection: Connection, name: str) -> list[Move]:
    """Every move of a table's aliases, oldest first."""
    with translated(f"reading the history of {name}"):
        return (
            connection.cursor(row_factory=class_row(Move))
            .execute(
                f"SELECT {_MOVE} FROM embstore.alias_history WHERE table_name = %s ORDER BY move",  # noqa: S608
                (name,),
            )
            .fetchall()
        )


def appends(connection: Connection, name: str, version: int) -> list[Append]:
    """Return what joined a version after it became ready, oldest first."""
    with translated(f"reading the appends to {name}@{version}"):
        return (
            connection.cursor(row_factory=kwargs_row(Append.make))
            .execute(
                f"SELECT {_APPEND} FROM embstore.appends"  # noqa: S608
                " WHERE table_name = %s AND version = %s ORDER BY append",
                (name, version),
            )
            .fetchall()
        )
