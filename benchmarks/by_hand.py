"""What a careful engineer writes with psycopg and numpy alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def copy(
    url: str, ids: NDArray[Any], base: NDArray[Any], *, key: bool, connections: int = 1
) -> None:
    """CREATE TABLE and packed binary COPY in one transaction; with a primary key after it.

    Over several connections the table is created first, since they must all see it.
    """
    kind = "bigint" if ids.dtype.kind == "i" else "text"
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS by_hand")
        connection.commit()
        connection.execute(
            f"CREATE TABLE by_hand (id {kind} NOT NULL, embedding vector({base.shape[1]}) NOT NULL)"
        )
        if connections == 1:
            _send(connection, ids, base)
        else:
            connection.commit()
            share = -(-len(ids) // connections)
            parts = [slice(at, at + share) for at in range(0, len(ids), share)]
            with ThreadPoolExecutor(connections) as threads:
                list(threads.map(lambda part: _send_alone(url, ids[part], base[part]), parts))
        if key:
            connection.execute("ALTER TABLE by_hand ADD PRIMARY KEY (id)")


def _send_alone(url: str, ids: NDArray[Any], base: NDArray[Any]) -> None:
    with psycopg.connect(url) as connection:
        _send(connection, ids, base)


def _send(connection: psycopg.Connection, ids: NDArray[Any], base: NDArray[Any]) -> None:
    dim, width = base.shape[1], ids.dtype.itemsize
    row = np.dtype(
        [
            ("fields", ">i2"),
            ("length", ">i4"),
            ("id", ids.dtype.newbyteorder(">")),
            ("bytes", ">i4"),
            ("dim", ">u2"),
            ("unused", ">u2"),
            ("value", ">f4", (dim,)),
        ]
    )
    with connection.cursor().copy("COPY by_hand FROM STDIN (FORMAT binary)") as stream:
        stream.write(HEADER)
        for at in range(0, len(ids), 4096):
            part = slice(at, at + 4096)
            packed = np.empty(len(ids[part]), row)
            packed["fields"], packed["length"], packed["id"] = 2, width, ids[part]
            packed["bytes"], packed["dim"], packed["unused"] = 4 + 4 * dim, dim, 0
            packed["value"] = base[part]
            stream.write(memoryview(packed.data).cast("B"))
        stream.write(b"\xff\xff")


class Queries:
    """Prepared, binary queries on one table, with pgvector's own adapters."""

    def __init__(self, url: str, relation: str, ef_search: int) -> None:
        from pgvector.psycopg import register_vector

        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        register_vector(self.connection)
        self.tune(ef_search)
        self._near = (
            f"SELECT id, embedding <=> %(query)s AS distance FROM {relation}"  # noqa: S608
            " ORDER BY distance LIMIT 10"
        )
        self._same = (
            f"SELECT id, embedding <=> (SELECT embedding FROM {relation} WHERE id = %(id)s) AS d"  # noqa: S608
            f" FROM {relation} ORDER BY d LIMIT 11"
        )
        self._some = f"SELECT id, embedding FROM {relation} WHERE id = ANY (%(ids)s)"  # noqa: S608

    def tune(self, ef: int) -> None:
        self.connection.execute(f"SET hnsw.ef_search = {int(ef)}")

    def nearest(self, query: NDArray[Any]) -> list[Any]:
        return self.connection.execute(self._near, {"query": query}, binary=True).fetchall()

    def similar(self, id: int) -> list[Any]:
        return self.connection.execute(self._same, {"id": id}, binary=True).fetchall()

    def lookup(self, ids: list[int]) -> NDArray[Any]:
        """fetchall of rows, then a matrix in the order asked for."""
        rows = self.connection.execute(self._some, {"ids": ids}, binary=True).fetchall()
        found: dict[int, Any] = dict(rows)
        return np.stack(
            [
                value if isinstance(value := found[key], np.ndarray) else value.to_numpy()
                for key in ids
            ]
        )

    def rows(self, ids: list[int]) -> list[Any]:
        """fetchall alone."""
        return self.connection.execute(self._some, {"ids": ids}, binary=True).fetchall()
