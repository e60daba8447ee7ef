"""One short transaction: the version becomes ready, visible and, if asked, live."""

from __future__ import annotations

from ..catalog import VersionRow, as_indexes
from ..compare.alignment import Alignment, store
from ..connection import Connection, Engine
from ..errors import EmbstoreError, GateFailed, LoadFailed, SpaceMismatch
from ..release import aliases, live
from ..release.live import act_as_loader
from ..types import Progress
from . import leftovers
from .options import Options
from .plan import as_json


def publish(
    connection: Connection,
    engine: Engine,
    version: VersionRow,
    options: Options,
    aligned: Alignment | None = None,
) -> EmbstoreError | None:
    """Make the version ready, visible and, if asked, live: all in one short transaction.

    The rotation that it was loaded through is kept in the same step.

    Returns
    -------
    EmbstoreError or None
        Why it may not go live; it is ready all the same, since to load it again would not help.
    """
    report = options.progress or (lambda _: None)
    source = version.source if aligned is None else {**version.source, "aligned": aligned.as_json()}
    refused: EmbstoreError | None = None

    def change() -> None:
        nonlocal refused
        act_as_loader(connection, engine)
        row = connection.execute(
            "SELECT id_type, precision FROM embstore.tables WHERE name = %s FOR UPDATE",
            (version.table_name,),
        ).fetchone()
        if row is None:
            raise LoadFailed(f"table {version.table_name} was dropped while {version.ref} loaded")
        if row[0] not in {None, version.id_type} or row[1] not in {None, version.precision}:
            raise LoadFailed(
                f"{version.ref} has {version.id_type} ids and {version.precision} vectors, but"
                f" another load that finished first fixed {version.table_name} to {row[0]} and"
                f" {row[1]}; load it again with those"
            )
        connection.execute(
            "UPDATE embstore.tables SET id_type = %s, precision = %s WHERE name = %s",
            (version.id_type, version.precision, version.table_name),
        )
        connection.execute(
            "UPDATE embstore.versions SET status = 'ready', rows = %s, bytes = %s, checksum = %s,"
            " index_kind = %s, indexes = %s, metrics = %s, source = %s,"
            " ready_at = clock_timestamp() WHERE table_name = %s AND version = %s",
            (
                version.rows,
                version.bytes,
                version.checksum,
                version.index_kind,
                as_indexes(version.indexes),
                as_json(version.metrics, "metrics"),
                as_json(source, "source"),
                version.table_name,
                version.version,
            ),
        )
        if aligned is not None:
            store(connection, version, aligned)
        live.rebuild(connection, engine, version.table_name)
        live.grant_version(connection, version)
        if options.alias is not None:
            try:
                aliases.promote(connection, [version.ref], alias=options.alias)
            except (GateFailed, SpaceMismatch) as error:
                refused = error

    live.with_short_locks(
        connection,
        f"publishing {version.ref}",
        change,
        waiting=lambda who: report(Progress("publish", 0, None, f"waiting for {who}")),
    )
    leftovers.release(connection, version.table_name, version.version)
    return refused


def not_live(version: VersionRow, why: EmbstoreError) -> EmbstoreError:
    """Build the error of a load whose version is ready, but may not go live."""
    said = f"{version.ref} is loaded and ready, but not live: {why}"
    return GateFailed(said, results=why.results) if isinstance(why, GateFailed) else type(why)(said)
