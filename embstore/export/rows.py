"""A version's rows on their way into files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, translated
from ..load.checksum import Checksum, check_arrived
from ..load.writer import ahead
from ..query.stream import Block, blocks
from ..relations import version_table
from ..types import Progress


class Rows:
    """The rows of a version, in the order of its load; to be iterated over once.

    Attributes
    ----------
    version : VersionRow
        With the attributes that shall go along.
    total : int
        How many rows it has.
    """

    def __init__(
        self,
        connection: Connection,
        version: VersionRow,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.version, self.total = version, version.rows or 0
        self._connection, self._progress = connection, progress

    def longest_id(self) -> int:
        """Ask how many characters the longest text id has; before the first row is read."""
        version = self.version
        statement = sql.SQL("SELECT coalesce(max(char_length(id)), 0) FROM {}").format(
            version_table(version.table_name, version.version)
        )
        with translated(f"reading {version.ref}"):
            row = self._connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])

    def __iter__(self) -> Iterator[Block]:
        """Yield blocks; at their end they are compared with what the catalog promises.

        Raises
        ------
        LoadFailed
            When other rows have come.
        """
        checksum, done = Checksum(), 0
        with (
            closing(blocks(self._connection, self.version)) as stream,
            closing(ahead(stream)) as coming,
        ):
            for block in coming:
                checksum.update(block.ids, block.vectors)
                yield block
                done += len(block.vectors)
                if self._progress is not None:
                    self._progress(Progress("rows", done, self.total))
        check_arrived(self.version, done, checksum)
