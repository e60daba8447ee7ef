"""TensorBoard's projector: numbers, a row a line, and a second file of ids and attributes.

That one has a header only where it has several columns, as the projector wants it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ...catalog import VersionRow
from ...connection import Connection
from ...errors import BadInput
from ...query.stream import Block
from ...types import Attribute, IdType
from ..checks import refuse_dims, refuse_texts
from ..registry import Format
from ..rows import Rows
from ..values import joined, shortest, singles

_BREAKS = "[\t\n\r]"
# A lone column has no header; a byte order mark would be taken for the file's.
_LONE = f"{_BREAKS}|^\ufeff|^[ \v\f]*id[ \v\f]*$"
_TITLE = "the projector's metadata"


def check(connection: Connection, version: VersionRow) -> None:
    """Refuse texts that would break a line or a field.

    Raises
    ------
    BadInput
    """
    refuse_dims(version, "the projector", 2)
    columns = version.attributes
    for each in columns:
        if re.search(_BREAKS, each.name):
            raise BadInput(
                f"{version.ref}: the name of column {each.name!r} holds a tab or a line break,"
                f" which {_TITLE} cannot hold; leave it out with attributes= (--attributes)",
                source=version.ref,
                column=each.name,
            )
    patterns = {each.name: _BREAKS for each in columns if each.type == "text"}
    if version.id_type is IdType.TEXT:
        patterns = {"id": _BREAKS if columns else _LONE, **patterns}
    what = "a tab or a line break"
    if not columns:
        what = "a tab, a line break, a byte order mark or the word id alone"
    refuse_texts(connection, version, patterns, what, _TITLE)


def write(paths: Sequence[Path], rows: Rows) -> None:
    """Write the fewest digits of each number that read back as the same float32."""
    columns = rows.version.attributes
    newline = pa.scalar("\n")
    with paths[0].open("wb") as vectors, paths[1].open("wb") as metadata:
        if columns:
            names = pa.array(["id", *(each.name for each in columns)])
            metadata.write("\t".join(_quoted(names).to_pylist()).encode() + b"\n")
        first = True
        for block in rows:
            lines = joined([shortest(singles(block, rows.version), "\t"), newline])
            if first and (whole := re.match(rb"[0-9]+", lines)) and lines[whole.end()] == ord("\t"):
                # A first line of 0, 1, 2, ... would be taken for a header.
                vectors.write(whole[0] + b".0")
                lines = lines[whole.end() :]
            vectors.write(lines)
            first = False
            metadata.write(joined([*_fields(block, columns), newline]))


def _fields(block: Block, columns: Sequence[Attribute]) -> list[pa.Array | pa.Scalar]:
    ids = block.ids.cast(pa.string())
    if not columns:
        return [ids]
    fields = [_quoted(ids)]
    for attribute, column in zip(columns, block.columns, strict=True):
        fields += [pa.scalar("\t"), _text(column, attribute)]
    return fields


def _text(column: pa.Array, attribute: Attribute) -> pa.Array:
    """Return an attribute as text; what is missing is empty, and empty text is two quotes."""
    texts = column.cast(pa.string())
    if attribute.type == "double precision":
        # So that a whole number is read back as what it was.
        whole = pc.match_substring_regex(texts, "^-?[0-9]+$")
        texts = pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
    elif attribute.type in {"text", "jsonb"}:
        texts = _quoted(texts)
    return texts.fill_null("")


def _quoted(texts: pa.Array) -> pa.Array:
    """Quote the texts that would otherwise be read as quoted, or as missing."""
    doubled = pc.replace_substring(texts, '"', '""')
    quoted = pc.binary_join_element_wise('"', doubled, '"', "")
    odd = pc.or_(pc.starts_with(texts, '"'), pc.equal(texts, ""))
    return pc.if_else(odd, quoted, texts)


FORMATS = (
    Format(
        "projector",
        (".tsv", ".tab"),
        "TensorBoard's projector: numbers; ids and attributes in NAME.metadata.tsv",
        write,
        attributes=True,
        beside=lambda _: ".metadata.tsv",
        check=check,
    ),
)
