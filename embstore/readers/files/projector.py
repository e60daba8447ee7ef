"""Numbers only, a row a line: TensorBoard's projector, or ``numpy.savetxt`` with a delimiter.

The projector's other file, the metadata, names the rows: without a header a label a line, with
one a column of labels and others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pyarrow as pa

from ...errors import BadInput
from ..base import ID, Opened, Wanted, count_mismatch
from ..ids import read_id_table
from ..registry import Format
from ..source import File
from ..tables import opened_table
from ..textual import Dialect, open_text

# 16,000 dims are some 300 kB.
_FIRST_LINE = 1 << 20
_NUMBER = re.compile(rb" *[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)? *|nan|[-+]?inf", re.I)
_PREFIX = "dimension "


def open_projector(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open the vectors; of a metadata file with several columns the others become attributes.

    Raises
    ------
    BadInput
        When there are not as many rows in both.
    """
    if wanted.vectors is not None:
        raise BadInput(
            f"{file.name} holds numbers without names: leave --vectors out", source=file.name
        )
    fields, delimiter = _fields(file.head(_FIRST_LINE))
    names = [f"{_PREFIX}{i}" for i in range(len(fields))]
    dialect = Dialect("numbers", delimiter, header=0, quoted=False, columns=names, nulls=())
    types = dict.fromkeys(names, pa.float32())
    schema, blocks = open_text(file.stream(held), file.name, dialect, types)
    metadata = read_id_table(wanted.ids)
    if metadata is not None and len(metadata.schema) > 1:
        batches = _beside(blocks, metadata, file.name)
        schema = pa.schema([*metadata.schema, *schema])
        wanted = replace(wanted, ids=ID, vectors=_PREFIX)
    else:
        batches = blocks
    return opened_table(file.name, schema, batches, wanted, provenance=file.provenance("projector"))


def _beside(
    blocks: Iterable[pa.RecordBatch], metadata: pa.Table, name: str
) -> Iterator[pa.RecordBatch]:
    """Put the metadata of each row beside it."""
    at = 0
    rest = metadata.combine_chunks().to_batches()[0]
    for block in blocks:
        part = rest.slice(at, len(block))
        at += len(block)
        if at > len(rest):
            raise count_mismatch(name, at, len(rest), "at least ")
        names = [*part.schema.names, *block.schema.names]
        yield pa.RecordBatch.from_arrays([*part.columns, *block.columns], names)
    if at < len(rest):
        raise count_mismatch(name, at, len(rest))


def _fields(head: bytes) -> tuple[list[bytes], str]:
    line = head.split(b"\n")[0].removesuffix(b"\r")
    delimiter = b"\t" if b"\t" in line else b","
    return line.split(delimiter), delimiter.decode()


def _sniff(head: bytes, file: File) -> bool:
    whole = b"\n" in head
    fields, _ = _fields(head)
    complete = fields if whole else fields[:-1]
    if len(complete) < 2 or not all(_NUMBER.fullmatch(each) for each in complete):
        return False
    if not whole and len(head) < _FIRST_LINE:
        longer = file.head(_FIRST_LINE)
        return len(longer) > len(head) and _sniff(longer, file)
    # A header such as pandas writes for an array: the numbers of the columns.
    counted = [str(i).encode() for i in range(len(fields) + 1)]
    return fields not in (counted[:-1], counted[1:])


FORMATS = (
    Format(
        "projector",
        "TensorBoard projector vectors",
        (".tsv", ".tab"),
        "numbers only, no header, tabs or commas (TensorBoard projector); --ids metadata.tsv",
        open_projector,
        _sniff,
    ),
)
