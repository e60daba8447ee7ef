"""A store: one Postgres database that holds embstore's catalog and vectors."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import catalog, connection, retention, schema
from .connection import Address, Connection, Engine, snapshot
from .errors import InvalidQuery
from .io import Lender, complete
from .link import Link
from .load import leftovers
from .query import lookup
from .reads import Reads
from .recall import Job, Recommendations
from .refs import check_name
from .release import aliases, pins, releases
from .release.aliases import Moved
from .release.asof import AsOf, moment
from .release.drop import drop_table
from .release.join import features_as_of
from .release.pins import Pin
from .release.promote import promote as release_of
from .release.releases import Release
from .retention import Collected
from .server import EmbeddedServer, join
from .spaces import FORCED, check_together
from .table import Table, choice
from .types import FeatureMatrix, HistoricalFeatures, IdType, Metric, Precision, Progress
from .version import Version

if TYPE_CHECKING:
    from .compare.result import Comparison
    from .ranking.result import Ranking


def connect(url: str | None = None, *, read_url: str | None = None) -> Store:
    """Open a store.

    Parameters
    ----------
    url : str
        A libpq URL of any Postgres 15 or later with pgvector 0.8 or later. By default
        ``$EMBSTORE_URL``, else the embedded Postgres under ``$EMBSTORE_HOME``, which is started or
        joined, and brought to this embstore's schema.
    read_url : str
        Where to read: a standby of the same store.

    Raises
    ------
    ConnectionFailed, ServerFailed
        When there is no way in.
    SchemaMismatch
        When an external store is behind or ahead of this embstore, with the command to run.
    """
    given = url or os.environ.get("EMBSTORE_URL")
    server = None if given else join()
    address = connection.parse(server.url if server else str(given))
    try:
        with connection.connect(address) as first:
            engine = connection.probe(first, address)
            if server is not None and (engine.revision or "") < schema.HEAD:
                schema.upgrade(address)
                engine = connection.probe(first, address)
            schema.check(address, engine)
            if engine.loading and not engine.standby:
                leftovers.sweep(first)
        reads = Link(address, engine)
        if read_url is not None:
            read_address = connection.parse(read_url)
            with connection.connect(read_address) as first:
                read_engine = connection.probe(first, read_address)
            schema.check(read_address, read_engine)
            reads = Link(read_address, read_engine)
    except BaseException:
        if server is not None:
            server.release()
        raise
    return Store(Link(address, engine), reads, server)


class Store:
    """An open store. Make one with ``embstore.connect``; it may be shared by threads."""

    def __init__(self, writes: Link, reads: Link, server: EmbeddedServer | None) -> None:
        self._writes = writes
        self._reads = reads
        self._embedded = server is not None
        self._closer = weakref.finalize(self, _close, writes, reads, server)
        atexit.register(self._closer)

    def __repr__(self) -> str:
        return f"<Store {self._writes.address}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; an embedded server that nobody else uses then stops."""
        self._closer()

    @property
    def url(self) -> str:
        """The libpq URL, as psycopg, psql and SQLAlchemy take it; may hold a password."""
        return self._writes.address.url

    @property
    def embedded(self) -> bool:
        """Whether it is the embedded server's, so that ``connect()`` would open it again."""
        return self._embedded

    @property
    def engine(self) -> Engine:
        """What kind of Postgres this is."""
        return self._writes.engine

    @property
    def read_address(self) -> Address:
        """Where reads go."""
        return self._reads.address

    @property
    def read_engine(self) -> Engine:
        """Likewise, where reads go."""
        return self._reads.engine

    def connection(self) -> AbstractContextManager[Connection]:
        """Lend a psycopg connection: ``with store.connection() as connection: ...``."""
        return self._writes.lend()

    def writing(self) -> AbstractContextManager[Connection]:
        """Lend a connection to the primary."""
        return self._writes.lend()

    def reading(self) -> AbstractContextManager[Connection]:
        """Lend a connection to where reads go."""
        return self._reads.lend()

    @property
    def lender(self) -> Lender:
        """Where the connections of queries come from."""
        return self._reads

    def connect_for_load(self) -> Connection:
        """Open a connection of its own to the primary."""
        return self._writes.open()

    def create_table(
        self,
        name: str,
        *,
        metric: str = "cosine",
        id_type: str | None = None,
        precision: str | None = None,
    ) -> Table:
        """Create an empty table.

        Parameters
        ----------
        name : str
            A lower-case letter, then at most 47 lower-case letters, digits or underscores.
        metric : {"cosine", "ip", "l2", "hamming", "jaccard"}
            The last two compare bits, such as the leaves of trees.
        id_type : {"bigint", "text"}
            By default what the first load has.
        precision : {"float32", "float16", "bit"}
            By default what the first load asks for; ``bit`` goes with hamming and jaccard.

        Raises
        ------
        AlreadyExists, InvalidName, InvalidQuery
        """
        wanted = choice(Metric, metric, "metric") or Metric.COSINE
        stored = choice(Precision, precision, "precision")
        if stored is not None and wanted.of_bits != (stored is Precision.BIT):
            raise InvalidQuery(
                f"metric {wanted} does not compare {stored}: hamming and jaccard go with bit, the"
                " others with float32 and float16"
            )
        with self.writing() as lent:
            catalog.create_table(
                lent,
                name,
                wanted,
                choice(IdType, id_type, "id type"),
                Precision.BIT if wanted.of_bits else stored,
            )
        return self.table(name)

    def table(self, name: str) -> Table:
        """Return a table.

        Raises
        ------
        NotFound, InvalidName
        """
        with self.writing() as lent:
            return Table(self, catalog.table(lent, name))

    def tables(self) -> list[Table]:
        """Return all tables, by name."""
        with self.reading() as lent:
            return [Table(self, row) for row in catalog.tables(lent)]

    def __getitem__(self, ref: str) -> Version:
        """Return the version that a reference names: ``store["items@7"]``, ``store["items"]``."""
        with self.writing() as lent:
            return Version(self, catalog.resolve(lent, ref))

    def promote(
        self,
        *refs: str,
        alias: str = "live",
        gates: Sequence[str] = (),
        message: str | None = None,
        force: bool = False,
    ) -> list[Moved]:
        """Point the alias of each ref's table at that version, all in one transaction.

        Of ``live`` it is a release, and only there are gates: see ``release``.

        Raises
        ------
        NotFound, InvalidName, InvalidQuery, GateFailed, SpaceMismatch
        """
        if alias == "live":
            return list(self.release(refs, gates=gates, message=message, force=force).moves)
        if gates or force:
            raise InvalidQuery(f"gates are for what goes live: alias {alias} has none")
        with self.writing() as lent:
            return aliases.promote(lent, refs, alias=alias, message=message)

    def release(
        self,
        versions: Mapping[str, int] | Sequence[str],
        *,
        gates: Sequence[str] = (),
        message: str | None = None,
        force: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Release:
        """Make versions of several tables live in one transaction: all of them, or none.

        Parameters
        ----------
        versions : mapping of table name to number, or sequence of references
            ``{"users": 8, "items": 8}``, ``["users@8", "items@candidate"]``.
        gates : sequence of str
            What must hold of each version, beside the gates that are kept with its table:
            ``coverage>=0.99``, ``overlap@10>=0.5``, ``recall@10>=0.95``, ``norm_drift<=0.2``,
            ``rows>=9000``, ``sql(SELECT ...)``; ``items:rows>=9000`` is of one table.
        message : str
            Why; kept in the history.
        force : bool
            Do it though a gate fails or trainings are mixed; needs a message.
        progress : callable
            Called with a ``Progress`` of the gates, whose note names the one that is measured.

        Returns
        -------
        Release
            With the gates' results.

        Raises
        ------
        GateFailed
            With the ``results``; what is live is as it was.
        SpaceMismatch
            When the versions are of several trainings, or would part what is live together.
        DatabaseFailed
            Also when something else went live while the gates were measured.
        NotFound, InvalidName, InvalidQuery
        """
        refs = (
            [f"{table}@{number}" for table, number in versions.items()]
            if isinstance(versions, Mapping)
            else list(versions)
        )
        return release_of(self, refs, given=gates, message=message, force=force, progress=progress)

    def rollback(self, table: str, *, message: str | None = None) -> list[Moved]:
        """Undo the last release of a table that is not undone yet, of all of its tables.

        Raises
        ------
        NotFound
            When nothing is left to undo, a version before has been dropped, or one of the other
            tables was moved since.
        """
        check_name(table)
        with self.writing() as lent:
            return releases.rollback(lent, table, message=message)

    def releases(self, table: str | None = None, limit: int | None = None) -> list[Release]:
        """Return the releases, of one table or of all, the newest first."""
        with self.reading() as lent:
            return releases.releases(lent, table, limit)

    def readable(self, ref: str) -> Reads:
        """Return what a reference reads: a table for ``items``, a version for ``items@7``.

        Raises
        ------
        NotFound, InvalidName
        """
        name, at, selector = ref.partition("@")
        return self[ref] if at and selector != "live" else self.table(name)

    def features(self, ids: Mapping[str, object], missing: str = "raise") -> FeatureMatrix:
        """Return vectors of several tables side by side: the features of a downstream model.

        Parameters
        ----------
        ids : mapping of table or reference to a sequence of n ids
            Row i is made of the i-th id of each, the tables in the order given. What is live is
            read of all in one step: a promote that comes between is seen in all or in none.
        missing : {"raise", "zero", "mean", "nan", "skip"}
            What an id that is not there gets; ``skip`` leaves out the rows that lack any.

        Returns
        -------
        FeatureMatrix
            ``vectors`` (n, sum of dims) float32, ``found`` (n, tables), which ``columns`` are
            whose, and the ``versions`` that answered.

        Raises
        ------
        NotFound, InvalidQuery
        """
        targets = {ref: self.readable(ref)._target() for ref in ids}
        return complete(lookup.features(self._reads, targets, ids, missing))

    def as_of(self, t: datetime | str) -> AsOf:
        """Return the store as it was at a time: ``store.as_of("2026-11-01")["items"]``.

        Parameters
        ----------
        t : datetime, or str in ISO 8601
            Without a zone it is in UTC.

        Raises
        ------
        InvalidQuery
        """
        return AsOf(self, moment(t))

    def features_as_of(
        self,
        frame: Any,
        tables: Mapping[Any, str],
        time: Any,
        missing: str = "raise",
        *,
        replicas: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> HistoricalFeatures:
        """Return to each row the vectors that were live at its own time: the point-in-time join.

        A training set made so holds what a model would have been given at the time of each row,
        and nothing of what was trained later. Each version is read once, for the ids of its rows.

        Parameters
        ----------
        frame : frame (pandas, polars), Arrow table, or mapping of names to arrays
            The n rows.
        tables : mapping of column to table
            ``{"user_id": "users", "item_id": "items"}``; the vectors are put side by side in this
            order. Two columns may be of one table.
        time : str
            The column of times: timestamps, dates or texts in ISO 8601. Those without a zone are
            in UTC.
        missing : {"raise", "zero", "mean", "nan", "skip"}
            What a row gets whose id is null or was not in that version (nor appended to it yet),
            or whose time is before the first version went live or in that of a version dropped
            since; these two have no mean. ``skip`` leaves out the rows that lack any.
        replicas : bool
            Read local replicas of the versions instead of the wire; those that are not there yet
            are written. Worth it where training sets are made again and again.
        cache_dir : path
            Where replicas are kept; by default in the user's cache.

        Returns
        -------
        HistoricalFeatures
            ``vectors`` (n, sum of dims) float32, ``found`` (n, columns), which ``columns`` are
            whose, which of the ``versions`` was live for each row, and which ``rows`` they are.

        Raises
        ------
        NotFound
            Under ``raise``, saying which version, how many rows and of what times.
        DimensionMismatch
            When versions of one table in these times have different dims.
        InvalidQuery
        """
        return features_as_of(
            self, frame, tables, time, missing, replicas=replicas, cache_dir=cache_dir
        )

    def recall(
        self,
        users: str,
        items: str,
        k: int = 100,
        *,
        exclude: object = None,
        where: object = None,
        approximate: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
        force: bool = False,
        warn: Callable[[str], None] = lambda _: None,
    ) -> Recommendations:
        """Find for every user the k best items: the nightly job of a recommender.

        Both sides are read as they are at one moment. The items are compared in process, by a
        replica: all of them, in blocks, unless ``approximate``. Users come in the order in which
        they were loaded, and are streamed: the memory does not grow with them.

        Parameters
        ----------
        users, items : str
            Tables or references; vectors of one dim. Items are compared by their table's metric.
            A user without direction (a zero vector under cosine) gets no items.
        k : int
            Items for each user; fewer only where fewer are left.
        exclude : path, frame, Arrow table, Query, ...
            Pairs to leave out, such as items already seen: the columns ``user_id`` and
            ``item_id``, else the first two. They are held in memory, 8 bytes a pair.
        where : mapping
            Which items may be recommended, as in ``nearest``.
        approximate : bool
            Use the replica's HNSW index: faster with millions of items, and not all that is best.
        cache_dir : path
            Where the replica is kept; by default in the user's cache.
        progress : callable
            Called with the users done and their number.
        force : bool
            Do it though the two are of different trainings.
        warn : callable
            Called with a sentence when nothing says that they are of one.

        Returns
        -------
        Recommendations
            Iterate over record batches, or ``to_arrow``, ``to_parquet``, ``to_table``.

        Raises
        ------
        SpaceMismatch
            When users and items are known to be of different trainings, or were not released
            together as other versions of theirs were.
        DimensionMismatch, InvalidQuery, NotFound, BadInput
        """
        how = Job(k, exclude, where, approximate, cache_dir, progress)
        asking, answers = self.at_once(users, items)
        if not force:
            with self.reading() as lent:
                doubt = check_together(lent, asking._row, answers._row, FORCED)
            if doubt is not None:
                warn(doubt)
        return Recommendations(self, asking, answers, how)

    def evaluate(
        self,
        refs: str | Sequence[str],
        interactions: object,
        *,
        users: str | Sequence[str] | None = None,
        history: object = None,
        k: int | Sequence[int] = 10,
        exact: bool = True,
        sample: int | None = None,
        resamples: int = 1000,
        seed: int = 0,
        write: bool = True,
        cache_dir: str | os.PathLike[str] | None = None,
        force: bool = False,
        progress: Callable[[Progress], None] | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> Ranking:
        """Measure how well versions recommend, against interactions that were held out.

        Every user of ``interactions`` is asked the k best items of each version, what is in
        ``history`` left out. Pairs that are in both are not looked for. A user without a vector,
        and an item without one, count as misses.

        Parameters
        ----------
        refs : str or sequence of str
            Versions of items: tables or references.
        interactions : path, frame, Arrow table, Query, ...
            Pairs that were held out from the training: the columns ``user_id`` and ``item_id``,
            else the first two; a row is a hit to be found, whatever else it says.
        users : str or sequence of str, optional
            The users' vectors: a reference for each version of items, or one for all. Of a table,
            the version that says the same ``space`` as the items, else what is live. By default a
            user is the mean of the vectors (under cosine, of the directions) of the items in
            their history.
        history : path, frame, Arrow table, Query, ..., optional
            Pairs that were known. It is what novelty and the popularity are counted from.
        k : int or sequence of int
        exact : bool
            Compare every item, in process by a replica. False asks the version's own index, as
            its users do.
        sample : int or None
            The most users to ask, at random.
        resamples : int
            How many draws of the users the intervals of 95 % rest on (the bootstrap's percentiles);
            0 for no intervals.
        seed : int
            Of the sample and the draws.
        write : bool
            Keep the figures as ``ranking`` in the metrics of each version.
        cache_dir : path
            Where replicas are kept; by default in the user's cache.
        force : bool
            Do it though users and items are of different trainings.
        progress : callable
            Called with a ``Progress`` of phase ``users``: those asked, of all versions.
        warn : callable
            Called with a sentence when nothing says that users and items are of one training.

        Returns
        -------
        Ranking
            ``results``, one for each version, with ``measures`` such as ``hit_rate@10``,
            ``recall@10``, ``ndcg@10``, ``mrr@10``, ``coverage@10``, ``novelty@10``: the value, its
            interval, and the difference to the first version with the interval of that;
            ``popularity`` is the same of the items that most have taken to.

        Raises
        ------
        SpaceMismatch, DimensionMismatch, InvalidQuery, NotFound, BadInput
        DatabaseFailed
            Also, before any work, when this user may not write and ``write`` asks for it.
        """
        from .ranking.run import Request, evaluate

        request = Request(
            interactions,
            history,
            users,
            k,
            exact,
            sample,
            resamples,
            seed,
            write,
            cache_dir,
            force,
            progress,
            warn,
        )
        return evaluate(self, [refs] if isinstance(refs, str) else refs, request)

    def at_once(self, *refs: str) -> list[Version]:
        """Return the versions that references name at one moment, whatever is promoted then.

        Raises
        ------
        NotFound, InvalidName
        """
        with self.reading() as lent, snapshot(lent):
            return [Version(self, catalog.resolve(lent, ref)) for ref in refs]

    def compare(
        self,
        old: str,
        new: str,
        k: int = 10,
        *,
        sample: int | None = 1000,
        seed: int = 0,
        top: int = 20,
        show: Sequence[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Comparison:
        """Tell how two versions differ: their ids, norms and neighbours, and what moved.

        All ids that both have pass twice, as a stream: the memory does not grow with them, but for
        four bytes an id.

        Parameters
        ----------
        old, new : str
            References, of one table or of two whose ids mean the same.
        k : int
            Of how many neighbours the overlap is, 1 to 1000. They are exact, and taken from the
            common ids alone.
        sample : int or None
            For how many common ids, drawn at random; None takes all, which takes the square of
            their number.
        seed : int
            Of that sample: the same seed takes the same ids.
        top : int
            How many of the ids that moved most to return.
        show : sequence of str
            Which attributes of the new version to return with them; by default all.
        progress : callable
            Called with a ``Progress``, the phases ``neighbours`` and ``drift``.

        Returns
        -------
        Comparison
            ``coverage``, ``ids``, ``norms``; ``overlap`` with its standard error; ``aligned`` and
            ``drift`` after the rotation that maps new onto old best, where dims allow for one; the
            ids that ``moved`` most. ``as_json()`` and ``to_html(path)``.

        Raises
        ------
        NotFound, InvalidQuery
        """
        from .compare.run import compare

        first, second = self.at_once(old, new)
        return compare(
            self,
            first._row,
            second._row,
            k,
            sample=sample,
            seed=seed,
            top=top,
            show=show,
            progress=progress,
        )

    def align(
        self,
        refs: str | Sequence[str],
        to: str,
        *,
        index: str | Mapping[str, Any] = "auto",
        progress: Callable[[Progress], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> list[Version]:
        """Rotate versions of one training onto the axes of an older one, as new versions.

        The rotation is the orthogonal matrix that maps the ids which ``to`` and the ref of its
        table have in common best (Procrustes); all refs get the same. So cosines and inner products
        inside the training stay as they were, and a model that was trained on the old vectors goes
        on working. Attributes, trainer, params and metrics are carried along.

        Parameters
        ----------
        refs : str or sequence of str
            ``"items@8"``, or all tables of the training: ``["items@8", "users@8"]``. One must be of
            the same table as ``to``; its vectors must have as many ids in common with those as they
            have dims, or more.
        to : str
            ``"items@7"``.
        index : str or mapping
            As in ``Table.load``.
        progress : callable
            Called with a ``Progress``, the phase ``align`` and those of the loads.
        warn : callable
            Called with a sentence when something works but should be mended.

        Returns
        -------
        list of Version
            The new versions, in the order of the refs: ``source["aligned"]`` says from which they
            were made and what the rotation leaves, ``space`` that they belong together.

        Raises
        ------
        NotFound, InvalidQuery, SpaceMismatch, LoadFailed
            What was loaded before a failure stays, and is not live.
        """
        from .compare.align import align

        names = [refs] if isinstance(refs, str) else list(refs)
        *asked, old = self.at_once(*names, to)
        done = align(
            self,
            [each._row for each in asked],
            old._row,
            index=index,
            progress=progress,
            warn=warn,
        )
        return [Version(self, row) for row in done]

    def pin(self, ref: str, by: str, note: str | None = None) -> Pin:
        """Keep a version from being dropped, for whoever needs it.

        Parameters
        ----------
        ref : str
            Such as ``items@7``; of an alias, the version that it names now.
        by : str
            Who needs it, ``ctr-model-41`` for one. Each has a pin of its own.
        note : str
            Why.

        Raises
        ------
        NotFound, InvalidName, InvalidQuery
        """
        with self.writing() as lent:
            return pins.pin(lent, ref, by, note)

    def unpin(self, ref: str, by: str) -> None:
        """Take a pin away.

        Raises
        ------
        NotFound
            Also when there is no such pin.
        """
        with self.writing() as lent:
            pins.unpin(lent, ref, by)

    def pins(self, table: str | None = None) -> list[Pin]:
        """Return the pins, of one table or of all.

        Raises
        ------
        NotFound
        """
        with self.reading() as lent:
            if table is not None:
                catalog.table(lent, table)
            return pins.pins(lent, table)

    def gc(
        self,
        keep: int = 3,
        *,
        older_than: timedelta | str | None = None,
        tables: Sequence[str] | None = None,
        dry_run: bool = False,
    ) -> Collected:
        """Drop the versions that nothing needs any more; see the documentation's page on history.

        Never one that an alias names, that is pinned, that is of the last releases or among the
        newest of its table, or that a transaction reads or may still read.

        Parameters
        ----------
        keep : int
            How many releases of each table stay whole, of all of their tables, so that
            ``rollback`` goes back ``keep - 1`` times; and how many of the newest versions stay.
        older_than : timedelta, or str such as ``"30d"``, ``"12h"``, ``"2w"``
            And only those that have been ready for so long, and not been live for so long.
        tables : sequence of str
            By default all.
        dry_run : bool
            Only say what would be dropped.

        Returns
        -------
        Collected
            What became of each version and why, and the bytes that are ``freed``.

        Raises
        ------
        NotFound, InvalidQuery, DatabaseFailed
        """
        with self.writing() as lent:
            return retention.gc(lent, self.engine, keep, older_than, tables, dry_run)

    def drop_table(self, name: str, *, force: bool = False) -> None:
        """Drop a table with all of its versions.

        Parameters
        ----------
        force : bool
            Though somebody has pinned a version of it.

        Raises
        ------
        NotFound, InvalidQuery, InUse
        """
        with self.writing() as lent:
            drop_table(lent, self.engine, name, force=force)

    def sweep(self) -> list[str]:
        """Remove what killed loads left; returns their refs. Every connect does it."""
        with self.writing() as lent:
            return leftovers.sweep(lent)


def _close(writes: Link, reads: Link, server: EmbeddedServer | None) -> None:
    writes.close()
    reads.close()
    if server is not None:
        server.release()
