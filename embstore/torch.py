"""PyTorch: embedding layers that begin with stored vectors.

torch is imported when a function is called, so this module costs nothing without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import InvalidQuery
from .optional import require
from .reads import Reads

if TYPE_CHECKING:
    from torch import nn


def pretrained(
    source: Reads,
    vocabulary: Sequence[Any],
    *,
    freeze: bool = True,
    padding_idx: int | None = None,
    bag: Literal["mean", "sum", "max"] | None = None,
    missing: str = "zero",
    scale: float = 0.0,
    seed: int = 0,
) -> nn.Embedding | nn.EmbeddingBag:
    """Return an embedding layer whose row i is the vector of ``vocabulary[i]``.

    Parameters
    ----------
    source : Version, Replica or Table
        Of a table, the version that is live now.
    vocabulary : sequence of n ids
    freeze : bool
        Whether training leaves the vectors as they are.
    padding_idx : int, optional
        The row that stands for no entity: zeros, and never trained. What the vocabulary has there
        is not looked up, so it may be None or ``"<pad>"``.
    bag : {"mean", "sum", "max"}, optional
        Make an ``nn.EmbeddingBag``, which pools the vectors of several ids, instead of an
        ``nn.Embedding``.
    missing, scale, seed
        As in ``Version.embedding_matrix``: what an id that is not there begins with.

    Returns
    -------
    torch.nn.Embedding or torch.nn.EmbeddingBag
        With weights (n, dim), float32.

    Raises
    ------
    MissingPackage
        Without torch.
    InvalidQuery
        When ``padding_idx`` is no row, or ``bag`` no way of pooling.
    NotFound
        Under ``missing="raise"``, naming an id that is not there.
    """
    nn = require("torch", "torch").nn
    if bag not in {None, "mean", "sum", "max"}:
        raise InvalidQuery(f"bag={bag!r} is no way of pooling: use 'mean', 'sum' or 'max'")
    ids = list(vocabulary)
    row = padding_idx
    if row is not None:
        if not -len(ids) <= row < len(ids):
            raise InvalidQuery(f"padding_idx is {row}: the vocabulary has {len(ids)} rows")
        row %= len(ids)
        del ids[row]
    matrix = source.embedding_matrix(ids, missing, scale=scale, seed=seed)
    if row is not None:
        matrix = np.insert(matrix, row, 0, axis=0)
    weights = require("torch", "torch").from_numpy(matrix)
    if bag is None:
        layer = nn.Embedding.from_pretrained(weights, freeze=freeze, padding_idx=row)
    else:
        layer = nn.EmbeddingBag.from_pretrained(weights, freeze=freeze, mode=bag, padding_idx=row)
    return layer  # type: ignore[no-any-return]
