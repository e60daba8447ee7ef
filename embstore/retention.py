"""Retention: drop the versions that nothing needs any more.

What stays, of each table:

- what an alias names, ``live`` among them, and what somebody has pinned;
- what the last ``keep`` releases name, of all of their tables, and what the last ``keep`` promotes
  name that are not rolled back: so each release is whole, and ``rollback`` has where to go;
- the newest ``keep`` versions, promoted or not;
- what is younger than ``older_than``: since it was ready, or since it was last live.

What a transaction reads, or may still read, is left for the next time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, LiteralString

from psycopg.rows import class_row

from . import catalog
from .connection import Connection, Engine, translated
from .errors import InUse, InvalidQuery, NotFound
from .relations import live_view, version_table
from .release.drop import drop_version, refuse_if_an_old_snapshot_may_need

# A transaction that is this old is not waited for; those of queries are over long before.
LONG_S = 2.0

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Fate:
    """What became of a version, or would.

    Attributes
    ----------
    table_name : str
    version : int
    bytes : int
        Its size on the server's disk, with its indexes.
    fate : {"dropped", "kept", "skipped"}
        ``skipped`` is what would go, were it not in use.
    why : str
    """

    table_name: str
    version: int
    bytes: int
    fate: Literal["dropped", "kept", "skipped"]
    why: str

    @property
    def ref(self) -> str:
        """``items@7``."""
        return f"{self.table_name}@{self.version}"


@dataclass(frozen=True)
class Collected:
    """What ``gc`` did, or under ``dry_run`` would do.

    Attributes
    ----------
    versions : tuple of Fate
        Of every ready version, by table and number.
    dry_run : bool
    """

    versions: tuple[Fate, ...]
    dry_run: bool

    @property
    def dropped(self) -> tuple[Fate, ...]:
        """Those that went, or would."""
        return tuple(each for each in self.versions if each.fate == "dropped")

    @property
    def skipped(self) -> tuple[Fate, ...]:
        """Those that are in use."""
        return tuple(each for each in self.versions if each.fate == "skipped")

    @property
    def freed(self) -> int:
        """Bytes of those that went, or would."""
        return sum(each.bytes for each in self.dropped)


def duration(text: str) -> timedelta:
    """Read ``30d``, ``12h``, ``2w`` or ``1d12h``.

    Raises
    ------
    InvalidQuery
    """
    parts = re.findall(r"(\d+)\s*([smhdw])", text)
    if not parts or re.sub(r"\d+\s*[smhdw]|\s", "", text):
        raise InvalidQuery(f"{text!r} is no duration: write 30d, 12h, 2w, 90m or 45s")
    try:
        return sum((timedelta(**{_UNITS[u]: int(n)}) for n, u in parts), timedelta())
    except OverflowError:
        raise InvalidQuery(f"{text!r} is too long a duration") from None


def gc(
    connection: Connection,
    engine: Engine,
    keep: int,
    older_than: timedelta | str | None,
    tables: Sequence[str] | None,
    dry_run: bool,
) -> Collected:
    """Drop; see ``Store.gc``."""
    age = duration(older_than) if isinstance(older_than, str) else older_than or timedelta()
    if keep < 0 or age < timedelta():
        raise InvalidQuery("keep and older_than cannot be negative")
    for each in tables or ():
        catalog.table(connection, each)
    fates = []
    for candidate in _candidates(connection, keep):
        if tables is not None and candidate.table_name not in tables:
            continue
        if why := candidate.needed(keep, age):
            fates.append(candidate.fate("kept", why))
        else:
            fates.append(_dropped(connection, engine, candidate, keep, age, dry_run))
    return Collected(tuple(fates), dry_run)


@dataclass(frozen=True)
class _Candidate:
    table_name: str
    version: int
    bytes: int
    age: timedelta
    aliases: list[str]
    pinned_by: list[str]
    newer: int
    release: int | None

    @property
    def ref(self) -> str:
        return f"{self.table_name}@{self.version}"

    def needed(self, keep: int, age: timedelta) -> str:
        """Say why it stays; empty if it need not."""
        reasons = [*self.aliases, *(f"pinned by {each}" for each in self.pinned_by)]
        if self.release is not None:
            reasons.append(f"of release {self.release}, one of the last {keep} of a table")
        if self.newer < keep:
            reasons.append("the newest" if keep == 1 else f"one of the {keep} newest")
        if self.age < age:
            reasons.append(f"younger than {_text(age)}: {_text(self.age)}")
        return ", ".join(reasons)

    def fate(self, fate: Literal["dropped", "kept", "skipped"], why: str) -> Fate:
        return Fate(self.table_name, self.version, self.bytes, fate, why)


class _Needed(Exception):
    """A version has come to be needed since it was looked at."""


def _dropped(
    connection: Connection,
    engine: Engine,
    candidate: _Candidate,
    keep: int,
    age: timedelta,
    dry_run: bool,
) -> Fate:
    """Drop one, unless somebody reads it, or has come to need it."""
    table, version = candidate.table_name, candidate.version

    def check() -> None:
        for now in _candidates(connection, keep):
            if now.ref == candidate.ref and (why := now.needed(keep, age)):
                raise _Needed(why)

    try:
        # Who will not be done soon is not asked to let go: readers that come would queue behind.
        if reader := _reader(connection, table, version):
            return candidate.fate("skipped", f"read by {reader}")
        refuse_if_an_old_snapshot_may_need(connection, table, version)
        if not dry_run:
            drop_version(connection, engine, table, version, give_up_s=LONG_S, check=check)
    except _Needed as error:
        return candidate.fate("kept", str(error))
    except (InUse, NotFound) as error:  # a reader that came, or another gc that was faster
        return candidate.fate("skipped", str(error))
    return candidate.fate("dropped", f"not needed for {_text(candidate.age)}")


# What the last releases of each table name, of whatever table; and what the last promotes name that
# a rollback can still undo, which are others after a rollback.
_CANDIDATES: LiteralString = """
WITH moves AS (
    SELECT h.table_name, h.release, h.action = 'promote' AND NOT EXISTS (
        SELECT FROM embstore.alias_history u WHERE u.undoes = h.move) AS stands
    FROM embstore.alias_history h
    JOIN embstore.tables t ON t.name = h.table_name
    WHERE h.alias = 'live' AND h.release IS NOT NULL
), ranked AS (
    SELECT release, stands,
        row_number() OVER (PARTITION BY table_name ORDER BY release DESC) AS of_all,
        row_number() OVER (PARTITION BY table_name, stands ORDER BY release DESC) AS of_standing
    FROM moves
), named AS (
    SELECT ref, max(r.release) AS release
    FROM embstore.releases r, unnest(r.refs) AS u (ref)
    WHERE r.release IN (
        SELECT release FROM ranked WHERE of_all <= %(keep)s OR stands AND of_standing <= %(keep)s)
    GROUP BY ref
)
SELECT v.table_name, v.version, coalesce(v.bytes, 0) AS bytes,
    greatest(clock_timestamp() - greatest(v.ready_at, (
        SELECT max(h.moved_at) FROM embstore.alias_history h
        WHERE h.table_name = v.table_name AND h.alias = 'live' AND h.previous = v.version
    )), interval '0') AS age,
    ARRAY(SELECT a.alias FROM embstore.aliases a
        WHERE a.table_name = v.table_name AND a.version = v.version
        ORDER BY a.alias <> 'live', a.alias) AS aliases,
    ARRAY(SELECT p.pinned_by FROM embstore.pins p
        WHERE p.table_name = v.table_name AND p.version = v.version ORDER BY 1) AS pinned_by,
    row_number() OVER (PARTITION BY v.table_name ORDER BY v.version DESC) - 1 AS newer,
    n.release
FROM embstore.versions v
LEFT JOIN named n ON n.ref = format('%%s@%%s', v.table_name, v.version)
WHERE v.status = 'ready'
ORDER BY v.table_name, v.version
"""


def _candidates(connection: Connection, keep: int) -> list[_Candidate]:
    with translated("looking for versions that nothing needs"):
        return (
            connection.cursor(row_factory=class_row(_Candidate))
            .execute(_CANDIDATES, {"keep": keep})
            .fetchall()
        )


def _reader(connection: Connection, table: str, version: int) -> str | None:
    """Name a session whose transaction has read the version, or the live view, and is not new."""
    with translated(f"looking who reads {table}@{version}"):
        row = connection.execute(
            "SELECT s.pid, s.usename, s.state, extract(epoch FROM clock_timestamp() - s.xact_start)"
            " FROM pg_locks l JOIN pg_stat_activity s ON s.pid = l.pid"
            " WHERE l.relation IN (to_regclass(%(view)s), to_regclass(%(version)s)) AND l.granted"
            " AND s.datname = current_database() AND s.pid <> pg_backend_pid()"
            " AND s.xact_start < clock_timestamp() - make_interval(secs => %(long)s)"
            " ORDER BY s.xact_start LIMIT 1",
            {
                "view": live_view(table).as_string(),
                "version": version_table(table, version).as_string(),
                "long": LONG_S,
            },
        ).fetchone()
    if row is None:
        return None
    pid, user, state, age = row
    return f"pid {pid} ({user}, {state}, in its transaction for {age:.0f} s)"


def _text(age: timedelta) -> str:
    """``30 d``, ``12 h``, ``5 min``, ``3 s``."""
    seconds = age.total_seconds()
    for name, unit in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit or (seconds >= unit and seconds % unit == 0):
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
