"""The peers, each used as its documentation shows. One class, one shape: load, nearest, lookup."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class LanceDB:
    """IVF_HNSW_SQ index, as LanceDB suggests for recall."""

    name = "LanceDB"

    def __init__(self, url: str) -> None:
        import lancedb

        self.folder = tempfile.mkdtemp()
        self.database = lancedb.connect(self.folder)

    def load(self, ids: NDArray[Any], base: NDArray[Any]) -> None:
        import pyarrow as pa

        flat = pa.FixedSizeListArray.from_arrays(pa.array(base.ravel()), base.shape[1])
        self.table = self.database.create_table(
            "items", pa.table({"id": ids, "vector": flat}), mode="overwrite"
        )

    def index(self) -> None:
        self.table.create_index(metric="cosine", index_type="IVF_HNSW_SQ", num_partitions=1)
        self.table.create_scalar_index("id")

    def nearest(self, query: NDArray[Any]) -> list[int]:
        search = self.table.search(query).distance_type("cosine").nprobes(1).refine_factor(5)
        return search.ef(100).limit(10).to_arrow()["id"].to_pylist()  # type: ignore[no-any-return]

    def lookup(self, ids: list[int]) -> int:
        where = f"id IN ({','.join(map(str, ids))})"
        return int(self.table.search().where(where).limit(len(ids)).to_arrow().num_rows)

    def close(self) -> None:
        shutil.rmtree(self.folder)


class Chroma:
    """HNSW in process, persistent client."""

    name = "Chroma"

    def __init__(self, url: str) -> None:
        import chromadb

        self.folder = tempfile.mkdtemp()
        self.client = chromadb.PersistentClient(self.folder)
        self.collection = self.client.create_collection(
            "items", configuration={"hnsw": {"space": "cosine", "ef_search": 100}}
        )

    def load(self, ids: NDArray[Any], base: NDArray[Any]) -> None:
        names = [str(each) for each in ids]
        for at in range(0, len(ids), 5000):
            self.collection.add(names[at : at + 5000], embeddings=base[at : at + 5000])

    def index(self) -> None:
        """Built while adding."""

    def nearest(self, query: NDArray[Any]) -> list[int]:
        found = self.collection.query(query_embeddings=[query], n_results=10, include=["distances"])
        return [int(each) for each in found["ids"][0]]

    def lookup(self, ids: list[int]) -> int:
        found = self.collection.get([str(each) for each in ids], include=["embeddings"])
        return len(np.asarray(found["embeddings"]))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Vecs:
    """Supabase's client, on the same Postgres."""

    name = "vecs"

    def __init__(self, url: str) -> None:
        import vecs

        self.client = vecs.create_client(url.replace("postgresql://", "postgresql+psycopg2://"))

    def load(self, ids: NDArray[Any], base: NDArray[Any]) -> None:
        self.collection = self.client.get_or_create_collection("items", dimension=base.shape[1])
        records: Any = ((str(key), row, {}) for key, row in zip(ids, base, strict=True))
        self.collection.upsert(records)

    def index(self) -> None:
        from vecs.collection import IndexArgsHNSW, IndexMeasure, IndexMethod

        self.collection.create_index(
            IndexMeasure.cosine_distance, IndexMethod.hnsw, IndexArgsHNSW(m=16, ef_construction=64)
        )

    def nearest(self, query: NDArray[Any]) -> list[int]:
        return [int(each) for each in self.collection.query(query, limit=10, ef_search=100)]

    def lookup(self, ids: list[int]) -> int:
        return len(self.collection.fetch([str(each) for each in ids]))

    def close(self) -> None:
        self.client.disconnect()


PEERS: list[Callable[[str], Any]] = [LanceDB, Chroma, Vecs]
