"""The words of embstore as types."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Id: TypeAlias = "int | str"
Vectors: TypeAlias = NDArray[np.float32]


class Metric(StrEnum):
    """How two vectors are compared; fixed for a table."""

    COSINE = "cosine"
    IP = "ip"
    L2 = "l2"

    @property
    def operator(self) -> str:
        """The pgvector operator; ascending order is best first for all three."""
        return {"cosine": "<=>", "ip": "<#>", "l2": "<->"}[self.value]

    def score(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn the operator's distances into scores, where larger is better.

        cosine: the cosine similarity; ip: the inner product; l2: the negative distance.
        """
        return (1.0 if self is Metric.COSINE else 0.0) - distance


class Precision(StrEnum):
    """How a component is stored; fixed for a table, because it fixes the live view's type."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"

    @property
    def sql_type(self) -> str:
        """The pgvector type."""
        return "vector" if self is Precision.FLOAT32 else "halfvec"

    @property
    def max_indexed_dim(self) -> int:
        """The largest dim that pgvector's HNSW takes."""
        return 2000 if self is Precision.FLOAT32 else 4000


class IdType(StrEnum):
    """The SQL type of a table's ids; fixed by the table's first load."""

    BIGINT = "bigint"
    TEXT = "text"


class Bias(StrEnum):
    """What becomes of the biases beside factors: an attribute, or the last component too."""

    KEEP = "keep"
    FOLD = "fold"


class Zero(StrEnum):
    """What becomes of zero vectors under cosine: bad rows, or stored without any neighbour."""

    REJECT = "reject"
    KEEP = "keep"


class Status(StrEnum):
    """The life of a version; queries see `ready` ones only."""

    LOADING = "loading"
    READY = "ready"
    RETIRED = "retired"


# pgvector's limit for both vector and halfvec columns.
MAX_DIM = 16_000
# Long enough for any URL or path used as a key, and far below the B-tree's 8191 bytes.
MAX_ID_BYTES = 1024


@dataclass(frozen=True)
class Attribute:
    """A typed column loaded beside the vector."""

    name: str
    type: str


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest ids to each of q queries, best first.

    Attributes
    ----------
    ids : array (q, k), int64 or object (str)
    scores : array (q, k), float64; larger is better
    distances : array (q, k), float64; what pgvector's operator gives, smaller is better
    attributes : mapping of column name to an object array (q, k)
        The columns asked for with ``show=``.
    version : int
        The version that answered.

    Fewer than the k asked for come back only when the version has fewer rows, or under cosine fewer
    that are no zero vectors.
    """

    ids: NDArray[Any]
    scores: NDArray[np.float64]
    distances: NDArray[np.float64]
    attributes: dict[str, NDArray[np.object_]]
    version: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of the ids asked for, in their order.

    Attributes
    ----------
    ids : list of the n ids, as asked; under ``missing="skip"`` only those found
    vectors : array (n, dim), float32, row i belongs to ids[i]
    found : array (n,), bool
    attributes : mapping of column name to an object array (n,)
    version : int or None
        The version that answered; None when no id was asked for.
    """

    ids: list[Id]
    vectors: Vectors
    found: NDArray[np.bool_]
    attributes: dict[str, NDArray[np.object_]]
    version: int | None

    def __len__(self) -> int:
        return len(self.ids)
