"""Pickles: joblib's, Python's own and gensim's. Reading one runs whatever code it holds."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import BadInput
from ...optional import require
from ..base import Opened, Wanted
from ..objects.plain import open_object
from ..registry import Format
from ..source import File

# What gensim's save leaves in the object's attributes.
_SAVED = "__recursive_saveloads"


def open_pickled(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open what the file holds as if it had been given as an object.

    Raises
    ------
    BadInput
        Unless the user said that the file may run code.
    """
    by_gensim = b"gensim" in file.head()
    if not wanted.allow_pickle:
        other = "gensim's save_word2vec_format" if by_gensim else "numpy.savez or as Parquet"
        raise BadInput(
            f"{file.name} is a pickle, which can run any code when it is read: load it with"
            " --allow-pickle (allow_pickle=True) if you trust it, or save the vectors with"
            f" {other}",
            source=file.name,
        )
    if by_gensim:
        require("gensim", "gensim")
    # joblib reads plain pickles as well as its own; it comes with scikit-learn.
    model = require("joblib", "sklearn").load(file.local(held))
    if _SAVED in getattr(model, "__dict__", ()):
        model = _with_arrays(model, file)
    opened = open_object(model, wanted)
    return replace(
        opened,
        name=file.name,
        provenance={**opened.provenance, **file.provenance("pickle")},
    )


def _with_arrays(model: Any, file: File) -> Any:
    """Load again with gensim's own loader, which maps the large arrays that lie beside the file."""
    path = file.place.path
    if path is None:
        raise BadInput(
            f"{file.name}: gensim keeps its large arrays in files beside it: copy all of them into"
            " a folder of this machine",
            source=file.name,
        )
    try:
        return type(model).load(str(path), mmap=None if file.packed else "r")
    except FileNotFoundError as error:
        raise BadInput(
            f"{file.name}: gensim keeps its large arrays in files beside it, and"
            f" {Path(str(error.filename)).name} is not there: copy all of them",
            source=file.name,
        ) from error


FORMATS = (
    Format(
        "pickle",
        "a pickled model",
        (".joblib", ".pkl", ".pickle", ".kv", ".model"),
        "a trained model in a pickle (joblib, gensim); only with --allow-pickle",
        open_pickled,
        # joblib compresses with zlib by itself; its other compressions are found as such.
        lambda head, _: re.match(rb"\x80[\x02-\x05]|x[\x01\x5e\x9c\xda]", head) is not None,
    ),
)
