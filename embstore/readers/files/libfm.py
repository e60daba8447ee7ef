"""The text model of libFM: a global bias, then a bias and a line of factors per feature.

Rendle, "Factorization Machines with libFM", ACM TIST 3(3), 2012, equation 1.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import BadInput
from ...types import MAX_DIM
from ..arrays import matrix_batches, matrix_schema
from ..base import Opened, Picked, RowNumbers, Wanted, batch_rows, check_count
from ..facts import plain
from ..ids import outside_ids
from ..registry import Format
from ..source import CHUNK, File, read_exactly
from ..textual import Dialect, open_text

_GLOBAL, _LINEAR, _PAIRWISE = b"#global bias", b"#unary interactions", b"#pairwise interactions"


def open_libfm(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a model; ids are the feature numbers, unless a vocabulary or a list gives others.

    Raises
    ------
    BadInput
    """
    if wanted.vectors is not None:
        raise BadInput(
            f"{file.name} is a libFM model, which has one matrix without a name: leave --vectors"
            " out",
            source=file.name,
        )
    with ExitStack() as meanwhile:
        beginning = io.BufferedReader(file.stream(meanwhile), CHUNK)
        mean, biases, lines, start = _biases(beginning, file.name)
        first = beginning.readline(CHUNK)
    dim, trailing = len(first.split()), first.rstrip(b"\r\n").endswith(b" ")
    if not 1 <= dim <= MAX_DIM:
        raise BadInput(
            f"{file.name} line {lines + 1}: {dim} factors, where 1 to {MAX_DIM} are expected;"
            " the model has no pairwise interactions, so no vectors",
            source=file.name,
            row=lines + 1,
        )
    keys = outside_ids(wanted.ids, ())
    keys = RowNumbers() if keys is None else keys
    beside = {}
    if biases is not None:
        beside["bias"] = pa.array(biases)
        check_count(file.name, len(biases), keys)
    schema = matrix_schema(keys, np.dtype(np.float32), dim, beside)
    dialect = Dialect(
        "a libFM model",
        " ",
        unit="feature",
        header=1,
        quoted=False,
        columns=[*(f"v{i}" for i in range(dim)), *(["end"] if trailing else [])],
        nulls=(),
    )
    types = {f"v{i}": pa.float32() for i in range(dim)} | {"end": pa.string()}
    # Arrow reads ahead in a thread, which must not need Python to go on: a stream of its own.
    stream = file.stream(held)
    for at in range(0, start, CHUNK):
        read_exactly(stream, min(CHUNK, start - at), file.name)
    _, parsed = open_text(stream, file.name, dialect, types)
    rows = None if biases is None else len(biases)
    return Opened(
        file.name,
        schema,
        matrix_batches(_blocks(parsed, dim, rows, keys, file.name), keys, schema, beside),
        len(keys) if isinstance(keys, Picked) else rows,
        unit="feature",
        first=0,
        provenance=file.provenance("libfm"),
        trainer="libFM",
        params={"factors": dim, **({} if mean is None else {"global_bias": plain(mean)})},
        biases="bias" if beside else None,
    )


def _biases(stream: Any, name: str) -> tuple[float | None, Any, int, int]:
    """Read what stands before the factors.

    Returns the global bias, the others, and how many lines and bytes that is.
    """
    mean, found, lines, start = None, None, 1, 0

    def following() -> bytes:
        nonlocal start
        line = _line(stream, name)
        start += len(line)
        return line

    line = following()
    if line.startswith(_GLOBAL):
        mean, line, lines = float(following()), following(), 3
    if line.startswith(_LINEAR):
        texts = list(takewhile(lambda each: not each.startswith(_PAIRWISE), iter(following, b"")))
        lines += len(texts) + 1
        found = np.array([float(each) for each in texts])
    elif not line.startswith(_PAIRWISE):
        raise BadInput(
            f"{name} line {lines}: neither '#unary interactions' nor '#pairwise interactions'"
            " begins here; it is damaged or no libFM model",
            source=name,
            row=lines,
        )
    return mean, found, lines, start


def _line(stream: Any, name: str, limit: int = 256) -> bytes:
    """Read a line, which has a limit: a bomb's has none."""
    line = bytes(stream.readline(limit))
    if not line or (len(line) == limit and not line.endswith(b"\n")):
        raise BadInput(
            f"{name} ends before '{_PAIRWISE.decode()}', or a line before it is no number: it is"
            " damaged, or a model without factors, which has no vectors",
            source=name,
        )
    return line


def _blocks(
    parsed: Iterator[pa.RecordBatch], dim: int, rows: int | None, keys: Any, name: str
) -> Iterator[Any]:
    seen, step = 0, batch_rows(dim)
    for block in parsed:
        for at in range(0, block.num_rows, step):
            part = block.slice(at, step)
            seen += part.num_rows
            if rows is not None and seen > rows:
                break
            yield np.column_stack([part.column(i).to_numpy() for i in range(dim)])
    if rows is not None and seen != rows:
        more = "more" if seen > rows else seen
        raise BadInput(
            f"{name} has {rows} biases and {more} lines of factors: it is truncated or damaged",
            source=name,
        )
    check_count(name, seen, keys)


FORMATS = (
    Format(
        "libfm",
        "a libFM model",
        (".libfm",),
        "the text model of libFM: factors and biases per feature",
        open_libfm,
        lambda head, _: head.startswith((_GLOBAL, _LINEAR, _PAIRWISE)),
        streams=True,
    ),
)
