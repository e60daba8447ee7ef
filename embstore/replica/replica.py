"""A replica: one version in a local folder, mapped; it answers what the version answers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..catalog import VersionRow
from ..errors import EmbstoreError, InvalidQuery, MissingPackage
from ..io import Io, complete
from ..query.ask import Ask, How
from ..query.check import check_queries, ordinary
from ..query.lookup import MISSING, as_list
from ..query.shape import Found, cut, neighbors
from ..query.stream import Block
from ..query.target import Target, check_columns, check_ids, check_lists
from ..query.where import Condition, conditions
from ..reads import Reads
from ..types import Features, IdType, Metric, Neighbors, Precision, Vectors
from . import approximate, flat
from .attributes import Attributes
from .folder import located
from .ids import FILE as ROWS
from .ids import Ids
from .manifest import Manifest, damaged
from .write import ATTRIBUTES, IDS, NORMS, VECTORS, mapped, opened_rows

Numbers = NDArray[np.int64]
# A filter that lets m of n rows through is answered by comparing these m where m * m is below
# this times n: measured, a row compared costs 25 ns and a graph search 80 us * n / m.
_FEW = 3000


def open_replica(path: str | PathLike[str]) -> Replica:
    """Open a replica without a server.

    Parameters
    ----------
    path : path
        A replica's folder, or a cache folder that holds only one.

    Raises
    ------
    NotFound
        When there is none.
    ReplicaDamaged
        When a file is missing or has another size than when it was written.
    """
    folder = located(Path(path))
    return Replica(folder, Manifest.read(folder))


class Replica(Reads):
    """One version, mapped from a folder; processes that open it share its pages.

    Threads may share it, and a child process may go on with its parent's.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder, self._manifest = folder, manifest
        self._row = manifest.version
        self._read = Target.of_version(self._row)
        self._open()
        self._scan: flat.Scan = flat.BlasScan(self._rows)
        self._graph: approximate.Graph | None = None
        self._why = str(manifest.index.get("why", ""))
        if manifest.index["kind"] == "hnsw":
            try:
                path = folder / approximate.FILE
                self._graph = approximate.Graph(path, len(self._rows), self.dim)
            except MissingPackage as error:
                self._why = str(error)
        self._mean: Vectors | None = None

    def _open(self) -> None:
        version, manifest, at = self._row, self._manifest, self._folder / VECTORS
        try:
            self._rows = opened_rows(self._folder, manifest)
            bits = version.precision is Precision.BIT
            width = version.precision.nbytes(version.dim) if bits else version.dim
            kind = "uint8" if bits else str(version.precision)
            if (
                self._rows.vectors.shape != (version.rows, width)
                or self._rows.vectors.dtype != kind
            ):
                raise damaged(at, f"it holds {self._rows.vectors.shape} {self._rows.vectors.dtype}")
            at = self._folder / NORMS
            if self._rows.norms.shape != (version.rows,):
                raise damaged(at, f"it holds {self._rows.norms.shape}")
            at = self._folder / IDS[version.id_type]
            if version.id_type is IdType.BIGINT:
                ids = pa.array(mapped(at))
            else:
                ids = _arrow(at).column(0).combine_chunks()
                ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
            if len(ids) != version.rows:
                raise damaged(at, f"it holds {len(ids)} ids")
            at = self._folder / ROWS
            self._ids = Ids(ids, manifest.ids, mapped(at) if ROWS in manifest.files else None)
            at = self._folder / ATTRIBUTES
            table = _arrow(at) if version.attributes else pa.table({})
            names = [each.name for each in version.attributes]
            if table.column_names != names or (names and len(table) != version.rows):
                raise damaged(at, f"it holds {len(table)} rows of {table.column_names}")
            self._attributes = Attributes(
                pa.table([ids, *table.columns], ["id", *names]), version.attributes
            )
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            if isinstance(error, EmbstoreError):
                raise
            raise damaged(at, str(error)) from error

    def __repr__(self) -> str:
        return (
            f"<Replica {self.ref}: {self.rows} x {self.dim} {self._row.precision}, {self.metric},"
            f" in {self.path}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return open_replica, (self.path,)

    def _target(self) -> Target:
        return self._read

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder

    @property
    def version(self) -> VersionRow:
        """The version as the catalog had it: trainer, params, metrics, created_at, ..."""
        return self._row

    @property
    def ref(self) -> str:
        """``items@7``."""
        return self._row.ref

    @property
    def rows(self) -> int:
        """How many ids it has."""
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Components of each vector."""
        return self._row.dim

    @property
    def metric(self) -> Metric:
        """How its vectors are compared."""
        return self._row.metric

    @property
    def id_type(self) -> IdType:
        """``bigint`` or ``text``."""
        return self._row.id_type

    @property
    def bytes(self) -> int:
        """Its size on disk."""
        return self._manifest.bytes

    @property
    def index(self) -> str:
        """What ``nearest`` uses: ``hnsw``, or ``none`` when it compares every row."""
        return "hnsw" if self._graph else "none"

    @property
    def why(self) -> str:
        """Why there is no index; empty when there is one."""
        return self._why

    def block(self, at: int, count: int) -> Block:
        """Return some of its rows as they are stored, in their order."""
        ids = self._ids.values.slice(at, count)
        columns = [
            pa.concat_arrays(column.slice(at, count).chunks)
            for column in map(self._attributes.column, [a.name for a in self._row.attributes])
        ]
        texts = self.id_type is IdType.TEXT
        return Block(
            ids.cast(pa.string()) if texts else ids, columns, self._rows.vectors[at : at + count]
        )

    def verify(self) -> None:
        """Read every file and compare its checksum with the manifest's.

        Raises
        ------
        ReplicaDamaged
            Naming the file that differs.
        """
        self._manifest.verify(self._folder)

    def to(self, device: str) -> Replica:
        """Return this replica with its searches on a device of torch; they are exact.

        The answers are the processor's: what the device finds is compared again in float64.

        Parameters
        ----------
        device : str
            ``"cuda"``, ``"cuda:1"``, ``"mps"``, ``"cpu"``.

        Raises
        ------
        InvalidQuery
            When torch has no such device.
        MissingPackage
            Without torch.
        """
        from .device import TorchScan

        moved = copy.copy(self)
        moved._scan = TorchScan(self._rows, device)
        moved._graph, moved._why = None, f"every row is compared on {device}"
        return moved

    def nearest(
        self,
        queries: object,
        k: int = 10,
        *,
        where: object = None,
        unsafe_where: object = None,
        max_distance: float | None = None,
        per_group: str | None = None,
        group_limit: int = 1,
        offset: int = 0,
        exclude: object = None,
        exact: bool = False,
        search: Mapping[str, int] | None = None,
        show: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Neighbors:
        """Return the k nearest ids to each query vector, as ``Version.nearest`` does.

        ``where`` is a mapping; the replica has no SQL. Distances are computed in float64.
        """
        if (
            where is None
            and unsafe_where is None
            and max_distance is None
            and per_group is None
            and exclude is None
            and progress is None
            and not (exact or offset or show or search or group_limit != 1)
            and (found := self._at_once(queries, k)) is not None
        ):
            return found
        ask = Ask.of(
            k,
            where=where,
            unsafe_where=unsafe_where,
            max_distance=max_distance,
            per_group=per_group,
            group_limit=group_limit,
            offset=offset,
            exclude=exclude,
            exact=exact,
            search=search,
            show=show,
            progress=progress,
        )
        return self._search(check_queries(queries, self._read), ask)

    def _at_once(self, queries: object, k: object) -> Neighbors | None:
        """Answer one ordinary query in few steps, as almost all can be; None when it takes more."""
        if self._graph is None or self._manifest.zeros or type(k) is not int:
            return None
        query = ordinary(queries, self._read)
        if query is None or not 1 <= k <= min(approximate.SEARCH_BREADTH // 2, self.rows):
            return None
        prepared = self._rows.prepare(query[None])
        near = self._graph.search(prepared, min(self.rows, k + k // 4 + 2), 0)[0]
        if near[-1] < 0:
            return None
        distances = self._rows.near(prepared[0], near)
        order = distances.argsort()
        distances = distances[order]
        if (distances[1:] == distances[:-1]).any():
            return None  # a tie
        distances = distances[None, :k]
        return Neighbors(
            self._ids.at(near[order][None, :k]),
            self.metric.score(distances),
            distances,
            {},
            self._row.version,
            np.array((k,)),
            k,
        )

    def similar(self, ids: object, k: int = 10, **how: Unpack[How]) -> Neighbors:
        """Return the k nearest neighbours of each stored id, the id itself left out."""
        ask = Ask.of(k, **how)
        asked = check_ids(ids, self._read)
        own = self._ids.rows(asked)
        if (own < 0).any():
            raise self._read.absent(asked.filter(pa.array(own < 0)).to_pylist())
        if self.metric is Metric.COSINE and (zero := self._rows.norms[own] == 0).any():
            raise InvalidQuery(
                f"id {asked[int(zero.argmax())].as_py()!r} of {self.ref} is a zero vector: it has"
                " no direction to compare by cosine"
            )
        return self._search(self._rows.floats(own), ask, own)

    def lookup(self, ids: object, missing: str = "raise", *, show: Sequence[str] = ()) -> Features:
        """Return the vectors of ids, in the order of the ids, as ``Version.lookup`` does."""
        if missing not in MISSING:
            raise InvalidQuery(f"missing={missing!r} is no policy: use {', '.join(MISSING)}")
        asked = check_ids(ids, self._read)
        show = self._checked(show)
        rows = self._ids.rows(asked)
        found = rows >= 0
        every = bool(found.all())
        if not every:
            if missing == "raise":
                raise self._read.absent(asked.filter(pa.array(~found)).to_pylist())
            if missing == "skip":
                asked, rows = asked.filter(pa.array(found)), rows[found]
                found, every = np.ones(len(rows), np.bool_), True
        if len(self._rows):
            vectors = self._rows.floats(rows)
        else:
            vectors = np.zeros((len(rows), self.dim), np.float32)
        if not every:
            vectors[~found] = self._filler(missing)
        keys = list(ids) if type(ids) is list and len(ids) == len(asked) else as_list(asked)
        attributes = {name: self._attributes.at(name, rows) for name in show}
        return Features(keys, vectors, found, attributes, self._row.version)

    def _filler(self, missing: str) -> Vectors | float:
        if missing != "mean":
            return 0.0 if missing == "zero" else np.nan
        if self._row.precision is Precision.BIT:
            raise InvalidQuery(
                f"{self.ref} holds bits, which have no mean among them: use missing='zero', 'nan',"
                " 'skip' or 'raise'"
            )
        if self._mean is None:
            mean = self._rows.vectors.mean(axis=0, dtype=np.float64)
            self._mean = mean.astype(self._rows.vectors.dtype).astype(np.float32)
        return self._mean

    def _checked(self, show: Sequence[str]) -> tuple[str, ...]:
        # Of a version it asks no server.
        return complete(check_columns(cast(Io, None), self._read, show)) if show else ()

    def _search(self, vectors: Vectors, ask: Ask, own: Numbers | None = None) -> Neighbors:
        show = self._checked(ask.show)
        grouped = () if ask.cut.group is None else self._checked((ask.cut.group,))
        queries = self._rows.prepare(vectors)
        if self._row.precision is Precision.FLOAT16 and not np.isfinite(queries).all():
            raise InvalidQuery(f"a query holds a number beyond float16, which {self.ref} holds")
        among = self._among(ask)
        total = self.rows if among is None else int(among.sum())
        without = None
        if ask.exclude is not None:
            without = check_lists(ask.exclude, len(vectors), self._read)
        wanted = ask.cut.wanted + (own is not None) + (without.most if without else 0)
        if grouped:
            wanted *= 4
        while True:
            near, distances = self._near(queries, min(wanted, total), ask, among, total)
            if ask.progress:
                ask.progress(len(queries), len(queries))
            if ask.cut.plain and own is None and without is None:
                return self._plain(near, distances, ask, show)
            found = self._found(near, distances, own, (*show, *grouped))
            if without is not None:
                found = found.take(without.keeps(found))
            found = cut(found, ask.cut)
            short = found.counts(len(vectors)) < ask.cut.k
            if ask.cut.max_distance is not None and distances.size:
                short &= distances[:, -1] <= ask.cut.max_distance  # what follows is farther
            if not (grouped and short.any() and wanted < total):
                break
            wanted *= 4
        return neighbors(
            found, len(vectors), ask.cut, self.metric, self.id_type, self._row.version, show
        )

    def _plain(
        self, near: Numbers, distances: NDArray[np.float64], ask: Ask, show: Sequence[str]
    ) -> Neighbors:
        return Neighbors(
            self._ids.at(near),
            self.metric.score(distances),
            distances,
            {name: self._attributes.at(name, near) for name in show},
            self._row.version,
            np.full(len(near), near.shape[1]),
            ask.cut.k,
        )

    def _found(
        self,
        near: Numbers,
        distances: NDArray[np.float64],
        own: Numbers | None,
        names: Sequence[str],
    ) -> Found:
        kept = np.ones(near.shape, np.bool_) if own is None else near != own[:, None]
        places, flat_ = np.nonzero(kept)[0], near[kept]
        columns = {name: self._attributes.at(name, flat_) for name in names}
        return Found(places, self._ids.at(flat_), distances[kept], columns)

    def _among(self, ask: Ask) -> NDArray[np.bool_] | None:
        """Return which rows may be answers; None for all."""
        if ask.unsafe_where is not None or not (ask.where is None or _data(ask.where)):
            raise InvalidQuery(
                "a replica has no SQL: give where as a mapping such as"
                ' {"year": {">=": 2000}}, or ask the server'
            )
        among = None
        if ask.where is not None:
            checked = (
                ask.where
                if isinstance(ask.where, tuple)
                else conditions(ask.where, self._read.columns, self.ref)
            )
            among = self._attributes.mask(checked)
        if self._manifest.zeros:
            directed = self._rows.norms > 0
            among = directed if among is None else among & directed
        return among

    def _near(
        self,
        queries: NDArray[Any],
        wanted: int,
        ask: Ask,
        among: NDArray[np.bool_] | None,
        total: int,
    ) -> tuple[Numbers, NDArray[np.float64]]:
        """Return the rows (q, wanted) that are nearest, best first, and their distances."""
        breadth = self._breadth(wanted, ask, total)
        if self._graph is None or breadth is None:
            chosen = None if among is None else np.flatnonzero(among)
            return flat.search(self._rows, self._scan, queries, wanted, chosen, self._ids.at)
        # A few more than asked for: codes of half precision may swap the last.
        near = self._graph.search(queries, min(total, wanted + wanted // 4 + 2), breadth, among)
        distances = self._rows.distances(queries, near)
        near, distances = flat.ordered(near, distances, self._ids.at)
        near, distances = near[:, :wanted], distances[:, :wanted]
        if near.size and near.min() < 0:  # clusters of equal vectors, or a filter, hide rows
            short = np.flatnonzero((near < 0).any(axis=1))
            near, distances = near.copy(), distances.copy()
            near[short], distances[short] = self._near(
                queries[short], wanted, dataclasses.replace(ask, exact=True), among, total
            )
        return near, distances

    def _breadth(self, wanted: int, ask: Ask, total: int) -> int | None:
        """Return how many candidates the graph is searched with; None to compare every row."""
        breadth = approximate.SEARCH_BREADTH
        for name, value in ask.search.items():
            if name != "ef_search" or self._graph is None:
                takes = "ef_search" if self._graph else "no settings, having no index"
                raise InvalidQuery(
                    f"search={{{name!r}: ...}}: the replica of {self.ref} takes {takes}"
                )
            if not isinstance(value, int) or value < 1:
                raise InvalidQuery(
                    f"search={{{name!r}: {value!r}}}: a positive whole number is needed"
                )
            breadth = value
        few = total < self.rows and total * total < _FEW * self.rows
        if ask.exact or not wanted or few:
            return None
        breadth = max(breadth, 2 * wanted) * self.rows // total
        return breadth if breadth <= approximate.MAX_BREADTH else None


def _data(where: object) -> bool:
    if isinstance(where, tuple):
        return all(isinstance(each, Condition) for each in where)
    return isinstance(where, Mapping) or not type(where).__module__.startswith("sqlalchemy.")


def _arrow(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
