"""What a format cannot hold, found before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, translated
from ..errors import BadInput
from ..relations import version_table
from ..types import MAX_DIM

OTHERS = "export it to parquet or arrow"


def refuse_texts(
    connection: Connection, version: VersionRow, patterns: Mapping[str, str], what: str, title: str
) -> None:
    """Refuse a version with a text that matches its column's pattern.

    Parameters
    ----------
    patterns : mapping of column to a regular expression, as Postgres has them
    what : str
        What such a text holds.
    title : str
        What cannot hold it.

    Raises
    ------
    BadInput
        Naming the first such id and column.
    """
    if not patterns:
        return
    found = [sql.SQL("{} ~ %s").format(sql.Identifier(each)) for each in patterns]
    statement = sql.SQL("SELECT id, {} FROM {} WHERE {} LIMIT 1").format(
        sql.SQL(", ").join(found),
        version_table(version.table_name, version.version),
        sql.SQL(" OR ").join(found),
    )
    with translated(f"reading {version.ref}"):
        row = connection.execute(statement, [*patterns.values()] * 2).fetchone()
    if row is None:
        return
    key, *matches = row
    column = next(each for each, match in zip(patterns, matches, strict=True) if match)
    where = f"id {key!r}" if column == "id" else f"column {column!r} of id {key!r}"
    raise BadInput(
        f"{version.ref}: {where} holds {what}, which {title} cannot hold; {OTHERS}",
        source=version.ref,
        id=key,
        column=column,
    )


def refuse_dims(version: VersionRow, title: str, least: int = 1) -> None:
    """Refuse a version of fewer or more dims than a format's reader takes.

    Raises
    ------
    BadInput
    """
    if not least <= version.dim <= MAX_DIM:
        raise BadInput(
            f"{version.ref} has {version.dim} dimensions, and {title} holds {least} to {MAX_DIM};"
            f" {OTHERS}",
            source=version.ref,
        )
