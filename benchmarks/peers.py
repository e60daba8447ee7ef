"""The peers, each used as its documentation shows. One class, one shape: load, nearest, lookup."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .libraries import LIBRARIES


class LanceDB:
    """IVF_HNSW_SQ index, as LanceDB suggests for recall."""

    name = "LanceDB"
    least_ef = 50  # k times the refine factor: it refuses less

    def __init__(self, url: str) -> None:
        import lancedb

        self.folder = tempfile.mkdtemp()
        self.database = lancedb.connect(self.folder)

    def load(self, ids: NDArray[Any], base: NDArray[Any]) -> None:
        import pyarrow as pa

        flat = pa.FixedSizeListArray.from_arrays(pa.array(base.ravel()), base.shape[1])
        self.table: Any = self.database.create_table(
            "items", pa.table({"id": ids, "vector": flat}), mode="overwrite"
        )

    def index(self) -> None:
        self.table.create_index(metric="cosine", index_type="IVF_HNSW_SQ", num_partitions=1)
        self.table.create_scalar_index("id")
        self.tune(100)

    def tune(self, ef: int) -> None:
        self.ef = ef

    def nearest(self, query: NDArray[Any]) -> list[int]:
        search = self.table.search(query).distance_type("cosine").nprobes(1).refine_factor(5)
        return search.ef(self.ef).limit(10).to_arrow()["id"].to_pylist()  # type: ignore[no-any-return]

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
        self.tune(100)

    def tune(self, ef: int) -> None:
        self.ef = ef

    def nearest(self, query: NDArray[Any]) -> list[int]:
        return [int(each) for each in self.collection.query(query, limit=10, ef_search=self.ef)]

    def lookup(self, ids: list[int]) -> int:
        return len(self.collection.fetch([str(each) for each in ids]))

    def close(self) -> None:
        self.client.delete_collection("items")  # or a later load would go into its index
        self.client.disconnect()


class MilvusLite:
    """Milvus in process; its index is made beside the inserts."""

    name = "Milvus Lite"

    def __init__(self, url: str) -> None:
        from pymilvus import MilvusClient

        self.folder = tempfile.mkdtemp()
        self.client = MilvusClient(f"{self.folder}/milvus.db")

    def load(self, ids: NDArray[Any], base: NDArray[Any]) -> None:
        self.client.create_collection("items", dimension=base.shape[1], metric_type="COSINE")
        for at in range(0, len(ids), 5000):
            part = zip(ids[at : at + 5000].tolist(), base[at : at + 5000], strict=True)
            self.client.insert("items", [{"id": key, "vector": row} for key, row in part])

    def index(self) -> None:
        self.client.flush("items")

    def nearest(self, query: NDArray[Any]) -> list[int]:
        (found,) = self.client.search("items", [query], limit=10, output_fields=["id"])
        return [each["id"] for each in found]

    def lookup(self, ids: list[int]) -> int:
        return len(self.client.get("items", ids, output_fields=["vector"]))

    def close(self) -> None:
        self.client.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class LangChain:
    """langchain-postgres, on the same Postgres."""

    name = "langchain-postgres"

    def __init__(self, url: str) -> None:
        from langchain_core.embeddings import FakeEmbeddings
        from langchain_postgres import PGEngine, PGVectorStore
        from langchain_postgres.v2.indexes import HNSWQueryOptions

        address = url.replace("postgresql://", "postgresql+psycopg://")
        self.engine = PGEngine.from_connection_string(address)
        self.engine.init_vectorstore_table("langchain", 64, overwrite_existing=True)
        self.store = PGVectorStore.create_sync(
            self.engine,
            FakeEmbeddings(size=64),
            "langchain",
            index_query_options=HNSWQueryOptions(ef_search=100),
        )

    def load(self, ids: NDArray[Any], base: NDArray[Any]) -> None:
        keys = [str(uuid.UUID(int=int(each))) for each in ids]
        self.store.add_embeddings([""] * len(keys), base.tolist(), ids=keys)

    def index(self) -> None:
        from langchain_postgres.v2.indexes import HNSWIndex

        self.store.apply_vector_index(HNSWIndex())

    def nearest(self, query: NDArray[Any]) -> list[int]:
        found = self.store.similarity_search_by_vector(query.tolist(), k=10)
        return [uuid.UUID(each.id).int for each in found]

    def close(self) -> None:
        self.engine.drop_table("langchain")


# Those that are asked; of these, those that take a hundred thousand rows in half a minute, and
# those that take a million in one (LanceDB takes five for its index, the others more); then those
# that are loaded, each with as many rows as takes some seconds.
PEERS: list[Callable[[str], Any]] = [*LIBRARIES, LanceDB, Chroma, Vecs, LangChain, MilvusLite]
CURVES: list[Callable[[str], Any]] = [*LIBRARIES, LanceDB, Chroma, Vecs]
QUICK_TO_LOAD: list[Callable[[str], Any]] = [*LIBRARIES]
LOADERS: list[tuple[Callable[[str], Any], int]] = [
    (LanceDB, 10**9),
    (MilvusLite, 50_000),
    (Vecs, 20_000),
    (Chroma, 20_000),
    (LangChain, 5_000),
]
