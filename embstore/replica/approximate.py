"""Approximate search: an HNSW graph by faiss, mapped from its file.

Measured on 2 cores, clustered vectors of 64 dims, cosine, 16 links, 100 candidates at the build, at
a search breadth of 64 (recall@10 0.998 and more for all):

====================  ===========  ============  =========  ==========  ===================
library               build, 100k  build, 1M     query, 1M  file, 1M    mapped, shared
====================  ===========  ============  =========  ==========  ===================
faiss, float16 codes  5 s          139 s         0.086 ms   272 MB      yes, opens in 15 ms
faiss, float32        16 s         131 s         0.089 ms   400 MB      yes, opens in 15 ms
hnswlib               8 s          77 s          0.081 ms   405 MB      no: read whole
usearch               7 s          232 s         0.201 ms   405 MB      yes, opens in 86 ms
====================  ===========  ============  =========  ==========  ===================

faiss is the one that is fast, mapped, and filters inside the search by a bitmap (hnswlib calls
Python for each row, usearch's Python package does not filter).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingPackage
from ..optional import require
from ..types import Metric, Precision
from .manifest import damaged
from .scores import Array32, Rows

FILE = "graph.faiss"
# pgvector's own m, and more candidates than its 64: the build here is ten times as fast.
LINKS, BUILD_BREADTH = 16, 100
SEARCH_BREADTH = 64
# Beyond it, comparing every row is as fast.
MAX_BREADTH = 4096
_BATCH = 1 << 21


def library() -> Any:
    """Import faiss.

    Raises
    ------
    MissingPackage
    """
    faiss = require("faiss", "replica")
    if not hasattr(faiss, "IO_FLAG_MMAP_IFC"):
        raise MissingPackage(
            "the index of a replica needs faiss 1.11 or later: run pip install 'embstore[replica]'"
        )
    return faiss


def build(
    rows: Rows, path: Path, progress: Callable[[int], None], grown: Path | None = None
) -> dict[str, Any]:
    """Build the graph and write it; returns what the manifest keeps of it.

    Where there is one of the first rows already, ``grown``, it is gone on with.
    """
    faiss = library()
    index = None if grown is None else _opened(faiss, grown, rows)
    if index is None:
        index = _empty(faiss, rows)
    index.hnsw.efConstruction = BUILD_BREADTH
    step = max(1, _BATCH // rows.dim)
    for at in range(index.ntotal, len(rows), step):
        block = rows.floats(slice(at, at + step))
        if rows.metric is Metric.COSINE:
            norms = rows.norms[at : at + step]
            block = (block / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)
        index.add(np.ascontiguousarray(block))
        progress(min(len(rows), at + step))
    faiss.write_index(index, str(path))
    return {
        "kind": "hnsw",
        "library": f"faiss {faiss.__version__}",
        "m": LINKS,
        "ef_construction": BUILD_BREADTH,
        "ef_search": SEARCH_BREADTH,
    }


def _opened(faiss: Any, path: Path, rows: Rows) -> Any:
    """Read a graph into memory, to add to it; None where it is of another kind than ours."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError:  # removed meanwhile
        return None
    same = type(index) is type(_empty(faiss, rows)) and index.d == rows.dim
    links = index.hnsw.nb_neighbors(1) if same else 0
    return index if links == LINKS and index.ntotal <= len(rows) else None


def _empty(faiss: Any, rows: Rows) -> Any:
    metric = faiss.METRIC_L2 if rows.metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
    # Half precision where it loses nothing, or only what the float64 distances put right again.
    half = rows.metric is Metric.COSINE or rows.precision is Precision.FLOAT16
    if half:
        kind = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexHNSWSQ(rows.dim, kind, LINKS, metric)
        index.train(np.zeros((1, rows.dim), np.float32))  # it has nothing to learn
    else:
        index = faiss.IndexHNSWFlat(rows.dim, LINKS, metric)
    return index


class Graph:
    """An open graph; threads may search it at once.

    Raises
    ------
    MissingPackage, ReplicaDamaged
    """

    def __init__(self, path: Path, rows: int, dim: int) -> None:
        self._faiss = library()
        try:
            self._index = self._faiss.read_index(str(path), self._faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise damaged(path, "faiss cannot read it") from error
        if (self._index.ntotal, self._index.d) != (rows, dim):
            raise damaged(path, f"it holds {self._index.ntotal} rows of {self._index.d} dims")
        self._index.hnsw.efSearch = SEARCH_BREADTH

    def search(
        self, queries: Array32, k: int, breadth: int, among: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Return the rows (q, k) near prepared queries; -1 where fewer were found."""
        if breadth <= SEARCH_BREADTH and among is None:
            # What faiss' own Python does before this is a twentieth of a search.
            queries = np.ascontiguousarray(queries)
            rows = np.empty((len(queries), k), np.int64)
            scores, pointer = np.empty(rows.shape, np.float32), self._faiss.swig_ptr
            self._index.search_c(len(queries), pointer(queries), k, pointer(scores), pointer(rows))
            return rows
        settings = self._faiss.SearchParametersHNSW(efSearch=breadth)
        if among is not None:
            # Held here by a name: faiss itself would not.
            selector = self._faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))
            settings.sel = selector
        found: NDArray[np.int64] = self._index.search(queries, k, params=settings)[1]
        return found
