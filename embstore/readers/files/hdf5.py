"""HDF5: datasets by path, among them the files of ann-benchmarks.

HDF5's library has had heap overflows every year; a process of its own parses the file.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from ...errors import BadInput
from ...optional import require
from ..apart import Apart
from ..base import Opened, Wanted
from ..facts import public
from ..named import open_named
from ..registry import Format, Needs
from ..source import File

MAGIC = b"\x89HDF\r\n\x1a\n"
_MEMORY = 2 << 30


def datasets(file: File, held: ExitStack) -> Apart:
    """Open the file; its arrays are the datasets of all groups, called ``group/dataset``.

    Raises
    ------
    BadInput, MissingPackage
    """
    require("h5py", "hdf5")
    return Apart(file, "hdf5", _MEMORY, held)


def open_hdf5(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open the dataset that holds the vectors, with the ids and biases that belong to it.

    Raises
    ------
    BadInput, MissingPackage
    """
    found = datasets(file, held)
    if wanted.vectors is not None:
        wanted = replace(wanted, vectors=wanted.vectors.strip("/"))
    for each in (wanted.vectors, wanted.ids):
        if isinstance(each, str) and each in found.skipped:
            raise BadInput(
                f"{file.name}: dataset {each!r} cannot be read: {found.skipped[each]}",
                source=file.name,
                column=each,
            )
    # As http://ann-benchmarks.com has them: what is searched, and by what.
    benchmark = {"train", "test", "neighbors"} <= found.kinds.keys()
    opened = open_named(
        file.name,
        found.kinds,
        wanted,
        found.whole,
        found.blocks,
        file.provenance("hdf5"),
        vectors="train" if benchmark else None,
        numbered=benchmark,
    )
    return replace(opened, params=public(found.about["attributes"]))


FORMATS = (
    Format(
        "hdf5",
        "an HDF5 file",
        (".h5", ".hdf5", ".hdf", ".he5"),
        "datasets: vectors, ids, biases; ann-benchmarks files",
        open_hdf5,
        lambda head, _: head.startswith(MAGIC),
        needs=Needs(("h5py",), "hdf5"),
    ),
)
