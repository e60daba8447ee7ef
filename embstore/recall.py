"""Batch recall: for every user the k best items, what the user has seen left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from psycopg import sql

from .atomic import written
from .connection import translated
from .errors import BadInput, DimensionMismatch, InvalidName, InvalidQuery
from .load.encode import HEADER, TRAILER, encode_columns
from .query.shape import Cut
from .query.stream import blocks, id_kind
from .query.target import check_ids
from .readers import read_attributes
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
        if users.dim != items.dim:
            raise DimensionMismatch(
                f"{users.ref} has {users.dim} dimensions and {items.ref} {items.dim}: they must be"
                " of one training (with biases folded on one side, load the other with biases 1)"
            )
        if Precision.BIT in {users.precision, items.precision} and (
            users.precision is not items.precision
        ):
            raise InvalidQuery(f"of {users.ref} and {items.ref} only one holds bits")
        Cut(job.k)  # says if it cannot be asked for
        self.users, self.items = users, items
        self._store, self._job = store, job
        self._seen = None if job.exclude is None else _Seen(job.exclude, users, items)
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
        asked = np.arange(len(ids))
        if self.items.metric in {Metric.COSINE, Metric.JACCARD}:
            asked = np.flatnonzero(vectors.any(axis=1))
        lengths = self._seen.lengths(ids) if self._seen else np.zeros(len(ids), np.int64)
        # A search asks for as many as its most avid reader needs: so like goes with like.
        sizes = np.ceil(np.log2(lengths[asked] + 1)).astype(int)
        parts = []
        for size in np.unique(sizes).tolist():
            places = asked[sizes == size]
            found = replica.nearest(
                vectors[places],
                self._job.k,
                where=self._job.where,
                exclude=self._seen.lists(ids.take(places)) if self._seen and size else None,
                exact=not self._job.approximate,
            )
            there = np.arange(found.ids.shape[1]) < found.counts[:, None]
            row, rank = np.nonzero(there)
            parts.append((places[row], rank + 1, found.ids[there], found.scores[there]))
        if not parts:
            return pa.RecordBatch.from_pylist([], self.schema)
        place, rank, item, score = map(np.concatenate, zip(*parts, strict=True))
        order = np.lexsort((rank, place))
        arrays = [
            ids.take(place[order]),
            pa.array(rank[order], pa.int64()),
            pa.array(item[order], self.schema.field("item_id").type),
            pa.array(score[order]),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


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


class _Seen:
    """Pairs of user and item that are not to be recommended."""

    def __init__(self, source: object, users: Version, items: Version) -> None:
        table = read_attributes(source)
        names = table.schema.names
        if len(names) < 2:
            raise BadInput("exclude has one column: it needs user_id and item_id")
        # The first column is called id by now, whatever it was.
        user = "user_id" if "user_id" in names else names[0]
        item = "item_id" if "item_id" in names else names[user == names[0]]
        asked = []
        for name, version in ((user, users), (item, items)):
            try:
                asked.append(check_ids(table.column(name), version._target()))
            except InvalidQuery as error:
                raise BadInput(f"exclude: {error}", column=name) from error
        self._users = asked[0].unique()
        codes = pc.index_in(asked[0], value_set=self._users).to_numpy()
        order = np.argsort(codes, kind="stable")
        self._items = asked[1].take(order)
        self._starts = np.searchsorted(codes[order], np.arange(len(self._users) + 1))

    def _codes(self, ids: pa.Array) -> tuple[NDArray[Any], NDArray[Any]]:
        codes = pc.index_in(ids, value_set=self._users).fill_null(-1).to_numpy()
        starts = np.where(codes < 0, 0, self._starts[codes])
        return starts, np.where(codes < 0, 0, self._starts[codes + 1] - starts)

    def lengths(self, ids: pa.Array) -> NDArray[Any]:
        """How many pairs each user has."""
        return self._codes(ids)[1]

    def lists(self, ids: pa.Array) -> pa.Array:
        """Return the items of each user, as a list array."""
        starts, lengths = self._codes(ids)
        ends = np.cumsum(lengths)
        taken = np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return pa.ListArray.from_arrays(offsets, self._items.take(taken))
