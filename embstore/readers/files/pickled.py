"""Pickles: joblib's, Python's own and gensim's. Reading one runs whatever code it holds."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import replace

from ...errors import BadInput
from ...optional import require
from ..base import Opened, Wanted
from ..objects.plain import open_object
from ..registry import Format
from ..source import File


def open_pickled(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open what the file holds as if it had been given as an object.

    Raises
    ------
    BadInput
        Unless the user said that the file may run code.
    """
    if not wanted.allow_pickle:
        raise BadInput(
            f"{file.name} is a pickle, which can run any code when it is read: load it with"
            " --allow-pickle (allow_pickle=True) if you trust it, or save the vectors with"
            " numpy.savez or as Parquet",
            source=file.name,
        )
    path = file.local(held)
    # joblib reads plain pickles as well as its own; it comes with scikit-learn.
    model = require("joblib", "sklearn").load(path)
    if any(each.__module__ == "gensim.utils" for each in type(model).__mro__):
        # gensim keeps large arrays in files beside it, which its own loader maps into memory.
        model = type(model).load(str(path), mmap="r")
    opened = open_object(model, wanted)
    return replace(
        opened,
        name=file.name,
        provenance={**opened.provenance, **file.provenance("pickle")},
    )


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
