"""Keras 3: a model's embedding layers, or one layer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Rows
from ..base import Opened, Wanted
from ..facts import class_name, library, public
from ..matrices import open_parameters
from ..registry import Model, Needs
from ..tensors import as_numpy, is_tensor


def open_layer(layer: Any, wanted: Wanted) -> Opened:
    """Open a layer or a model: ``vectors=`` names a layer, by default the only embedding layer.

    Raises
    ------
    BadInput
        When the choice is not plain, or the layer has no weights yet.
    """
    import keras

    name = type(layer).__name__
    if not layer.weights:
        raise BadInput(f"{name} has no weights: call it on data once", source=name)
    paths = {str(each.path): each for each in layer.weights}
    called = Counter(_layer(path) for path in paths)
    meant = _attribute(layer, wanted.vectors) if wanted.vectors not in called else None
    arrays, embeddings = {}, {}
    for path, variable in paths.items():
        owner = _layer(path)
        short = owner if called[owner] == 1 else path
        arrays[short] = _rows(keras, variable)
        if path.endswith("embeddings") and variable.shape[-1] > 1:
            embeddings[short] = path
        if wanted.vectors in {path, path.rpartition("/")[0]} or variable is meant:
            wanted = replace(wanted, vectors=short)
    default = next(iter(embeddings)) if len(embeddings) == 1 else None
    opened = open_parameters(name, arrays, wanted, {"format": "keras"}, default)
    chosen = str(opened.provenance["vectors"])
    rows, dim = arrays[chosen].shape
    shape = {"input_dim": rows, "output_dim": dim} if chosen in embeddings else {}
    return replace(
        opened,
        trainer=_trainer(layer, isinstance(layer, keras.Model)),
        params={"name": layer.name, **public(shape), **library("keras")},
    )


def _attribute(layer: Any, given: str | None) -> Any:
    """Return the first weight of the layer that is an attribute of the model, as in its code."""
    found = layer
    for each in (given or "").split("."):
        found = getattr(found, each, None)
    weights = getattr(found, "weights", None)
    return weights[0] if weights else None


def _layer(path: str) -> str:
    """Return a layer's own name: ``user`` of ``model/tower/user/embeddings``."""
    return path.rpartition("/")[0].rpartition("/")[2] or path


def _trainer(layer: Any, is_model: bool) -> str:
    found = class_name(layer)
    if found.startswith("keras.") and not is_model:
        return f"keras.layers.{type(layer).__name__}"
    return found.removeprefix("__main__.")


def _rows(keras: Any, variable: Any) -> Rows:
    name = str(variable.dtype)
    dtype = np.dtype(np.float32 if name == "bfloat16" else name)

    def read(at: int, count: int) -> NDArray[Any]:
        part = variable.value[at : at + count]
        # Of a tensor of PyTorch's, Keras asks for the array in a way that numpy 2 warns of.
        array = as_numpy(part) if is_tensor(part) else keras.ops.convert_to_numpy(part)
        return np.asarray(array).astype(dtype, copy=False)

    return Rows(tuple(variable.shape), dtype, read)


MODELS = (
    Model(
        "keras-layer",
        "a Keras model",
        ("keras.src.layers.layer.Layer",),
        "a model or an Embedding layer of Keras 3: vectors= a layer's name",
        open_layer,
        Needs(("keras",), "keras"),
    ),
)
