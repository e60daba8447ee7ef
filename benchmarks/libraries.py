"""HNSW libraries alone, in process: what any server is measured against. One class, one shape.

Each with pgvector's own m = 16 and ef_construction = 64. Ids are row numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .measure import Array

M, EF_CONSTRUCTION = 16, 64


class Faiss:
    """faiss.IndexHNSWFlat over unit vectors."""

    name = "faiss, in process"

    def __init__(self, url: str) -> None:
        import faiss

        self.faiss: Any = faiss

    def load(self, ids: Array, base: Array) -> None:
        self.base = base / np.linalg.norm(base, axis=1, keepdims=True)

    def index(self) -> None:
        metric = self.faiss.METRIC_INNER_PRODUCT
        self.graph: Any = self.faiss.IndexHNSWFlat(self.base.shape[1], M, metric)
        self.graph.hnsw.efConstruction = EF_CONSTRUCTION
        self.graph.add(self.base)
        self.tune(100)

    def tune(self, ef: int) -> None:
        self.graph.hnsw.efSearch = ef

    def nearest(self, query: Array) -> list[int]:
        found = self.graph.search(query[None] / np.linalg.norm(query), 10)[1][0]
        return found.tolist()  # type: ignore[no-any-return]

    def lookup(self, ids: list[int]) -> int:
        return len(self.graph.reconstruct_batch(ids))

    def close(self) -> None:
        del self.graph


class Hnswlib:
    """hnswlib.Index."""

    name = "hnswlib, in process"

    def __init__(self, url: str) -> None:
        import hnswlib

        self.library = hnswlib

    def load(self, ids: Array, base: Array) -> None:
        self.base = base

    def index(self) -> None:
        self.graph: Any = self.library.Index("cosine", self.base.shape[1])
        self.graph.init_index(len(self.base), M=M, ef_construction=EF_CONSTRUCTION)
        self.graph.add_items(self.base)
        self.graph.set_num_threads(1)
        self.tune(100)

    def tune(self, ef: int) -> None:
        self.graph.set_ef(ef)

    def nearest(self, query: Array) -> list[int]:
        return self.graph.knn_query(query, 10)[0][0].tolist()  # type: ignore[no-any-return]

    def lookup(self, ids: list[int]) -> int:
        return len(self.graph.get_items(ids))

    def close(self) -> None:
        del self.graph


class Usearch:
    """usearch.index.Index, float32."""

    name = "usearch, in process"

    def __init__(self, url: str) -> None:
        from usearch.index import Index

        self.make = Index

    def load(self, ids: Array, base: Array) -> None:
        self.ids, self.base = ids, base

    def index(self) -> None:
        self.graph: Any = self.make(
            ndim=self.base.shape[1],
            metric="cos",
            dtype="f32",
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )
        self.graph.add(self.ids, self.base)
        self.tune(100)

    def tune(self, ef: int) -> None:
        self.graph.expansion_search = ef

    def nearest(self, query: Array) -> list[int]:
        return self.graph.search(query, 10).keys.tolist()  # type: ignore[no-any-return]

    def lookup(self, ids: list[int]) -> int:
        return len(self.graph.get(np.asarray(ids)))

    def close(self) -> None:
        self.graph.reset()


LIBRARIES: list[Callable[[str], Any]] = [Faiss, Hnswlib, Usearch]
