"""Vectors with known answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]

GOODBOOKS = Path(__file__).parents[2] / "shared" / "data" / "goodbooks"


def clusters(rows: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors as trainers make them: around some centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, rows // 50), dim))
    near = centres[rng.integers(0, len(centres), rows)]
    return (near + 0.5 * rng.standard_normal((rows, dim))).astype(np.float32)


def distances(metric: str, queries: Array, vectors: Array) -> Array:
    """What pgvector's operators give, in float64."""
    a, b = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "ip":
        return np.asarray(-(a @ b.T))
    if metric == "hamming":
        return np.asarray(a @ (1 - b).T + (1 - a) @ b.T)
    if metric == "jaccard":
        both = a @ b.T
        return np.asarray(1 - both / (a.sum(1)[:, None] + b.sum(1) - both))
    if metric == "l2":
        return np.asarray(np.linalg.norm(a[:, None, :] - b[None, :, :], axis=2))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return np.asarray(1 - a @ b.T)


def exact(metric: str, queries: Array, vectors: Array, k: int) -> Array:
    """Row numbers of the k nearest."""
    return np.argsort(distances(metric, queries, vectors), axis=1, kind="stable")[:, :k]


def recall(found: Array, true: Array) -> float:
    hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), true.tolist(), strict=True)]
    return sum(hits) / true.size


@pytest.fixture(scope="session")
def goodbooks() -> Path:
    if not GOODBOOKS.exists():
        pytest.skip("the goodbooks data are not beside this checkout")
    return GOODBOOKS
