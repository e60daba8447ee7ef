"""The words of embstore as types."""

from __future__ import annotations

from collections.abc import Mapping
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
    HAMMING = "hamming"
    JACCARD = "jaccard"

    @property
    def operator(self) -> str:
        """The pgvector operator; ascending order is best first for all of them."""
        return {"cosine": "<=>", "ip": "<#>", "l2": "<->", "hamming": "<~>", "jaccard": "<%>"}[
            self.value
        ]

    @property
    def of_bits(self) -> bool:
        """Whether it compares bits; the others compare components."""
        return self in {Metric.HAMMING, Metric.JACCARD}

    def score(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn the operator's distances into scores, where larger is better.

        cosine: the cosine similarity; ip: the inner product; jaccard: the Jaccard similarity;
        l2, hamming: the negative distance.
        """
        return (1.0 if self in {Metric.COSINE, Metric.JACCARD} else 0.0) - distance


class Precision(StrEnum):
    """How a component is stored; fixed for a table, because it fixes the live view's type."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BIT = "bit"

    @property
    def sql_type(self) -> str:
        """The SQL type: pgvector's, or Postgres' own bit."""
        return {"float32": "vector", "float16": "halfvec", "bit": "bit"}[self.value]

    @property
    def max_dim(self) -> int:
        """The most components of a vector."""
        return 32 * MAX_DIM if self is Precision.BIT else MAX_DIM

    @property
    def max_indexed_dim(self) -> int:
        """The largest dim that pgvector's HNSW and IVFFlat take."""
        return {"float32": 2000, "float16": 4000, "bit": 64_000}[self.value]

    def nbytes(self, dim: int) -> int:
        """Bytes of a vector's components."""
        return dim * {"float32": 32, "float16": 16, "bit": 1}[self.value] + 7 >> 3


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


class Origin(StrEnum):
    """Where the vector of a row that joined a ready version came from; ``trained`` all others."""

    TRAINED = "trained"
    MEAN_OF_NEIGHBOURS = "mean_of_neighbours"
    SIDE_INFORMATION = "side_information"
    FOLD_IN = "fold_in"
    GIVEN = "given"


class Status(StrEnum):
    """The life of a version; queries see `ready` ones only."""

    LOADING = "loading"
    READY = "ready"
    RETIRED = "retired"


# pgvector's limit for both vector and halfvec columns; bits may take as many bytes.
MAX_DIM = 16_000
# Long enough for any URL or path used as a key, and far below the B-tree's 8191 bytes.
MAX_ID_BYTES = 1024
INDEX_KINDS = ("hnsw", "ivfflat")


@dataclass(frozen=True)
class Attribute:
    """A typed column loaded beside the vector."""

    name: str
    type: str


@dataclass(frozen=True)
class Index:
    """An ANN index of a version.

    Attributes
    ----------
    name : str
        In schema ``emb``.
    kind : {"hnsw", "ivfflat"}
    precision : Precision
        Of what is indexed. Where it is not the version's own, a query takes more candidates from
        the index than it was asked for, and ranks them by the full vectors.
    options : mapping
        What it was built with: ``m`` and ``ef_construction``, or ``lists``.
    search : mapping
        What a query sets: ``ef_search`` or ``probes``, and ``oversample``, the candidates for each
        row asked for.
    bytes : int or None
        Its size on disk.
    seconds : float or None
        How long the build took.
    why : str
        Why it is as it is.
    """

    name: str
    kind: str
    precision: Precision
    options: Mapping[str, int]
    search: Mapping[str, int]
    bytes: int | None
    seconds: float | None
    why: str

    def __str__(self) -> str:
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        return f"{self.kind} on {self.precision} ({self.why}){options}"


@dataclass(frozen=True)
class Progress:
    """How far a load, the build of an index or a measurement is.

    Attributes
    ----------
    phase : str
        Of a load: ``rows``, then ``index``, then ``publish``; where recall is measured: ``exact``,
        then ``recall``.
    done, total : int, int or None
        Rows, blocks of the index build, or settings measured; total is None where the source does
        not tell.
    note : str
        What is waited for, if anything.
    """

    phase: str
    done: int
    total: int | None
    note: str = ""


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
    counts : array (q,) of int
        How many neighbours each query has. Fewer than the k asked for come back only when fewer
        rows are there that may be answers: in the version, by the filter, the threshold or the
        groups, and under cosine those that are no zero vectors. What is missing at the end of a
        row is the id -1 (or None), NaN and None.
    k : int
        How many were asked for.
    """

    ids: NDArray[Any]
    scores: NDArray[np.float64]
    distances: NDArray[np.float64]
    attributes: dict[str, NDArray[np.object_]]
    version: int
    counts: NDArray[np.int64]
    k: int

    @property
    def short(self) -> NDArray[np.bool_]:
        """Which queries (q,) have fewer than k neighbours, because no more are there."""
        return np.asarray(self.counts < self.k)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of the ids asked for, in their order.

    Attributes
    ----------
    ids : list of the n ids, as asked; under ``missing="skip"`` only those found
    vectors : array (n, dim), float32, row i belongs to ids[i]; of bits 0 and 1
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


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """Vectors of several tables side by side, row i made of the i-th id of each.

    Attributes
    ----------
    vectors : array (n, sum of the dims), float32
    found : array (n, tables), bool
    columns : mapping of table or reference to its slice of the columns
    versions : mapping of table or reference to the version that answered
    """

    vectors: Vectors
    found: NDArray[np.bool_]
    columns: dict[str, slice]
    versions: dict[str, int]

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, eq=False)
class HistoricalFeatures:
    """To each of n rows the vectors that were live at its own time, of several columns of ids.

    Attributes
    ----------
    vectors : array (n, sum of the dims), float32
    found : array (n, columns), bool
        Whether the id was there, in the version of its time.
    columns : mapping of column to its slice of the vectors
    versions : mapping of column to array (n,), int64
        Which version was live; 0 where none was. One whose vectors were dropped is named too.
    rows : array (n,), int64
        Which rows of the frame these are, from 0: all, unless ``missing="skip"`` left some out.
    """

    vectors: Vectors
    found: NDArray[np.bool_]
    columns: dict[Any, slice]
    versions: dict[Any, NDArray[np.int64]]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.vectors)
