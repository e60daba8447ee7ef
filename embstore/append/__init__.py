"""An append on one screen: new ids join a ready version; what it has never changes.

1. At the first append of a version its table gets two columns, ``origin`` and ``appended_at``,
   which its rows so far have as ``trained`` and NULL. A short step of its own.
2. One transaction: the rows, checked as a load checks them, are copied into the version's table,
   and the catalog gets its new rows and checksum and a row of ``embstore.appends``.

Whatever ends it before that has committed, the version is as it was. Readers never wait for it,
nor does a promote; two appends to one version take turns.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import psycopg
from psycopg import sql

from .. import catalog
from ..catalog import VersionRow
from ..compare.alignment import stored
from ..compare.rotation import Array64
from ..connection import Connection, Engine, translated, working
from ..errors import DuplicateId, InvalidQuery, NotFound
from ..load import Options, rejects
from ..load.plan import side_table
from ..load.sources import opened, several
from ..relations import SCHEMA, version_name, version_table
from ..release.live import act_as_loader
from ..types import Id, Origin, Progress
from .columns import add_columns
from .rows import Appender, check

__all__ = ["Appended", "append"]


@dataclass(frozen=True)
class Appended:
    """What an append did.

    Attributes
    ----------
    ref : str
        The version, ``items@7``.
    append : int or None
        Its number, 1, 2, ... of the version; None where no row was left to append.
    rows : int
        How many joined.
    origin : Origin
    rejected : int
        Rows that were left out: bad ones, and ids that the version has.
    without : tuple of ids
        Of a cold start: the new ids for which there is no vector.
    total : int
        The version's rows now.
    checksum : str
        The version's now.
    appended_at : datetime or None
        What its rows have as ``appended_at``, later than those of every append before.
    message : str or None
    """

    ref: str
    append: int | None
    rows: int
    origin: Origin
    rejected: int
    without: tuple[Id, ...]
    total: int
    checksum: str
    appended_at: datetime | None
    message: str | None


def append(
    connect: Callable[[], Connection],
    engine: Engine,
    ref: str,
    source: object,
    origin: Origin,
    message: str | None,
    rotate: bool | None,
    options: Options,
) -> Appended:
    """Let the rows of ``source`` join a version; see ``Version.append``."""
    with working(connect, f"appending to {ref}") as connection:
        version = catalog.resolve(connection, ref)
        options = dataclasses.replace(options, id_type=version.id_type, bits=version.metric.of_bits)
        sources = several(source)
        with (
            rejects.opened(options, sources) as bad,
            translated(f"appending to {version.ref}"),
            closing(opened(sources, options, bad)) as parts,
        ):
            first = next(parts)
            side = None if options.attributes is None else side_table(options, version.id_type)
            check(first, side, version)
            rotation = _rotation(connection, version, rotate)
            version = add_columns(connection, engine, version)
            report = options.progress or (lambda _: None)
            with connection.transaction():
                act_as_loader(connection, engine)
                version, number, moment = _begin(connection, version)
                sending = Appender(
                    connection, engine, version, origin, moment, options.zero, side, rotation
                )
                try:
                    total = first.rows if len(sources) == 1 else None
                    for part in chain([first], parts):
                        sending.send(part, lambda rows: report(Progress("rows", rows, total)))
                except psycopg.errors.UniqueViolation as error:
                    raise _inserted_meanwhile(version, error) from error
                if sending.rows:
                    _end(connection, version, number, moment, sending, origin, message)
    if left := bad.summary(sending.rows + bad.count):
        options.warn(left)
    there = sending.rows > 0
    return Appended(
        version.ref,
        number if there else None,
        sending.rows,
        origin,
        bad.count,
        (),
        (version.rows or 0) + sending.rows,
        str(sending.checksum),
        moment if there else None,
        message,
    )


def _rotation(connection: Connection, version: VersionRow, rotate: bool | None) -> Array64 | None:
    """Return the rotation that the new vectors have to go through, as the others did.

    Raises
    ------
    InvalidQuery
        When nobody said whether they have been through it.
    """
    alignment = stored(connection, version)
    if alignment is None and rotate:
        raise InvalidQuery(f"{version.ref} was loaded through no rotation: leave rotate out")
    if alignment is not None and rotate is None:
        raise InvalidQuery(
            f"{version.ref} was aligned to {alignment.to_table}@{alignment.to_version} by a"
            " rotation: say rotate=True (--rotate) for vectors as the trainer gave them, or"
            " rotate=False (--no-rotate) for vectors that have been through it"
        )
    return alignment.matrix if alignment is not None and rotate else None


def _begin(connection: Connection, version: VersionRow) -> tuple[VersionRow, int, datetime]:
    """Take our turn; returns the version as it is then, and the append's number and time."""
    relation = version_table(version.table_name, version.version)
    try:
        # Before the catalog's row, as the build of an index takes them. A drop waits for this.
        connection.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(relation))
    except psycopg.errors.UndefinedTable as error:
        raise NotFound(f"{version.ref} is retired: its vectors were dropped") from error
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtext('embstore append ' || %s), %s)",
        (version.table_name, version.version),
    )
    version = catalog.resolve(connection, version.ref)
    before = catalog.appends(connection, version.table_name, version.version)
    # Rows that were exported with a time and loaded again come before all of ours too.
    known = (
        sql.Literal(before[-1].appended_at)
        if before
        else sql.SQL("(SELECT max(appended_at) FROM {})").format(relation)
    )
    row = connection.execute(
        sql.SQL("SELECT greatest(clock_timestamp(), {} + interval '1 us')").format(known)
    ).fetchone()
    assert row is not None
    return version, len(before) + 1, row[0]


def _end(
    connection: Connection,
    version: VersionRow,
    number: int,
    moment: datetime,
    sent: Appender,
    origin: Origin,
    message: str | None,
) -> None:
    """Write the catalog's part."""
    own = version.table_name, version.version
    connection.execute(
        "UPDATE embstore.versions SET rows = rows + %s, appended = appended + %s, checksum = %s,"
        " bytes = pg_total_relation_size(to_regclass(format('%%I.%%I', %s::text, %s::text)))"
        " WHERE table_name = %s AND version = %s",
        (sent.rows, sent.rows, str(sent.checksum), SCHEMA, version_name(*own), *own),
    )
    connection.execute(
        "INSERT INTO embstore.appends (table_name, version, append, rows, origin, checksum,"
        " message, appended_at, appended_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, session_user)",
        (*own, number, sent.rows, origin, str(sent.checksum), message, moment),
    )


def _inserted_meanwhile(version: VersionRow, error: psycopg.Error) -> DuplicateId:
    """Build the error for an id that somebody has put into the table by hand, since we looked."""
    said = re.search(r"=\((.*)\)", error.diag.message_detail or "", re.DOTALL)
    key = said[1] if said else None
    return DuplicateId(
        f"{version.ref} has id {key!r} since a moment, put there by hand; nothing was appended: run"
        " it again",
        id=key,
        column="id",
    )
