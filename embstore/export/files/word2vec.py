"""The text form of the word2vec tool: a header, then a word and its numbers a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ...catalog import VersionRow
from ...connection import Connection
from ...types import IdType
from ..checks import refuse_dims, refuse_texts
from ..registry import Format
from ..rows import Rows
from ..values import joined, shortest, singles

# A word ends where the first of these is.
_BLANKS = "[\x01-\x20\x7f]"


def check(connection: Connection, version: VersionRow) -> None:
    """Refuse ids that are no words.

    Raises
    ------
    BadInput
    """
    refuse_dims(version, "word2vec")
    if version.id_type is IdType.TEXT:
        what = "a blank or a control character"
        refuse_texts(connection, version, {"id": _BLANKS}, what, "word2vec")


def write(paths: Sequence[Path], rows: Rows) -> None:
    """Write the fewest digits of each number that read back as the same float32."""
    with paths[0].open("wb") as file:
        file.write(b"%d %d\n" % (rows.total, rows.version.dim))
        for block in rows:
            numbers = shortest(singles(block, rows.version), " ")
            words = block.ids.cast(pa.string())
            file.write(joined([words, pa.scalar(" "), numbers, pa.scalar("\n")]))


FORMATS = (
    Format(
        "word2vec",
        (".vec", ".txt", ".w2v"),
        "word2vec text: a word and its numbers a line",
        write,
        check=check,
    ),
)
