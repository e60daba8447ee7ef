"""What a query reads: one version's table, or the live view."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import IsolationLevel, sql
from psycopg.types.numeric import Int8

from .. import catalog, wire
from ..catalog import TableRow, VersionRow
from ..connection import Connection, translate
from ..errors import InvalidQuery, NotFound
from ..relations import SCHEMA, version_name
from ..types import IdType, Metric, Precision


@dataclass(frozen=True)
class Target:
    """A relation to read, and what must be known to read it.

    Attributes
    ----------
    ref : str
        How the user names it.
    name : str
        The relation's name in schema emb.
    version : int or None
        None for the live view, where it is read with the rows.
    dim, rows : int or None
        Likewise.
    """

    ref: str
    name: str
    id_type: IdType
    metric: Metric
    precision: Precision
    version: int | None = None
    dim: int | None = None
    rows: int | None = None
    # Composed once for each kind of call, and kept with what they read.
    statements: dict[Any, bytes] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_version(cls, row: VersionRow) -> Target:
        """Return one version."""
        return cls(
            row.ref,
            version_name(row.table_name, row.version),
            row.id_type,
            row.metric,
            row.precision,
            row.version,
            row.dim,
            row.rows,
        )

    @classmethod
    def of_table(cls, row: TableRow) -> Target:
        """Return what is live.

        Raises
        ------
        NotFound
            When nothing was ever loaded.
        """
        if row.id_type is None or row.precision is None:
            raise NotFound(f"{row.name} has no live version: load one and promote it")
        return cls(row.name, row.name, row.id_type, row.metric, row.precision)

    def statement(self, key: tuple[Any, ...], compose: Callable[[], bytes]) -> bytes:
        """Return the statement for one kind of call, composed the first time."""
        found = self.statements.get(key)
        if found is None:
            found = self.statements[key] = compose()
        return found

    def absent(self, ids: Sequence[Any]) -> NotFound:
        """Build the error for ids that are not there."""
        more = f" (nor {len(ids) - 1} more of the ids asked for)" if len(ids) > 1 else ""
        return NotFound(f"{self.ref} has no id {ids[0]!r}{more}")

    @property
    def relation(self) -> sql.Identifier:
        """The relation, in SQL."""
        return sql.Identifier(SCHEMA, self.name)

    @property
    def version_column(self) -> sql.Composable:
        """Which version a row is of, in SQL."""
        if self.version is None:
            return sql.Identifier("version")
        return sql.SQL("{}::integer").format(sql.Literal(self.version))

    def current(self, connection: Connection) -> VersionRow:
        """Return the catalog row of the version that is read."""
        return catalog.resolve(connection, self.ref)


def check_ids(ids: object, target: Target) -> pa.Array:
    """Return ids as an int64 or string array, by the target's id type.

    Raises
    ------
    InvalidQuery
        When they are of the other type, or null.
    """
    wanted = pa.int64() if target.id_type is IdType.BIGINT else pa.string()
    name = {"bigint": "integers", "text": "strings"}[target.id_type]
    try:
        given = ids if isinstance(ids, pa.Array) else pa.array(_listed(ids))
        if isinstance(given, pa.ChunkedArray):
            given = given.combine_chunks()
        if not len(given):
            return pa.array([], wanted)
        if pa.types.is_dictionary(given.type):
            given = given.dictionary_decode()
        same = pa.types.is_integer if wanted == pa.int64() else _is_text
        if not same(given.type) or given.null_count:
            raise InvalidQuery(
                f"{target.ref} has {target.id_type} ids: ask for {name} without null"
            )
        return given.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
        raise InvalidQuery(
            f"{target.ref} has {target.id_type} ids: these cannot be such ({error})"
        ) from error


def single_id(ids: object, target: Target) -> Any:
    """Return the parameter for a list of one ordinary id; None for all else."""
    if not (isinstance(ids, list | tuple) and len(ids) == 1):
        return None
    if target.id_type is IdType.BIGINT:
        return Int8(ids[0]) if type(ids[0]) is int and -(2**63) <= ids[0] < 2**63 else None
    return ids[0] if type(ids[0]) is str else None


def _listed(ids: object) -> Any:
    if isinstance(ids, np.ndarray):
        return ids.ravel()
    if hasattr(ids, "__arrow_array__") or hasattr(ids, "__arrow_c_array__"):
        return ids
    if isinstance(ids, str | bytes) or not hasattr(ids, "__iter__"):
        raise InvalidQuery(f"ids must be a list or an array, not {type(ids).__name__}")
    return list(ids)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def id_parameter(ids: pa.Array) -> Any:
    """Return ids as a bound array parameter."""
    if pa.types.is_integer(ids.type):
        return wire.bigint_array(np.asarray(ids))
    return ids.to_pylist()


def id_array(values: Sequence[Any], id_type: IdType) -> NDArray[Any]:
    """Return ids for a caller: int64, or object holding str."""
    return np.array(values, dtype=np.int64 if id_type is IdType.BIGINT else object)


def check_columns(connection: Connection, target: Target, show: Sequence[str]) -> Sequence[str]:
    """Return the attributes asked for, if the target has them.

    Raises
    ------
    InvalidQuery
        Listing those that it has.
    """
    if not show:
        return ()
    have = [each.name for each in target.current(connection).attributes]
    for name in show:
        if name not in have:
            listed = ", ".join(have) or "none"
            raise InvalidQuery(f"{target.ref} has no attribute {name!r}: it has {listed}")
    return tuple(show)


@contextmanager
def one_snapshot(connection: Connection, target: Target) -> Iterator[None]:
    """Keep several statements on one version, though a promote may come between them."""
    if target.version is not None:
        yield
        return
    isolation = connection.isolation_level
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction():
            yield
    finally:
        connection.isolation_level = isolation


class reading:
    """Translate what can go wrong while a target is read."""

    def __init__(self, connection: Connection, target: Target) -> None:
        self._connection, self._target = connection, target

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, psycopg.Error):
            return
        if isinstance(error, psycopg.errors.UndefinedTable) and not self._connection.closed:
            self._target.current(self._connection)  # says what is missing, if it is the version
            raise NotFound(f"{self._target.ref} has no live version: promote one") from error
        raise translate(error, f"reading {self._target.ref}") from error
