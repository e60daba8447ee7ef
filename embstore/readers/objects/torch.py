"""PyTorch: embedding layers, any module's parameters, tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import BadInput
from ..arrays import Rows, check_vectors
from ..base import Opened, Picked, RowNumbers, Wanted
from ..facts import class_name, library, public
from ..matrices import found_name, open_parameters
from ..registry import Model, Needs
from ..tensors import by_layer, tensor_rows

_SETTINGS = ("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "mode")


def open_tensor(tensor: Any, wanted: Wanted) -> Opened:
    """Open a tensor (n, dim).

    Raises
    ------
    BadInput
        When it has another shape or is sparse, or there is not one id per row.
    """
    if wanted.vectors is not None:
        raise BadInput("Tensor is one array without a name: leave vectors= out", source="Tensor")
    if str(tensor.layout) != "torch.strided":
        raise BadInput("Tensor is sparse: give its .to_dense()", source="Tensor")
    rows = tensor_rows(tensor)
    check_vectors(rows.shape, rows.dtype, "Tensor")
    opened = open_parameters("Tensor", {"tensor": rows}, wanted, {"format": "torch"})
    return replace(opened, trainer="torch", params=library("torch"))


def open_module(module: Any, wanted: Wanted) -> Opened:
    """Open a module: a parameter or buffer, by its name or its layer's.

    By default it is the weight of the only embedding layer, else the only matrix. Vectors are
    taken as they are stored, before ``max_norm`` would scale them down. With ``ids="row-number"``
    a padding row that is all zero is left out: no item has it, and no cosine.

    Raises
    ------
    BadInput
        When the choice is not plain, or the module has no parameters yet.
    """
    import torch

    name = type(module).__name__
    parameters: dict[str, Any] = {}
    # A shared weight has several names: one of them is enough to choose from, unless the user
    # knows another.
    for each in (module.named_parameters, module.named_buffers):
        parameters |= each(remove_duplicate=wanted.vectors is None)
    embeddings = {
        f"{path}.weight".lstrip("."): layer
        for path, layer in module.named_modules()
        if isinstance(layer, torch.nn.Embedding | torch.nn.EmbeddingBag)
    }
    for weight, layer in embeddings.items():
        parameters.setdefault(weight, layer.weight)  # parametrized: known by its parts only
    if any(isinstance(each, torch.nn.UninitializedParameter) for each in parameters.values()):
        raise BadInput(f"{name} is not initialized: call it on data once", source=name)
    named = by_layer(parameters)
    layers = {
        short: embeddings[full]
        for short, full in zip(named, parameters, strict=True)
        if full in embeddings
    }
    wide = [each for each, layer in layers.items() if layer.embedding_dim > 1]
    default = wide[0] if len(wide) == 1 else None
    arrays = {each: tensor_rows(parameter) for each, parameter in named.items()}
    chosen = found_name(named, wanted.vectors) if wanted.vectors else default
    if wanted.ids == RowNumbers.name and chosen in layers:
        wanted = _without_padding(wanted, arrays[chosen], layers[chosen].padding_idx)
    opened = open_parameters(name, arrays, wanted, {"format": "torch"}, default)
    layer = layers.get(str(opened.provenance["vectors"]), module)
    return replace(
        opened,
        trainer=_trainer(module),
        params={
            **_hyper_parameters(module),
            **public({key: getattr(layer, key, None) for key in _SETTINGS}),
            **library("torch"),
        },
    )


def _without_padding(wanted: Wanted, rows: Rows, padding: int | None) -> Wanted:
    if padding is None or rows.read(padding, 1).any():
        return wanted
    numbers = np.delete(np.arange(rows.shape[0]), padding)
    return replace(wanted, ids=Picked(pa.array(numbers), numbers))


def _trainer(module: Any) -> str:
    if type(module).__module__.startswith("torch.nn."):
        return f"torch.nn.{type(module).__name__}"
    return class_name(module).removeprefix("__main__.")


def _hyper_parameters(module: Any) -> dict[str, object]:
    """Return what a Lightning module keeps of its constructor's arguments."""
    kept = getattr(module, "hparams", None)
    return public(dict(kept)) if isinstance(kept, Mapping) else {}


MODELS = (
    Model(
        "torch-module",
        "a PyTorch module",
        ("torch.nn.modules.module.Module",),
        "an embedding layer, or any module: vectors= a parameter's or its layer's name",
        open_module,
        Needs(("torch",), "torch"),
    ),
    Model(
        "torch-tensor",
        "a PyTorch tensor",
        ("torch.Tensor",),
        "a matrix, a row each",
        open_tensor,
        Needs(("torch",), "torch"),
    ),
)
