"""A version: an immutable, numbered set of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from os import PathLike
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .catalog import VersionRow
from .query.stream import batches, schema
from .query.target import Target
from .reads import Reads
from .release.aliases import Moved, promote
from .types import Attribute, IdType, Metric, Precision, Vectors

if TYPE_CHECKING:
    from .load.options import Progress
    from .replica import Replica
    from .store import Store


class Version(Reads):
    """One ready version, such as ``store["items@7"]``; never changes once it is ready."""

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
        """Its size on the server's disk when it was loaded, with its index."""
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
        """Its ANN index: ``hnsw`` or ``none``."""
        return self._row.index_kind

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """Its columns beside the vector."""
        return self._row.attributes

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
        """The training's metrics, as given to the load."""
        return dict(self._row.metrics)

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

    def promote(self, *, alias: str = "live", message: str | None = None) -> Moved:
        """Make this version live (or move another alias to it), in one atomic step."""
        with self._store.writing() as connection:
            return promote(connection, [self.ref], alias=alias, message=message)[0]

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
