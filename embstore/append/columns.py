"""The two columns of a version that rows have joined: ``origin`` and ``appended_at``.

From the first append on they are attributes of the version like any other, so that the live view,
filters, exports and replicas have them.
"""

from __future__ import annotations

import dataclasses

from psycopg import sql
from psycopg.types.json import Jsonb

from .. import catalog
from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..errors import InvalidQuery
from ..relations import version_table
from ..release import live
from ..types import Attribute, Origin

ORIGIN = Attribute("origin", "text")
APPENDED_AT = Attribute("appended_at", "timestamp with time zone")
OWN = (ORIGIN, APPENDED_AT)


def add_columns(connection: Connection, engine: Engine, version: VersionRow) -> VersionRow:
    """Give a version the two columns, if it has them not; returns its catalog row.

    It changes no row. Readers wait for a moment, as they do when a version becomes ready.

    Raises
    ------
    InvalidQuery
        When the version, or the table's live view, has another column of that name.
    DatabaseFailed
        When somebody reads the version for minutes, naming the session.
    """
    if set(OWN) <= set(version.attributes):
        return version
    table = version.table_name

    def change() -> None:
        live.act_as_loader(connection, engine)
        connection.execute("SELECT FROM embstore.tables WHERE name = %s FOR UPDATE", (table,))
        now = catalog.resolve(connection, version.ref)
        lacking = [each for each in OWN if each not in now.attributes]
        if not lacking:
            return
        _refuse_others(connection, now)
        # The view's lock comes first, as it does for whoever reads through the view.
        live.rebuild(connection, engine, table)
        for each in lacking:
            default = "" if each is APPENDED_AT else " DEFAULT 'trained'"
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
                    version_table(table, version.version),
                    sql.Identifier(each.name),
                    sql.SQL(f"{each.type}{default}"),
                )
            )
        connection.execute(
            "UPDATE embstore.versions SET attributes = %s WHERE table_name = %s AND version = %s",
            (
                Jsonb([dataclasses.asdict(each) for each in (*now.attributes, *lacking)]),
                table,
                version.version,
            ),
        )
        live.rebuild(connection, engine, table)

    live.with_short_locks(connection, f"appending to {version.ref}", change)
    return catalog.resolve(connection, version.ref)


def _refuse_others(connection: Connection, version: VersionRow) -> None:
    """Refuse columns of these names that are not ours."""
    shown = {each.name: each.type for each in live.view_columns(connection, version.table_name)}
    own = {each.name: each.type for each in version.attributes}
    for each in OWN:
        if (there := own.get(each.name, shown.get(each.name, each.type))) != each.type:
            raise InvalidQuery(
                f"{version.ref} cannot take new rows: an attribute {each.name!r} of"
                f" {version.table_name} is {there}, and an append keeps a {each.type} there; load"
                " the vectors into a table of their own with that column renamed"
            )
    if ORIGIN in version.attributes:
        row = connection.execute(
            sql.SQL("SELECT origin FROM {} WHERE origin <> ALL (%s) LIMIT 1").format(
                version_table(version.table_name, version.version)
            ),
            (list(Origin),),
        ).fetchone()
        if row is not None:
            raise InvalidQuery(
                f"{version.ref} cannot take new rows: its attribute 'origin' holds {row[0]!r}, and"
                f" an append keeps {', '.join(Origin)} there; load it again with that column"
                " renamed"
            )
