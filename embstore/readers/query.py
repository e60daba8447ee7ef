"""A SQL query on another database as a source: streamed, read-only, its password never shown."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.string import ByteaBinaryLoader, TextBinaryLoader

from .. import connection as postgres
from ..errors import BadInput, ConnectionFailed, MissingPackage, NotFound
from .base import MAX_BATCH_ROWS, Opened, Wanted, batch_rows
from .source import reading
from .tables import opened_table

# Rows by which the width of the others is judged.
_FIRST = 64
_LONGEST = 4000
_POSTGRES_URL = re.compile(r"\s*postgres(?:ql)?(?:\+\w+)?://")
_OTHERWISE = "mend the query and load again"


@dataclass(frozen=True)
class Query:
    """What a SQL query on another database returns, as a source of ``Table.load``.

    Parameters
    ----------
    url : str
        ``postgresql://user:password@host/database``, or whatever SQLAlchemy has a driver for.
    sql : str
        A SELECT with the id, the vector (pgvector's types, an array of numbers or a text such as
        ``[0.1, 0.2]``) and the attributes.

    Examples
    --------
    >>> query = Query("postgresql://me:secret@host/shop", "SELECT id, embedding FROM items")
    >>> query.name
    'query on me@host/shop'
    """

    url: str = field(repr=False)
    sql: str

    @property
    def name(self) -> str:
        """What messages and provenance call it."""
        return f"query on {_shown(self.url)}"


def open_query(query: Query, wanted: Wanted, held: ExitStack) -> Opened:
    """Run a query and open its rows.

    Raises
    ------
    ConnectionFailed, BadInput, NotFound, MissingPackage
    """
    name = query.name
    with reading(name, "rows", _OTHERWISE):
        schema, batches = _run(query, held)
        return opened_table(
            name,
            schema,
            batches,
            wanted,
            provenance={
                "format": "query",
                "database": _shown(query.url),
                "query": " ".join(query.sql.split())[:_LONGEST],
            },
        )


def read_query(query: Query) -> pa.Table:
    """Return all rows, for attributes.

    Raises
    ------
    ConnectionFailed, BadInput, NotFound, MissingPackage
    """
    with ExitStack() as held, reading(query.name, "rows", _OTHERWISE):
        schema, batches = _run(query, held)
        return pa.Table.from_batches(batches, schema)


def _run(query: Query, held: ExitStack) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    schema, batches = (_postgres if _POSTGRES_URL.match(query.url) else _other)(query, held)

    def checked() -> Iterator[pa.RecordBatch]:
        with reading(query.name, "rows", _OTHERWISE):
            yield from batches

    return schema, checked()


def _failed(query: Query, reason: object) -> BadInput:
    said = " ".join(str(reason).split())[:200]
    return BadInput(f"{query.name} failed: {said}; {_OTHERWISE}", source=query.name)


def _shown(url: str) -> str:
    """Return where a URL leads, without password and options."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        if _POSTGRES_URL.match(url):
            return str(_address(url))
        return make_url(url).set(password=None, query={}).render_as_string()
    except (ArgumentError, ConnectionFailed):
        return "a database"


def _address(url: str) -> postgres.Address:
    """Return the address of a Postgres, whatever driver SQLAlchemy would have taken."""
    return postgres.parse(_POSTGRES_URL.sub("postgresql://", url))


def _step(rows: int, size: int) -> int:
    """Rows of a batch, from the bytes of the first ones."""
    return min(MAX_BATCH_ROWS, batch_rows(size // (4 * rows)))


# Postgres: a cursor of the server whose vectors and arrays arrive as the bytes they are.


class _Jsonb(Loader):
    """The text of a jsonb value, behind its version."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        """Return the text."""
        return bytes(data)[1:].decode()


_Make: TypeAlias = Callable[[Sequence[Any]], pa.Array]


def _as(kind: pa.DataType) -> _Make:
    return lambda values: pa.array(values, kind)


def _numbers(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if each is None else float(each) for each in values], pa.float64())


def _texts(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if each is None else str(each) for each in values], pa.string())


def _lists(header: int, gap: int, component: str) -> _Make:
    """Return what takes the components out of binary vectors and arrays.

    Parameters
    ----------
    header, gap : int
        Bytes before the first component, and before each.
    component : str
        Its type, such as ``>f4``.
    """
    each = np.dtype([("gap", f"V{gap}"), ("value", component)]) if gap else np.dtype(component)
    native = np.dtype(component).newbyteorder("=")
    inner = pa.from_numpy_dtype(native)

    def values_of(data: bytes) -> NDArray[Any]:
        found = np.frombuffer(data, each)
        return (found["value"] if gap else found).astype(native)

    def make(values: Sequence[Any]) -> pa.Array:
        width = len(values[0] or b"")
        if any(value is None or len(value) != width for value in values) or width < header:
            # Nulls and rows of several lengths: refused where they are vectors.
            rows = [None if value is None else values_of(value[header:]) for value in values]
            return pa.array(rows, pa.list_(inner))
        matrix = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), width)
        flat = values_of(matrix[:, header:].tobytes())
        return pa.FixedSizeListArray.from_arrays(
            pa.array(flat), (width - header) // each.itemsize
        ).cast(pa.list_(inner))

    return make


def _arrays(component: str) -> _Make:
    """Return what takes the components out of one-dimensional arrays without nulls."""
    plain = _lists(20, 4, component)

    def make(values: Sequence[Any]) -> pa.Array:
        for each in values:
            if each is not None and each[:8] != b"\0\0\0\1\0\0\0\0" and each[:4] != b"\0\0\0\0":
                what = "has several dimensions" if each[:4] != b"\0\0\0\1" else "holds a NULL"
                raise ValueError(f"an array {what}, where vectors have numbers in one dimension")
        return plain([each and each.ljust(20, b"\0") for each in values])

    return make


_POSTGRES: dict[str, _Make] = {
    "bool": _as(pa.bool_()),
    "int2": _as(pa.int64()),
    "int4": _as(pa.int64()),
    "int8": _as(pa.int64()),
    "float4": _as(pa.float64()),
    "float8": _as(pa.float64()),
    "numeric": _numbers,
    "text": _as(pa.string()),
    "varchar": _as(pa.string()),
    "bpchar": _as(pa.string()),
    "name": _as(pa.string()),
    "uuid": _texts,
    "json": _as(pa.string()),
    "jsonb": _as(pa.string()),
    "date": _as(pa.date32()),
    "timestamp": _as(pa.timestamp("us")),
    "timestamptz": _as(pa.timestamp("us", "UTC")),
    "vector": _lists(4, 0, ">f4"),
    "halfvec": _lists(4, 0, ">f2"),
    "_float4": _arrays(">f4"),
    "_float8": _arrays(">f8"),
    "_int2": _arrays(">i2"),
    "_int4": _arrays(">i4"),
    "_int8": _arrays(">i8"),
    "_text": _as(pa.list_(pa.string())),
    "_varchar": _as(pa.list_(pa.string())),
}
_RAW = ("vector", "halfvec", "_float4", "_float8", "_int2", "_int4", "_int8")


def _postgres(query: Query, held: ExitStack) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    connection = held.enter_context(postgres.connect(_address(query.url), autocommit=False))
    connection.read_only = True
    found = connection.execute(
        "SELECT oid, typname FROM pg_type WHERE typname = ANY(%s)", (list(_POSTGRES),)
    )
    names = {int(oid): str(name) for oid, name in found}
    # All rows are wanted, not the first ones soon.
    connection.execute("SET LOCAL cursor_tuple_fraction = 1")
    cursor = held.enter_context(connection.cursor("embstore"))
    for oid, name in names.items():
        if name in _RAW:
            cursor.adapters.register_loader(oid, ByteaBinaryLoader)
    cursor.adapters.register_loader("json", TextBinaryLoader)
    cursor.adapters.register_loader("jsonb", _Jsonb)
    try:
        cursor.execute(query.sql.encode(), binary=True)
    except psycopg.Error as error:
        raise _failed(query, error.diag.message_primary or error) from error
    makers = [
        (column.name, _maker(connection, query, column, names))
        for column in cursor.description or ()
    ]
    return _batches(query, makers, cursor.fetchmany)


def _maker(connection: Any, query: Query, column: Any, names: dict[int, str]) -> _Make:
    if column.type_code in names:
        return _POSTGRES[names[column.type_code]]
    found = connection.execute("SELECT format_type(%s, NULL)", (column.type_code,)).fetchone()
    raise BadInput(
        f"{query.name}: column {column.name!r} has type {found[0]}, which is not read: cast it"
        f" in the query, such as {column.name}::text, or ::real[] for a vector",
        source=query.name,
        column=column.name,
    )


def _batches(
    query: Query, makers: Sequence[tuple[str, _Make]], fetch: Callable[[int], Sequence[Any]]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the first rows' schema, and all rows in batches of about a megabyte."""
    names = [name for name, _ in makers]

    def batch(rows: Sequence[Any], before: int) -> pa.RecordBatch:
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(makers)
        arrays = []
        for (name, make), values in zip(makers, columns, strict=True):
            try:
                arrays.append(make(values))
            except (ValueError, TypeError) as error:
                raise _bad_value(query, name, make, values, before, error) from error
        return pa.RecordBatch.from_arrays(arrays, names)

    first = batch(fetch(_FIRST), 0)

    def batches() -> Iterator[pa.RecordBatch]:
        yield first
        step, before = _step(_FIRST, first.nbytes), len(first)
        while rows := fetch(step):
            yield batch(rows, before)
            before += len(rows)

    return first.schema, batches()


def _bad_value(
    query: Query, name: str, make: _Make, values: Sequence[Any], before: int, error: Exception
) -> BadInput:
    """Build the error that names the row, which Arrow does not tell."""
    row = None
    for i, each in enumerate(values):
        try:
            make([each])
        except (ValueError, TypeError) as own:
            row, error = before + i + 1, own
            break
    place = f"{query.name} row {row}" if row else query.name
    reason = " ".join(str(error).split())[:200]
    return BadInput(
        f"{place}: column {name!r}: {reason}; {_OTHERWISE}",
        source=query.name,
        row=row,
        column=name,
    )


# Other databases, through SQLAlchemy: a column has the type of its first values.


def _other(query: Query, held: ExitStack) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    import sqlalchemy
    from sqlalchemy import exc

    try:
        url = sqlalchemy.make_url(query.url)
        if url.get_backend_name() == "sqlite" and not _is_there(url.database):
            raise NotFound(f"{query.name}: there is no such file")
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    except (exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise MissingPackage(
            f"{query.name} needs a driver that is not installed: {error}; install SQLAlchemy's"
            " dialect and driver for it"
        ) from error
    except exc.ArgumentError:
        raise BadInput(
            "the URL of the query's database cannot be read: write"
            " dialect+driver://user:password@host/database"
        ) from None
    try:
        connection = held.enter_context(engine.connect())
    except exc.DBAPIError as error:
        reason = " ".join(str(error.orig).split())[:200]
        raise ConnectionFailed(f"{query.name}: the connection failed: {reason}") from None
    try:
        result = connection.execution_options(stream_results=True).exec_driver_sql(query.sql)
    except exc.DBAPIError as error:
        raise _failed(query, error.orig) from error
    if not result.returns_rows:
        raise BadInput(f"{query.name} returns no rows: write a SELECT", source=query.name)
    names = list(result.keys())
    rows = result.fetchmany(_FIRST)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    inferred = [_inferred(query, *each) for each in zip(names, columns, strict=True)]
    waiting = [rows]

    def fetch(count: int) -> Sequence[Any]:
        return waiting.pop() if waiting else result.fetchmany(count)

    makers = [(name, _of(kind)) for name, kind in zip(names, inferred, strict=True)]
    return _batches(query, makers, fetch)


def _is_there(database: str | None) -> bool:
    """Tell whether a SQLite file is there, which opening it would make."""
    return not database or database.startswith((":memory:", "file:")) or Path(database).is_file()


def _inferred(query: Query, name: str, values: Sequence[Any]) -> pa.DataType:
    kind = pa.array(list(map(_plain, values))).type
    if pa.types.is_binary(kind):
        raise BadInput(
            f"{query.name}: column {name!r} holds bytes, whose layout no database tells: select"
            " vectors as a text such as [0.1, 0.2] (sqlite-vec: vec_to_json), and leave other bytes"
            " out",
            source=query.name,
            column=name,
        )
    return pa.string() if pa.types.is_null(kind) else kind


def _of(kind: pa.DataType) -> _Make:
    return lambda values: pa.array(list(map(_plain, values)), kind)


def _plain(value: Any) -> Any:
    """Return a value of a driver as one that Arrow takes, always the same."""
    if isinstance(value, Decimal):
        return float(value)
    return str(value) if isinstance(value, uuid.UUID) else value
