"""What every section gets: the store, the sizes, the report, and data that is loaded once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from embstore import Store, Table, Version

from .measure import Array, Report, timed, true_neighbours, vectors


@dataclass(frozen=True)
class Loaded:
    """A table on the server, and what to ask it.

    Attributes
    ----------
    queries : array (1000, dim)
        Near stored vectors.
    true : array (200, 10)
        Rows of the nearest of the first of them.
    asked : list of 50 lists of 1000 ids
    seconds : float
        Of its load, index included.
    """

    table: Table
    version: Version
    ids: Array
    base: Array
    queries: Array
    true: Array
    asked: list[list[int]]
    seconds: float

    @property
    def relation(self) -> str:
        """The version's relation, in SQL."""
        return f"emb.{self.version.table}_v{self.version.number}"


@dataclass
class Bench:
    """One run.

    Attributes
    ----------
    rows, many : int
        Of most sections, and of those that show what a larger table costs.
    load_rows : int
    gigabytes : float
        Of the large files that are loaded.
    seconds : float
        That several clients ask for.
    peers : bool
        Whether other systems are measured too.
    """

    store: Store
    report: Report
    folder: Path
    rows: int
    many: int
    load_rows: int
    gigabytes: float
    seconds: float
    peers: bool
    _loaded: dict[int, Loaded] = field(default_factory=dict)

    def loaded(self, rows: int) -> Loaded:
        """``rows`` x 64 on the server, loaded by the first section that asks."""
        if rows not in self._loaded:
            self._loaded[rows] = self._load(f"items_{rows}", vectors(rows))
        return self._loaded[rows]

    def _load(self, name: str, base: Array) -> Loaded:
        rows = len(base)
        ids, rng = np.arange(rows), np.random.default_rng(1)
        noise = rng.standard_normal((1000, base.shape[1]), dtype=np.float32)
        queries = base[rng.integers(0, rows, 1000)] + 0.3 * noise
        asked = [rng.choice(rows, min(rows, 1000), replace=False).tolist() for _ in range(50)]
        table = self.store.create_table(name)
        seconds = timed(lambda: table.load(base, ids=ids, index="hnsw", promote=True))
        true = true_neighbours(queries[:200], base, 10)
        return Loaded(table, self.store[f"{name}@1"], ids, base, queries, true, asked, seconds)
