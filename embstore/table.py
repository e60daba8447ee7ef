"""A table: the versions of one set of embeddings, and what is live of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import catalog, load
from .catalog import Move, TableRow
from .errors import GateFailed, InvalidQuery, SpaceMismatch
from .evaluate.target import goal_of
from .index import Wanted
from .query.target import Target
from .reads import Reads
from .release.aliases import Moved
from .release.drop import drop_version
from .release.gates import keep, stored
from .types import Bias, IdType, Metric, Precision, Zero
from .version import Version

if TYPE_CHECKING:
    from .store import Store


class Table(Reads):
    """An embedding table, such as ``store.table("items")``.

    Its own ``nearest``, ``similar`` and ``lookup`` read the live version: each call sees exactly
    one version, whatever is promoted meanwhile.
    """

    def __init__(self, store: Store, row: TableRow) -> None:
        self._store = store
        self._row = row
        self._read: Target | None = None

    def __repr__(self) -> str:
        return f"<Table {self.name}: {self.metric}>"

    def _target(self) -> Target:
        if self._read is None:
            if self._row.id_type is None or self._row.precision is None:
                with self._store.reading() as connection:
                    self._row = catalog.table(connection, self.name)
            self._read = Target.of_table(self._row)
        return self._read

    @property
    def name(self) -> str:
        """Its name."""
        return self._row.name

    @property
    def metric(self) -> Metric:
        """How its vectors are compared."""
        return self._row.metric

    @property
    def id_type(self) -> IdType:
        """``bigint`` or ``text``.

        Raises
        ------
        NotFound
            Before the first load.
        """
        return self._target().id_type

    @property
    def live(self) -> Version:
        """The version that is live now.

        Raises
        ------
        NotFound
            When none is.
        """
        return self._store[f"{self.name}@live"]

    def __getitem__(self, selector: int | str) -> Version:
        return self._store[f"{self.name}@{selector}"]

    def versions(self) -> list[Version]:
        """Return the ready versions, oldest first."""
        with self._store.reading() as connection:
            rows = catalog.ready_versions(connection, self.name)
        return [Version(self._store, row) for row in rows]

    def load(
        self,
        source: object,
        *,
        ids: object = None,
        vectors: str | None = None,
        format: str | None = None,
        X: object = None,
        bias: str = "keep",
        biases: str | int | None = None,
        allow_pickle: bool = False,
        attributes: object = None,
        attributes_ids: str | None = None,
        trainer: str | None = None,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        note: str | None = None,
        space: str | None = None,
        id_type: str | None = None,
        precision: str | None = None,
        zero: str = "reject",
        on_bad: str = "reject",
        rejects: str | os.PathLike[str] | None = None,
        index: str | Mapping[str, Any] = "auto",
        target_recall: float | None = None,
        queries: object = None,
        target_k: int = 10,
        align_to: str | None = None,
        connections: int | None = None,
        promote: bool | str = False,
        progress: Callable[[load.Progress], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Version:
        """Load vectors as the table's next version. All of it becomes visible at once, or nothing.

        Parameters
        ----------
        source : path, URL, array, frame, Arrow table or stream, mapping, trained model, ...
            What holds the vectors; also a folder, a glob, a list of these, an open binary file
            or a ``Query``. See the documentation's page on loading.
        ids : array, path, URL, str or mapping
            The ids, a file of them, the name of the column or array that holds them, a
            vocabulary (id to row number from 0), or ``"row-number"``. Of several files, ids that
            are given apart are for all rows, one after the other.
        vectors : str
            The column or array that holds the vectors; by default the only one that can.
        format : str
            What the file is, where its content does not tell.
        X : matrix, frame or path
            What a fitted transformer is to transform: ``load(pca, X=X, ids=ids)``; of trees
            the samples whose leaves are to be loaded.
        bias : {"keep", "fold"}
            ``fold`` appends each row's bias to its vector, so that an inner product includes it;
            they stay an attribute either way.
        biases : str or 1
            The column or array that holds them; 1 appends ones, for the other side of the
            product. By default what the model tells, else the only one called a bias.
        allow_pickle : bool
            Read pickles, which can run any code: only from whom you trust.
        attributes : frame, Arrow table or path
            More columns, joined on id; the source's own further columns are attributes anyway.
        attributes_ids : str
            Their id column; by default ``id``, else the only one that can be.
        trainer, params, metrics
            Provenance: what made the vectors, how, and how well. Kept as JSON, beside what the
            source tells by itself.
        note : str
            Whatever should be remembered; in ``source`` with the files' names, sizes and sha256,
            the command, user, host and git commit, and the load's duration.
        space : str
            Which training the vectors are of: versions of one space, of items and of users for
            one, may be compared with each other, and go live together. By default the ``run_id``
            among the trainer's parameters.
        id_type : {"bigint", "text"}
            Fixed for the table by its first load; by default what the source has.
        precision : {"float32", "float16"}
            Likewise; by default float32. A table that compares by hamming or jaccard holds bits.
        zero : {"reject", "keep"}
            Whether a zero vector is a bad row under cosine, or is stored: it is looked up like any
            other, and is nobody's neighbour.
        on_bad : {"reject", "skip", "abort-after=N"}
            What a bad row does: ends the load, or is left out; ``abort-after=N`` allows N of them.
            A damaged file always ends the load.
        rejects : path
            A CSV file to write the bad rows to: source, row, id, reason.
        index : {"auto", "hnsw", "ivfflat", "none"} or mapping
            The ANN index; ``auto`` chooses one by rows and dim, or none for few rows. A mapping has
            ``kind`` and options: ``{"kind": "hnsw", "precision": "float16", "m": 24,
            "ef_construction": 128}``, ``{"kind": "ivfflat", "lists": 200}``.
        target_recall : float
            The mean recall that the index is to reach, above 0 and at most 1. Before the version is
            visible its index is measured, and gets the smallest ``ef_search`` (``probes``) that
            does; an HNSW index that does not is built again with more links, if its options were
            not asked for, and dropped if only exact search reaches it. The figures go to the
            metrics, as those of ``Version.evaluate``.
        queries : str, path or array of shape (q, dim)
            What it is measured with, a reference (``"users"``), a file or an array, of which 1000
            are taken at random. By default the version's own vectors, far from the queries of a
            recommender.
        target_k : int
            How many neighbours are to be found.
        align_to : str
            Rotate the vectors onto those of another version, so that what was trained on these goes
            on working: ``"live"`` or a version of this table, onto whose common ids a rotation is
            fitted (orthogonal Procrustes), or a version of another table that was aligned itself
            (``"items@8"`` for the users of the same training), whose rotation is taken. Cosines
            and inner products inside a training stay as they were. ``source["aligned"]`` says how
            well it fits. Until that is known, the rows are held in a temporary file.
        connections : int
            Over how many connections the rows travel; by default one where the server can skip
            the WAL, up to four for a large load where it cannot.
        promote : bool or str
            Make the version live in the same step, or move the alias named to it. Where the table
            has gates, they are measured first; a version that may not go live is ready all the
            same.
        progress : callable
            Called with a ``Progress`` from time to time.
        warn : callable
            Called with a sentence when something works but should be mended.

        Returns
        -------
        Version

        Raises
        ------
        BadInput
            Naming the file, the row and the id at fault.
        GateFailed, SpaceMismatch
            When the version is ready, but may not go live.
        DuplicateId, InvalidQuery, LoadFailed, NotFound
        """
        wanted = Wanted.of(index)
        stored = choice(Precision, precision, "precision")
        kept = self._row.precision or stored or Precision.FLOAT32
        # Of what is not there yet: its ids and dim have no part in it.
        planned = Target(self.name, self.name, IdType.BIGINT, self.metric, kept)
        goal = goal_of(self._store, planned, target_recall, queries, target_k, wanted)
        alias = "live" if promote is True else promote or None
        gated = alias == "live" and bool(self.gates)
        options = load.Options(
            trainer=trainer,
            params=params or {},
            metrics=metrics or {},
            note=note,
            space=space,
            ids=ids,
            vectors=vectors,
            format=format,
            biases=None if biases is None else str(biases),
            fold=choice(Bias, bias, "bias") is Bias.FOLD,
            data=X,
            allow_pickle=allow_pickle,
            bits=self.metric.of_bits,
            attributes=attributes,
            attributes_ids=attributes_ids,
            id_type=choice(IdType, id_type, "id type"),
            precision=stored,
            zero=choice(Zero, zero, "policy for zero vectors"),
            on_bad=on_bad,
            rejects=rejects,
            index=wanted,
            goal=goal,
            align_to=align_to,
            connections=connections,
            alias=None if gated else alias,
            progress=progress,
            **({"warn": warn} if warn else {}),
        )
        row = load.load(
            self._store.connect_for_load, self._store.engine, self.name, source, options
        )
        version = Version(self._store, row)
        if gated:
            try:
                version.promote()
            except (GateFailed, SpaceMismatch) as error:
                raise load.not_live(row, error) from error
        return version

    def rollback(self, *, message: str | None = None) -> Moved:
        """Make live what was live before the last release; again, what was before that.

        The other tables of that release go back in the same step: see ``Store.rollback``.

        Returns
        -------
        Moved
            Of this table.

        Raises
        ------
        NotFound
            When there is nothing before, it was dropped, or another table of the release was moved
            since.
        """
        moves = self._store.rollback(self.name, message=message)
        return next(each for each in moves if each.table_name == self.name)

    @property
    def gates(self) -> list[str]:
        """What must hold of a version before it goes live; assign a list to change it.

        Raises
        ------
        InvalidQuery
            When one of them is no gate.
        """
        with self._store.writing() as connection:
            return stored(connection, [self.name]).get(self.name, [])

    @gates.setter
    def gates(self, gates: Sequence[str]) -> None:
        with self._store.writing() as connection:
            keep(connection, self.name, gates)

    def history(self) -> list[Move]:
        """Return every move of the table's aliases, oldest first."""
        with self._store.reading() as connection:
            return catalog.history(connection, self.name)

    def drop(self, version: int, *, force: bool = False) -> None:
        """Drop one version: its vectors go, its catalog row stays as ``retired``.

        Parameters
        ----------
        force : bool
            Though somebody has pinned it.

        Raises
        ------
        InvalidQuery
            While an alias names it, or somebody has pinned it.
        InUse
            While a transaction that may still read it is open.
        """
        with self._store.writing() as connection:
            drop_version(connection, self._store.engine, self.name, version, force=force)


def choice(kind: Any, value: str | None, what: str) -> Any:
    """Return ``value`` as a member of ``kind``; None stays None.

    Raises
    ------
    InvalidQuery
        Listing the members.
    """
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise InvalidQuery(f"{value!r} is no {what}: use {' or '.join(kind)}") from None
