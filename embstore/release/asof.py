"""What was live at a time: of a whole store, and of a table at each of many times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..connection import Connection, translated
from ..errors import InvalidQuery
from ..io import complete
from ..query import lookup
from ..refs import check_name
from ..types import FeatureMatrix

if TYPE_CHECKING:
    from ..store import Store
    from ..version import Version


class AsOf:
    """A store as it was at a time: ``store.as_of("2026-11-01")["items"]``.

    Attributes
    ----------
    at : datetime, in UTC
    """

    def __init__(self, store: Store, at: datetime) -> None:
        self._store = store
        self.at = at

    def __repr__(self) -> str:
        return f"<AsOf {self.at:%Y-%m-%dT%H:%M:%S.%fZ}>"

    def __getitem__(self, table: str) -> Version:
        """Return the version of a table that was live then.

        Raises
        ------
        NotFound
            When none was, or its vectors were dropped since; pins keep versions.
        """
        return self._store[f"{check_name(table)}@{self.at.isoformat()}"]

    def versions(self) -> dict[str, int]:
        """Return the number of what was live then, of each table that had a live version."""
        with translated("reading the history"), self._store.reading() as connection:
            rows = connection.execute(
                "SELECT t.name, l.version FROM embstore.tables t,"
                " LATERAL (SELECT embstore.live_at(t.name, %s)) AS l (version)"
                " WHERE l.version IS NOT NULL ORDER BY 1",
                (self.at,),
            ).fetchall()
        return dict(rows)

    def features(self, ids: Mapping[str, object], missing: str = "raise") -> FeatureMatrix:
        """Return vectors of several tables side by side, as they were then: ``Store.features``.

        Raises
        ------
        NotFound, InvalidQuery
        """
        targets = {table: self[table]._target() for table in ids}
        return complete(lookup.features(self._store.lender, targets, ids, missing))


def moment(t: datetime | str) -> datetime:
    """Return a time in UTC; one without a zone is in UTC.

    Raises
    ------
    InvalidQuery
        When it is neither a datetime nor ISO 8601.
    """
    try:
        found = datetime.fromisoformat(t) if isinstance(t, str) else t
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise InvalidQuery(
            f"{t!r} is no time: give a datetime, or ISO 8601 such as 2026-11-01T00:00:00Z"
        ) from None


@dataclass(frozen=True)
class History:
    """What was live of a table, and from when.

    Attributes
    ----------
    moments : array (moves,), int64
        Microseconds since 1970, never falling.
    versions : array (moves + 1,), int64
        What was live before the first move, and since each; 0 is nothing.
    """

    moments: NDArray[np.int64]
    versions: NDArray[np.int64]

    def at(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what ``embstore.live_at`` gives for each time, 0 for nothing."""
        return self.versions[np.searchsorted(self.moments, times, side="right")]


def history(connection: Connection, table: str) -> History:
    """Read the moves of a table's ``live``."""
    with translated(f"reading the history of {table}"):
        row = connection.execute(
            "SELECT array_agg((extract(epoch FROM moved_at) * 1000000)::bigint ORDER BY move),"
            " array_agg(coalesce(version, 0) ORDER BY move)"
            " FROM embstore.alias_history WHERE table_name = %s AND alias = 'live'",
            (table,),
        ).fetchone()
    moments, versions = row or (None, None)
    # The last move that is not later than t counts, even if the clock was set back before it: so
    # that a search finds it, no moment may lie behind one that follows.
    falling = np.array(moments or [], np.int64)[::-1]
    return History(np.minimum.accumulate(falling)[::-1], np.array([0, *(versions or [])], np.int64))
