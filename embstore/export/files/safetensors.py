"""safetensors: the tensors id and embedding; text ids, which no tensor holds, in a second file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ...readers.exported import described
from ...types import IdType, Precision
from ..registry import Format
from ..rows import Rows
from ..values import components
from .npy import BESIDE, Ids

_TYPES = {Precision.FLOAT32: "F32", Precision.FLOAT16: "F16", Precision.BIT: "BOOL"}


def write(paths: Sequence[Path], rows: Rows) -> None:
    """Write the ids first, as the format's own library does: larger numbers before smaller."""
    version = rows.version
    inside = version.id_type is IdType.BIGINT
    width = 1 if version.precision is Precision.BIT else np.dtype(str(version.precision)).itemsize
    behind = 8 * rows.total if inside else 0
    tensors: dict[str, object] = {"__metadata__": described(version)}
    if inside:
        tensors["id"] = {"dtype": "I64", "shape": [rows.total], "data_offsets": [0, behind]}
    tensors["embedding"] = {
        "dtype": _TYPES[version.precision],
        "shape": [rows.total, version.dim],
        "data_offsets": [behind, behind + rows.total * version.dim * width],
    }
    header = json.dumps(tensors, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    start = 8 + len(header)
    with ExitStack() as held:
        vectors = held.enter_context(paths[0].open("wb"))
        vectors.write(len(header).to_bytes(8, "little") + header)
        vectors.seek(start + behind)
        if inside:
            beside = held.enter_context(paths[0].open("r+b"))
            beside.seek(start)
        else:
            ids = held.enter_context(Ids(paths[1], rows))
        for block in rows:
            vectors.write(components(block, version).data)
            if inside:
                beside.write(np.asarray(block.ids).data)
            else:
                ids.append(block.ids)


FORMATS = (
    Format(
        "safetensors",
        (".safetensors",),
        f"tensors id and embedding; text ids in NAME{BESIDE}",
        write,
        beside=lambda version: BESIDE if version.id_type is IdType.TEXT else None,
    ),
)
