"""PyTorch tensors as rows: on any device, of any type of number."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .arrays import Rows

_Value = TypeVar("_Value")


def is_tensor(value: object) -> bool:
    """Tell whether something is a tensor, without importing PyTorch for that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_numpy(tensor: Any) -> NDArray[Any]:
    """Return a tensor as an array: a view where it can be one, bfloat16 and float8 as float32."""
    torch = sys.modules["torch"]
    there = tensor.detach().to("cpu")
    if there.is_floating_point() and there.dtype not in (torch.half, torch.float, torch.double):
        there = there.float()
    array: NDArray[Any] = there.numpy()
    return array


def dtype_of(tensor: Any) -> np.dtype[Any]:
    """Return the type of `as_numpy`; ``object`` where numpy has none, and of sparse tensors."""
    torch = sys.modules["torch"]
    if tensor.layout != torch.strided or tensor.is_quantized:
        return np.dtype(object)
    try:
        return as_numpy(torch.empty(0, dtype=tensor.dtype)).dtype
    except TypeError:
        return np.dtype(object)


def tensor_rows(tensor: Any) -> Rows:
    """Return a tensor whose rows are copied from their device as they are read."""
    return Rows(
        tuple(tensor.shape),
        dtype_of(tensor),
        lambda at, count: as_numpy(tensor[at : at + count]),
    )


def by_layer(parameters: Mapping[str, _Value]) -> dict[str, _Value]:
    """Call each ``layer.weight`` by its layer alone, where nothing else is called that."""
    short = {name: name.removesuffix(".weight") for name in parameters}
    taken = Counter(short.values())
    return {
        short[name] if taken[short[name]] == 1 else name: value
        for name, value in parameters.items()
    }
