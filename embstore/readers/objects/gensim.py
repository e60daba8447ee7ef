"""gensim: the word2vec family, as models or as their keyed vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..base import Opened, Wanted
from ..facts import class_name, library, public
from ..matrices import Matrix, open_matrices
from ..registry import Model, Needs

_PARAMS = (
    "vector_size",
    "window",
    "epochs",
    "sg",
    "hs",
    "negative",
    "ns_exponent",
    "cbow_mean",
    "alpha",
    "min_alpha",
    "sample",
    "min_count",
    "max_final_vocab",
    "shrink_windows",
    "seed",
    "corpus_count",
    "corpus_total_words",
    "total_train_time",
    "min_n",
    "max_n",
    "bucket",
    "dm_concat",
    "dm_tag_count",
    "dbow_words",
)
# What training samples words by; it follows from the counts.
_INTERNAL = "sample_int"


def open_gensim(model: Any, wanted: Wanted) -> Opened:
    """Open Word2Vec, FastText, Doc2Vec or keyed vectors; the ids are the words or the tags.

    Of a model of words ``vectors=`` is ``input`` (what gensim calls ``wv``, the default),
    ``output`` (``syn1neg``) or ``sum``, both added; of a model of documents ``docs`` (``dv``, the
    default) or ``words``. What the keyed vectors hold per key, such as ``count``, is beside them.

    Raises
    ------
    BadInput
        When the model has no such matrix.
    """
    keyed = getattr(model, "wv", model)
    if hasattr(model, "dv"):
        matrices = {"docs": _matrix(model.dv), "words": _matrix(keyed)}
    elif keyed is model:
        matrices = {"input": _matrix(model)}
    else:
        matrices = {"input": _matrix(keyed), **_with_output(model, keyed)}
    settings = {**vars(keyed), **vars(model)}
    params = public({name: settings[name] for name in _PARAMS if name in settings})
    if hasattr(model, "dv"):
        params["dm"] = not model.sg
    losing = getattr(model, "compute_loss", False)
    metrics = {"running_training_loss": model.running_training_loss} if losing else {}
    return open_matrices(
        type(model).__name__,
        matrices,
        wanted,
        format="gensim",
        default="docs" if hasattr(model, "dv") else "input",
        trainer=class_name(model),
        params={**params, **_library(model)},
        metrics=public(metrics),
    )


def _matrix(keyed: Any, vectors: Any = None) -> Matrix:
    return Matrix(keyed.vectors if vectors is None else vectors, keyed.index_to_key, _beside(keyed))


def _with_output(model: Any, keyed: Any) -> dict[str, Matrix]:
    """Return the matrices that need the output side, which only negative sampling has per word."""

    def output() -> NDArray[Any]:
        found = getattr(model, "syn1neg", None)
        if found is None:
            raise BadInput(
                f"{type(model).__name__} has no output vector per word, because it was trained"
                " without negative sampling (negative=0): load vectors='input'",
                source=type(model).__name__,
            )
        return np.asarray(found)

    return {
        "output": _matrix(keyed, output),
        "sum": _matrix(keyed, lambda: keyed.vectors + output()),
    }


def _beside(keyed: Any) -> dict[str, NDArray[Any]]:
    """Return what is kept per key, except what gensim has made up."""
    count = len(keyed.index_to_key)
    found = {}
    for name, values in keyed.expandos.items():
        if name == _INTERNAL or np.shape(values) != (count,):
            continue
        if values.dtype == object:  # texts, and 0 where none was set
            values = np.array([x if isinstance(x, str) else None for x in values], object)
        # A file of vectors has no counts: gensim's reader numbers them down to 1 instead.
        invented = name == "count" and np.array_equal(values, np.arange(count, 0, -1))
        if values.dtype.kind in "bfiuO" and not invented:
            found[name] = values
    return found


def _library(model: Any) -> Mapping[str, object]:
    """Return the gensim that made the model, where it tells, else the one that is installed."""
    for event in getattr(model, "lifecycle_events", None) or ():
        if event.get("event") in {"created", "load_word2vec_format"} and "gensim" in event:
            return {"library": f"gensim {event['gensim']}"}
    return library("gensim")


MODELS = (
    Model(
        "gensim",
        "a model of gensim",
        ("gensim.models.keyedvectors.KeyedVectors", "gensim.models.word2vec.Word2Vec"),
        "KeyedVectors, Word2Vec, FastText: vectors= input, output or sum; Doc2Vec: docs or words",
        open_gensim,
        Needs(("gensim",), "gensim"),
    ),
)
