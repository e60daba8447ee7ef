"""What a query reads: one version's table, or the live view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.numeric import Int8

from .. import catalog, wire
from ..catalog import TableRow, VersionRow
from ..connection import translate
from ..errors import DatabaseFailed, EmbstoreError, InvalidQuery, NotFound
from ..io import Io
from ..relations import SCHEMA, version_name
from ..types import IdType, Metric, Precision
from .shape import Without


@dataclass(eq=False)
class Target:
    """A relation to read, and what must be known to read it.

    Attributes
    ----------
    ref : str
        How the user names it.
    name : str
        The relation's name in schema emb.
    row : VersionRow or None
        None for the live view.
    seen : Target or None
        Of the live view: the version that answered last.
    """

    ref: str
    name: str
    id_type: IdType
    metric: Metric
    precision: Precision
    row: VersionRow | None = None
    seen: Target | None = field(default=None, repr=False)
    # Composed once for each kind of call, and kept with what they read.
    statements: dict[Any, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def of_version(cls, row: VersionRow) -> Target:
        """Return one version."""
        name = version_name(row.table_name, row.version)
        return cls(row.ref, name, row.id_type, row.metric, row.precision, row)

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

    @property
    def version(self) -> int | None:
        """The version's number; None for the live view, where it is read with the rows."""
        return self.row.version if self.row else None

    @property
    def dim(self) -> int | None:
        """Likewise."""
        return self.row.dim if self.row else None

    @property
    def columns(self) -> Mapping[str, str]:
        """What a filter may name, with its SQL type; of a version."""
        assert self.row is not None
        return {"id": self.id_type.value} | {each.name: each.type for each in self.row.attributes}

    def statement(self, key: tuple[Any, ...], compose: Callable[[], bytes]) -> bytes:
        """Return the statement for one kind of call, composed the first time."""
        found = self.statements.get(key)
        if found is None:
            if len(self.statements) >= _MOST_STATEMENTS:
                self.statements.clear()
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


# Callers with ever other columns and k must not fill the memory.
_MOST_STATEMENTS = 1000


async def rows(
    io: Io, target: Target, statement: bytes | sql.Composed, parameters: Any = None
) -> list[tuple[Any, ...]]:
    """Execute a statement that reads a target; what goes wrong is said in embstore's words."""
    try:
        return await io.rows(statement, parameters)
    except psycopg.Error as error:
        raise await failed(io, target, error) from error


async def failed(io: Io, target: Target, error: psycopg.Error) -> EmbstoreError:
    """Return embstore's error for one that reading a target met."""
    if not isinstance(error, psycopg.errors.UndefinedTable):
        return translate(error, f"reading {target.ref}")
    if target.row is not None:
        return NotFound(f"{target.ref} is retired: its vectors were dropped")
    with suppress(DatabaseFailed):  # a transaction that has failed
        await current(io, target)  # says what is missing
    return NotFound(f"{target.ref} has no live version: promote one")


async def current(io: Io, target: Target) -> VersionRow:
    """Return the catalog row of the version that is read, as it is now.

    Raises
    ------
    NotFound
        Saying which part is not there.
    """
    try:
        found = await io.rows(catalog.RESOLVE, (target.ref,))
    except psycopg.Error as error:
        raise translate(error, f"resolving {target.ref}") from error
    return catalog.version_row(found[0])


async def pinned(io: Io, target: Target) -> Target:
    """Return the version itself: of the live view, the one that is live now."""
    if target.row is not None:
        return target
    row = await current(io, target)
    if target.seen is None or target.seen.row != row:
        target.seen = Target.of_version(row)
    return target.seen


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
        same = pa.types.is_integer if wanted == pa.int64() else is_text
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


def is_text(kind: pa.DataType) -> bool:
    """Whether values are of text."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def id_parameter(ids: pa.Array) -> Any:
    """Return ids as a bound array parameter."""
    if pa.types.is_integer(ids.type):
        return wire.bigint_array(np.asarray(ids))
    return ids.to_pylist()


def id_array(ids: pa.Array) -> NDArray[Any]:
    """Return ids for a caller: int64, or object holding str."""
    return np.asarray(ids.to_numpy(zero_copy_only=False))


def column(name: str) -> sql.Identifier:
    """Return a column in SQL that has parameters: a percent sign would begin one."""
    return sql.Identifier(name.replace("%", "%%"))


def check_lists(given: object, queries: int, target: Target) -> Without:
    """Return the ids that each query leaves out.

    Parameters
    ----------
    given : sequence of ``queries`` sequences of ids (None for none), or an Arrow list array

    Raises
    ------
    InvalidQuery
    """
    if isinstance(given, pa.ChunkedArray):
        given = given.combine_chunks()
    if isinstance(given, pa.ListArray | pa.LargeListArray):
        lengths = pc.list_value_length(given).fill_null(0).to_numpy()
        ids = check_ids(given.flatten(), target)
    elif isinstance(given, str | bytes) or not hasattr(given, "__len__"):
        raise InvalidQuery("exclude is a sequence that holds the ids to leave out of each query")
    else:
        lists = [check_ids([] if each is None else each, target) for each in given]  # type: ignore[attr-defined]
        lengths = np.array([len(each) for each in lists], np.int64)
        ids = pa.concat_arrays(lists) if lists else check_ids([], target)
    if len(lengths) != queries:
        raise InvalidQuery(f"exclude has {len(lengths)} lists for {queries} queries")
    return Without(ids, np.concatenate([[0], np.cumsum(lengths)]))


async def check_columns(io: Io, target: Target, show: Sequence[str]) -> tuple[str, ...]:
    """Return the attributes asked for, if the target has them.

    Raises
    ------
    InvalidQuery
        Listing those that it has.
    """
    if not show:
        return ()
    row = target.row or await current(io, target)
    have = [each.name for each in row.attributes]
    for name in show:
        if name not in have:
            listed = ", ".join(have) or "none"
            raise InvalidQuery(f"{target.ref} has no attribute {name!r}: it has {listed}")
    return tuple(show)
