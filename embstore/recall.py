"""Batch recall: for every user the k best items, what the user has seen left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from psycopg import sql

from .atomic import written
from .connection import translated
from .errors import DimensionMismatch, InvalidName, InvalidQuery
from .interactions import Interactions
from .load.encode import HEADER, TRAILER, encode_columns
from .query.shape import Cut
from .query.stream import blocks, id_kind
from .reads import Reads
from .types import Attribute, Metric, Precision, Vectors

if TYPE_CHECKING:
    from .replica import Replica
    from .store import Store
    from .version import Version

# Users compared at a time.
BLOCK = 4096


@dataclass(frozen=True)
class Job:
    """What a recall asks for; see ``Store.recall``."""

    k: int
    exclude: object
    where: object
    approximate: bool
    cache_dir: str | os.PathLike[str] | None
    progress: Callable[[int, int], None] | None


class Recommendations:
    """The k best items of every user: rows of user_id, rank (from 1), item_id and score.

    Nothing is computed before it is iterated over, and each time anew.

    Attributes
    ----------
    users, items : Version
    schema : pyarrow.Schema
    """

    def __init__(self, store: Store, users: Version, items: Version, job: Job) -> None:
        check_pair(users, items)
        Cut(job.k)  # says if it cannot be asked for
        self.users, self.items = users, items
        self._store, self._job = store, job
        self._seen = None
        if job.exclude is not None:
            read = Interactions.read
            self._seen = read(job.exclude, "exclude", users._target(), items._target())
        self.schema = pa.schema(
            [
                pa.field("user_id", id_kind(users.id_type), nullable=False),
                pa.field("rank", pa.int64(), nullable=False),
                pa.field("item_id", id_kind(items.id_type), nullable=False),
                pa.field("score", pa.float64(), nullable=False),
            ]
        )

    def __repr__(self) -> str:
        return f"<Recommendations of {self._job.k} {self.items.ref} for {self.users.ref}>"

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        index = "hnsw" if self._job.approximate else "none"
        replica = self.items.replica(self._job.cache_dir, index=index)
        done = 0
        with (
            self._store.reading() as connection,
            closing(blocks(connection, self.users._row)) as stream,
        ):
            for ids, vectors in _gathered(stream, self.users):
                yield self._answer(replica, ids, vectors)
                done += len(ids)
                if self._job.progress:
                    self._job.progress(done, self.users.rows)

    def to_arrow(self) -> pa.Table:
        """Return all of it, in memory."""
        return pa.Table.from_batches(self, self.schema)

    def to_parquet(self, path: str | os.PathLike[str]) -> int:
        """Write a Parquet file, which is there when it is whole; returns the number of rows.

        Raises
        ------
        BadInput
            When it cannot be written.
        """
        rows = 0
        schema = self.schema.with_metadata(
            {"embstore.users": self.users.ref, "embstore.items": self.items.ref}
        )
        with written(path) as (aside,), pq.ParquetWriter(aside, schema) as writer:
            for batch in self:
                writer.write_batch(batch)
                rows += len(batch)
        return rows

    def to_table(self, name: str) -> int:
        """Replace the rows of a table in the same database; returns their number.

        The table is made if it is not there, with the key (user_id, rank). All happens in one
        transaction: its readers see the old rows or the new ones, and its grants, views and
        further indexes stay.

        Parameters
        ----------
        name : str
            ``recs``, or with a schema ``public.recs``; embstore's own schemas are not for it.

        Raises
        ------
        InvalidName
        DatabaseFailed
        """
        schema, _, bare = name.rpartition(".")
        if not bare or "." in schema or schema in {"emb", "embstore"} or name.startswith("."):
            raise InvalidName(
                f"{name!r} is no table to write to: give a name, or schema.name of a schema of"
                " your own"
            )
        table = sql.Identifier(*filter(None, (schema, bare)))
        kinds = {"int64": "bigint", "string": "text", "double": "double precision"}
        columns = [Attribute(each.name, kinds[str(each.type)]) for each in self.schema]
        names = sql.SQL(", ").join(sql.Identifier(each.name) for each in columns)
        typed = sql.SQL(", ").join(
            sql.SQL("{} {} NOT NULL").format(sql.Identifier(each.name), sql.SQL(each.type))
            for each in columns
        )
        about = f"embstore recall of {self.items.ref} for {self.users.ref}, k = {self._job.k}"
        with (
            translated(f"writing table {name}"),
            self._store.writing() as connection,
            connection.transaction(),
        ):

            def run(statement: str) -> None:
                connection.execute(
                    sql.SQL(statement).format(table=table, typed=typed, about=sql.Literal(about))
                )

            run("CREATE TABLE IF NOT EXISTS {table} ({typed}, PRIMARY KEY (user_id, rank))")
            run("LOCK TABLE {table} IN EXCLUSIVE MODE")  # one writer; readers go on
            run("DELETE FROM {table}")
            run("COMMENT ON TABLE {table} IS {about}")
            cursor = connection.cursor()
            statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(table, names)
            with cursor.copy(statement) as copy:
                copy.write(HEADER)
                for batch in self:
                    copy.write(encode_columns(columns, batch.columns))
                copy.write(TRAILER)
        return cursor.rowcount

    def _answer(self, replica: Replica, ids: pa.Array, vectors: Vectors) -> pa.RecordBatch:
        """Return the rows of some users."""
        job = self._job
        found = best(
            replica, ids, vectors, job.k, self._seen, where=job.where, exact=not job.approximate
        )
        if found is None:
            return pa.RecordBatch.from_pylist([], self.schema)
        place, rank, item, score = found
        arrays = [
            ids.take(place),
            pa.array(rank, pa.int64()),
            pa.array(item, self.schema.field("item_id").type),
            pa.array(score),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def check_pair(users: Version, items: Version) -> None:
    """Refuse users and items whose vectors cannot be compared.

    Raises
    ------
    DimensionMismatch, InvalidQuery
    """
    if users.dim != items.dim:
        raise DimensionMismatch(
            f"{users.ref} has {users.dim} dimensions and {items.ref} {items.dim}: they must be"
            " of one training (with biases folded on one side, load the other with biases 1)"
        )
    if Precision.BIT in {users.precision, items.precision} and (
        users.precision is not items.precision
    ):
        raise InvalidQuery(f"of {users.ref} and {items.ref} only one holds bits")


def best(
    items: Reads,
    ids: pa.Array,
    vectors: Vectors,
    k: int,
    seen: Interactions | None,
    *,
    where: object = None,
    exact: bool = True,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any], NDArray[np.float64]] | None:
    """Return the k best items of some users, what they have seen left out.

    Parameters
    ----------
    ids, vectors : arrays (n,), (n, dim)
        Of the users. Who has no direction gets nothing under cosine.

    Returns
    -------
    place, rank, item, score : arrays (rows,)
        A row each: the user's place among ``ids``, and the rank from 1; in their order. None
        where there are none.
    """
    asked = np.arange(len(ids))
    if items._target().metric in {Metric.COSINE, Metric.JACCARD}:
        asked = np.flatnonzero(vectors.any(axis=1))
    lengths = seen.lengths(ids) if seen else np.zeros(len(ids), np.int64)
    # A search asks for as many as its most avid reader needs: so like goes with like.
    sizes = np.ceil(np.log2(lengths[asked] + 1)).astype(int)
    parts = []
    for size in np.unique(sizes).tolist():
        places = asked[sizes == size]
        without = seen.lists(ids.take(places)) if seen and size else None
        found = items.nearest(vectors[places], k, where=where, exclude=without, exact=exact)
        there = np.arange(found.ids.shape[1]) < found.counts[:, None]
        row, rank = np.nonzero(there)
        parts.append((places[row], rank + 1, found.ids[there], found.scores[there]))
    if not parts:
        return None
    place, rank, item, score = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((rank, place))
    return place[order], rank[order], item[order], score[order]


def _gathered(stream: Any, users: Version) -> Iterator[tuple[pa.Array, Vectors]]:
    """Put the blocks of a stream together to some thousands of users each."""
    ids: list[pa.Array] = []
    vectors: list[NDArray[Any]] = []
    for block in stream:
        values = block.vectors
        if users.precision is Precision.BIT:
            values = np.unpackbits(values, axis=1, count=users.dim)
        ids.append(block.ids)
        vectors.append(values.astype(np.float32, copy=False))
        if sum(map(len, ids)) >= BLOCK:
            yield pa.concat_arrays(ids), np.concatenate(vectors)
            ids, vectors = [], []
    if ids:
        yield pa.concat_arrays(ids), np.concatenate(vectors)
