"""A version: an immutable, numbered set of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .catalog import Append, VersionRow, appends, resolve
from .index import Wanted
from .index.manage import create, drop, missing
from .query.stream import batches, schema
from .query.target import Target
from .reads import Reads
from .release.aliases import Moved
from .release.pins import Pin
from .types import (
    Attribute,
    Bias,
    IdType,
    Index,
    Metric,
    Origin,
    Precision,
    Progress,
    Vectors,
    Zero,
)

if TYPE_CHECKING:
    from .append import Appended
    from .evaluate.result import Evaluation
    from .export import Exported
    from .replica import Replica
    from .store import Store


class Version(Reads):
    """One ready version, such as ``store["items@7"]``.

    What an id has never changes. New ids may join (``append``, ``coldstart``); an index may come
    or go, which speeds queries up and is no part of what the version holds.
    """

    def __init__(self, store: Store, row: VersionRow) -> None:
        self._store = store
        self._row = row
        self._read = Target.of_version(row)

    def __repr__(self) -> str:
        return f"<Version {self.ref}: {self.rows} x {self.dim} {self.precision}, {self.metric}>"

    def _target(self) -> Target:
        return self._read

    @property
    def ref(self) -> str:
        """Its reference, ``items@7``."""
        return self._row.ref

    @property
    def table(self) -> str:
        """Its table's name."""
        return self._row.table_name

    @property
    def number(self) -> int:
        """1, 2, ..."""
        return self._row.version

    @property
    def dim(self) -> int:
        """Components of each vector."""
        return self._row.dim

    @property
    def rows(self) -> int:
        """How many ids it has."""
        return self._row.rows or 0

    @property
    def bytes(self) -> int:
        """Its size on the server's disk, with its indexes."""
        return self._row.bytes or 0

    @property
    def id_type(self) -> IdType:
        """``bigint`` or ``text``."""
        return self._row.id_type

    @property
    def metric(self) -> Metric:
        """How its vectors are compared."""
        return self._row.metric

    @property
    def precision(self) -> Precision:
        """How its components are stored."""
        return self._row.precision

    @property
    def index(self) -> str:
        """The kind of the ANN index that queries use: ``hnsw``, ``ivfflat`` or ``none``."""
        return self._row.index_kind

    @property
    def indexes(self) -> tuple[Index, ...]:
        """Its ANN indexes; queries use the first."""
        return self._row.indexes

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Its columns beside the vector."""
        return self._row.attributes

    @property
    def space(self) -> str | None:
        """Which training its vectors are of: those of one space may be compared."""
        return self._row.space

    @property
    def appended(self) -> int:
        """How many of its rows joined after it became ready."""
        return self._row.appended

    @property
    def trainer(self) -> str | None:
        """What made the vectors."""
        return self._row.trainer

    @property
    def params(self) -> dict[str, Any]:
        """The trainer's parameters, as given to the load."""
        return dict(self._row.params)

    @property
    def metrics(self) -> dict[str, Any]:
        """The training's metrics, as given to the load; and ``index_recall``, as measured last."""
        return dict(self._row.metrics)

    def rotation(self) -> NDArray[np.float64] | None:
        """Return the matrix (dim, dim) that the version was aligned by; None if it was not.

        ``vectors @ rotation`` brings further vectors of the same training, such as those of a user
        who has just come, to where the version's are.
        """
        from .compare.alignment import stored

        with self._store.reading() as connection:
            found = stored(connection, self._row)
        return None if found is None else found.matrix

    @property
    def source(self) -> dict[str, Any]:
        """Where the vectors came from, and how fast."""
        return dict(self._row.source)

    @property
    def checksum(self) -> str:
        """A checksum of ids and vectors that does not depend on their order."""
        return self._row.checksum or ""

    @property
    def created_at(self) -> datetime:
        """When its load began."""
        return self._row.created_at

    @property
    def created_by(self) -> str:
        """The database user who loaded it."""
        return self._row.created_by

    def promote(
        self,
        *,
        alias: str = "live",
        gates: Sequence[str] = (),
        message: str | None = None,
        force: bool = False,
    ) -> Moved:
        """Make this version live (or move another alias to it), in one atomic step.

        Parameters and errors as of ``Store.release``.
        """
        moves = self._store.promote(
            self.ref, alias=alias, gates=gates, message=message, force=force
        )
        return moves[0]

    def pin(self, by: str, note: str | None = None) -> Pin:
        """Keep it from being dropped: see ``Store.pin``."""
        return self._store.pin(self.ref, by, note)

    def unpin(self, by: str) -> None:
        """Take a pin away: see ``Store.unpin``."""
        self._store.unpin(self.ref, by)

    def create_index(
        self,
        kind: str = "auto",
        *,
        precision: str | None = None,
        m: int | None = None,
        ef_construction: int | None = None,
        lists: int | None = None,
        replace: bool = True,
        progress: Callable[[Progress], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Index | None:
        """Build an ANN index, which queries use from then on; readers go on meanwhile.

        Whatever ends it before, queries use what they used, and nothing of it is left.

        Parameters
        ----------
        kind : {"auto", "hnsw", "ivfflat", "none"}
            ``auto`` chooses by rows and dim; it and ``none`` can leave the version without an
            index, for exact search.
        precision : {"float32", "float16", "bit"}
            What is indexed: the vectors, or a smaller form of them, of which pgvector takes more
            dims (2000, 4000, 64000). Such an index gives candidates, which a query ranks by the
            full vectors. By default the largest form that pgvector takes.
        m, ef_construction : int
            Of HNSW: links of a row (2 to 100, by default 16), and how many candidates they are
            picked from (at least twice m, by default 64). Higher finds more, and builds slower.
        lists : int
            Of IVFFlat: into how many the rows are parted; by default a thousandth of the rows.
        replace : bool
            Drop the index that queries used before; otherwise it stays beside the new one.
        progress : callable
            Called with a ``Progress`` from time to time.
        warn : callable
            Called with a sentence when something works but should be mended.

        Returns
        -------
        Index or None
            None where the version is left without one.

        Raises
        ------
        InvalidQuery
            Before any work: options that cannot go together, or vectors that cannot be indexed so.
        DatabaseFailed
            Also while another session changes the version's indexes.
        """
        given = {
            "kind": kind,
            "precision": precision,
            "m": m,
            "ef_construction": ef_construction,
            "lists": lists,
        }
        made = create(
            self._store.connect_for_load,
            self._store.engine,
            self.ref,
            Wanted.of(given),
            replace=replace,
            progress=progress,
            warn=warn or (lambda _: None),
        )
        self._refresh()
        return made

    def drop_index(self, name: str | None = None) -> Index:
        """Drop an index, by default the one that queries use; returns what it was.

        Raises
        ------
        NotFound
            When there is none, or none of that name.
        DatabaseFailed
            While a transaction that reads the version is open, naming it.
        """
        dropped = drop(self._store.connect_for_load, self._store.engine, self.ref, name)
        self._refresh()
        return dropped

    def evaluate(
        self,
        queries: object = None,
        k: int = 10,
        *,
        sample: int | None = 1000,
        seed: int = 0,
        search: Sequence[int] | None = None,
        write: bool = True,
        progress: Callable[[Progress], None] | None = None,
    ) -> Evaluation:
        """Measure recall@k: which share of the exact answer the index finds, and how fast.

        Parameters
        ----------
        queries : str, path or array of shape (q, dim)
            The query vectors: a reference (``"users"``, ``"users@3"``), a file or an array. For a
            recommender's items these are the users' vectors. By default the version's own vectors,
            each left out of its own answer: for want of better, and under inner product far from
            what is asked in earnest.
        k : int
            1 to 1000.
        sample : int or None
            The most queries to take, at random; None takes all, which are then held in memory.
        seed : int
            Of that sample: the same seed takes the same queries.
        search : sequence of int
            The values of ``ef_search`` (of an IVFFlat index: ``probes``) to measure; by default
            some from small to large, and the index's own. A value below k is k.
        write : bool
            Keep the figures as ``index_recall`` in the version's metrics.
        progress : callable
            Called with a ``Progress``, the phases ``exact`` and ``recall``.

        Returns
        -------
        Evaluation
            ``settings``, each with the mean, 5th percentile and minimum of the queries' recall and
            the median of one query's milliseconds; ``used`` is the one that queries use.

        Raises
        ------
        DimensionMismatch, InvalidQuery, NotFound, BadInput
        DatabaseFailed
            Also, before any work, when this user may not write and ``write`` asks for it.
        """
        from .evaluate.run import run

        found = run(
            self._store,
            self.ref,
            queries,
            k,
            sample=sample,
            seed=seed,
            search=search,
            write=write,
            progress=progress,
        )
        self._refresh()
        return found

    def tune(
        self,
        target_recall: float,
        queries: object = None,
        k: int = 10,
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> Evaluation:
        """Search the index as little as reaches a recall: the smallest ``ef_search`` (``probes``).

        Parameters
        ----------
        target_recall : float
            The mean recall@k, above 0 and at most 1.
        queries, k, progress
            As in ``evaluate``.

        Returns
        -------
        Evaluation
            Of the settings that were tried; queries that resolve the version anew use ``used``.

        Raises
        ------
        InvalidQuery
            Also when the index does not reach it; then nothing has changed.
        DimensionMismatch, NotFound, BadInput, DatabaseFailed
        """
        from .evaluate.run import tune

        found = tune(self._store, self.ref, target_recall, queries, k, progress=progress)
        self._refresh()
        return found

    def append(
        self,
        source: object,
        *,
        origin: str = "given",
        message: str | None = None,
        rotate: bool | None = None,
        ids: object = None,
        vectors: str | None = None,
        format: str | None = None,
        X: object = None,
        bias: str = "keep",
        biases: str | int | None = None,
        allow_pickle: bool = False,
        attributes: object = None,
        attributes_ids: str | None = None,
        zero: str = "reject",
        on_bad: str = "reject",
        rejects: str | PathLike[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Appended:
        """Let new ids join the version: all of the source's become visible at once, or none.

        Ids that are there keep what they have. The new rows are in its indexes as well, and have
        the attributes ``origin`` and ``appended_at``, which the version gets with its first append.

        Parameters
        ----------
        source : path, URL, array, frame, Arrow table or stream, mapping, trained model, ...
            As in ``Table.load``: vectors of the version's own training. Its further columns must
            be attributes of the version; those that it lacks are NULL.
        origin : {"given", "mean_of_neighbours", "side_information", "fold_in", "trained"}
            How the vectors were made.
        message : str
            Why; kept in ``embstore.appends``.
        rotate : bool
            Only of a version that was aligned to another: True takes the vectors through the same
            rotation, as those need that the trainer gave; False takes them as they are.
        ids, vectors, format, X, bias, biases, attributes, zero, progress, warn, ...
            As in ``Table.load``.
        on_bad : {"reject", "skip", "abort-after=N"}
            What a bad row does, or an id that is there already: ends the append, or is left out.
        rejects : path
            A CSV file to write those rows to: source, row, id, reason.

        Returns
        -------
        Appended

        Raises
        ------
        DuplicateId
            Naming the id that is there already, and its row.
        DimensionMismatch, BadInput, InvalidQuery, LoadFailed, NotFound
        """
        from .append import append
        from .load import Options
        from .table import choice

        options = Options(
            ids=ids,
            vectors=vectors,
            format=format,
            biases=None if biases is None else str(biases),
            fold=choice(Bias, bias, "bias") is Bias.FOLD,
            data=X,
            allow_pickle=allow_pickle,
            attributes=attributes,
            attributes_ids=attributes_ids,
            zero=choice(Zero, zero, "policy for zero vectors"),
            on_bad=on_bad,
            rejects=rejects,
            progress=progress,
            warn=warn or (lambda _: None),
        )
        done = append(
            self._store.connect_for_load,
            self._store.engine,
            self.ref,
            source,
            choice(Origin, origin, "origin"),
            message,
            rotate,
            options,
        )
        self._refresh()
        return done

    def coldstart(
        self,
        new: object,
        method: str | Callable[[pa.Table, Version], Any] = "mean_of_neighbours",
        *,
        ids: str | None = None,
        message: str | None = None,
        dry_run: bool = False,
        on_bad: str = "reject",
        rejects: str | PathLike[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
        warn: Callable[[str], None] | None = None,
        **how: Any,
    ) -> Appended:
        """Make vectors for new ids of what is known about them, and append them.

        Parameters
        ----------
        new : frame, Arrow table, path or Query
            n rows: an id, and what is known. Columns that are attributes of the version join with
            the ids, the others only serve the method. They are held in memory.
        method : str or callable
            ``mean_of_neighbours``, ``side_information``, ``transform`` or ``fold_in``, of
            ``embstore.coldstart``; or a function that takes the new rows, an Arrow table whose
            first column is ``id``, and the version, and returns vectors (n, dim). A row of NaN
            has none.
        ids : str
            The id column of ``new``; by default ``id``, else the first.
        message, rejects, progress, warn
            As in ``append``.
        dry_run : bool
            Make the vectors and say how many there would be, and append nothing.
        on_bad : {"reject", "skip", "abort-after=N"}
            As in ``append``, where an id that is there already is bad.
        **how
            The method's own options: ``match=["type"], near={"price": 10}, k=3`` and so on.

        Returns
        -------
        Appended
            ``without`` lists the new ids for which there is no vector; they do not join.

        Raises
        ------
        InvalidQuery, BadInput, DuplicateId, NotFound, DimensionMismatch, SpaceMismatch, LoadFailed
        """
        from .coldstart import coldstart
        from .load import Options

        options = Options(
            on_bad=on_bad, rejects=rejects, progress=progress, warn=warn or (lambda _: None)
        )
        done = coldstart(
            self,
            new,
            method,
            how,
            ids=ids,
            message=message,
            dry_run=dry_run,
            options=options,
        )
        self._refresh()
        return done

    def appends(self) -> list[Append]:
        """Return what has joined the version since it became ready, oldest first."""
        with self._store.reading() as connection:
            return appends(connection, self.table, self.number)

    def missing_indexes(self) -> list[str]:
        """Return the names of those ``indexes`` that Postgres has not, dropped by hand for one."""
        with self._store.reading() as connection:
            return missing(connection, self._row)

    def _refresh(self) -> None:
        with self._store.writing() as connection:
            self._row = resolve(connection, self.ref)
        self._read = Target.of_version(self._row)

    def replica(
        self,
        cache_dir: str | PathLike[str] | None = None,
        *,
        index: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Replica:
        """Return a local, memory-mapped copy: lookup, nearest and similar in process.

        It is written the first time, and opened when it is there. Several processes may call
        this at once: one writes, the others wait for it.

        Parameters
        ----------
        cache_dir : path
            The folder that holds replicas, one folder each; by default one in the user's cache.
        index : {"hnsw", "none"}
            What ``nearest`` uses; by default HNSW where faiss is installed.
        progress : callable
            Called with ``load.Progress``, the phases ``rows`` and ``index``.

        Raises
        ------
        ReplicaDamaged
            When the copy that is there is not whole, or the folder cannot be written.
        MissingPackage
            When ``hnsw`` is asked for and faiss is not there.
        """
        from .replica import replicate

        return replicate(self._store, self._row, cache_dir, index=index, progress=progress)

    def export(
        self,
        path: str | PathLike[str],
        format: str | None = None,
        *,
        attributes: Sequence[str] | None = None,
        overwrite: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Exported:
        """Write the version to a file that loads again to the same ids and bits.

        The rows are streamed, so the memory does not grow with them, and compared with
        ``checksum`` on the way. The file is there when it is whole; whatever ends the export
        before leaves what was there.

        Parameters
        ----------
        path : path
            ``items.parquet``. Where ids do not fit into the file, they go to another one beside
            it, such as ``items.ids.npy``.
        format : {"parquet", "arrow", "arrow-stream", "npy", "word2vec", "word2vec-binary", \
"safetensors", "projector"}
            By default what the path's ending says.
        attributes : sequence of str
            Which go along; by default all where the format can hold them.
        overwrite : bool
            Replace what is there, in one step.
        progress : callable
            Called with a ``Progress``, the phase ``rows``.

        Returns
        -------
        Exported
            What was written, and what ``load`` must be told of it.

        Raises
        ------
        AlreadyExists
            When a file is there and ``overwrite`` does not say so.
        BadInput
            Before anything is written, when the format cannot hold the version: naming the id or
            the column, and a format that can. Also when the file cannot be written.
        LoadFailed
            When the rows are not those that the checksum was made of.
        InvalidQuery, NotFound, DatabaseFailed
        """
        from .export import export

        return export(
            self._store,
            self.ref,
            path,
            format,
            attributes=attributes,
            overwrite=overwrite,
            progress=progress,
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the version as Arrow record batches: id, the attributes, embedding."""
        with self._store.reading() as connection:
            yield from batches(connection, self._row)

    def to_arrow(self) -> pa.Table:
        """Return the whole version as an Arrow table."""
        return pa.Table.from_batches(self.batches(), schema(self._row))

    def to_numpy(self) -> tuple[Any, Vectors]:
        """Return ids (n,) and vectors (n, dim), float32."""
        table = self.to_arrow()
        flat = table.column("embedding").combine_chunks().flatten()
        if isinstance(flat, pa.ChunkedArray):
            flat = flat.combine_chunks()
        vectors = flat.to_numpy(zero_copy_only=False).reshape(-1, self.dim).astype("float32")
        return table.column("id").to_numpy(), vectors

    def to_pandas(self) -> Any:
        """Return the whole version as a pandas frame; the embedding column holds arrays.

        Raises
        ------
        MissingPackage
            Without pandas.
        """
        from .optional import require

        require("pandas", "pandas")
        return self.to_arrow().to_pandas()
