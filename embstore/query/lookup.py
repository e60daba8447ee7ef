"""Lookup: ids in, their vectors out, in the order of the ids.

The server packs a block of rows into one value; numpy reads it in one step, which is faster than
fetching rows. It is asked for ``id = ANY``, which a distributed Postgres can route, and the
order is restored here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql

from ..connection import Connection, Engine
from ..errors import InvalidQuery
from ..types import Features, IdType, Precision
from .target import Target, check_columns, check_ids, id_parameter, one_snapshot, reading

MISSING = ("raise", "zero", "mean", "nan", "skip")
# Ids of one statement: at 1000 dims their vectors are 80 MB, far under the 1 GB of one value.
BLOCK = 20_000


def lookup(
    connection: Connection,
    engine: Engine,
    target: Target,
    ids: object,
    missing: str = "raise",
    *,
    show: Sequence[str] = (),
) -> Features:
    """Return the vectors of ids; see ``Version.lookup``."""
    if missing not in MISSING:
        raise InvalidQuery(f"missing={missing!r} is no policy: use {', '.join(MISSING)}")
    asked = check_ids(ids, target)
    with reading(connection, target):
        show = check_columns(connection, target, show)
        if len(asked) <= BLOCK:
            return _block(connection, engine, target, asked, missing, tuple(show))
        with one_snapshot(connection, target):
            parts = [
                _block(connection, engine, target, asked.slice(at, BLOCK), missing, tuple(show))
                for at in range(0, len(asked), BLOCK)
            ]
    return Features(
        ids=[key for part in parts for key in part.ids],
        vectors=np.concatenate([part.vectors for part in parts]),
        found=np.concatenate([part.found for part in parts]),
        attributes={
            name: np.concatenate([part.attributes[name] for part in parts]) for name in show
        },
        version=parts[0].version,
    )


def _block(
    connection: Connection,
    engine: Engine,
    target: Target,
    asked: pa.Array,
    missing: str,
    show: tuple[str, ...],
) -> Features:
    row = connection.execute(
        target.statement(("lookup", show), lambda: _statement(engine, target, show)),
        [id_parameter(asked)],
        binary=True,
    ).fetchone()
    assert row is not None
    version, keys, packed, *columns = row
    if keys is None:  # not one of them is there: is the version?
        current = target.current(connection)
        version, dim, found_ids = current.version, current.dim, asked.slice(0, 0)
        vectors = np.zeros((0, dim), np.float32)
    else:
        found_ids = _ids(keys, target.id_type)
        vectors = unpacked(packed, len(found_ids), target.precision).astype(np.float32, copy=False)
    places = pc.index_in(asked, value_set=found_ids)
    found = pc.is_valid(places).to_numpy(zero_copy_only=False)
    if missing == "raise" and not found.all():
        raise target.absent(asked.filter(pa.array(~found)).to_pylist())
    if missing == "skip":
        asked, places = asked.filter(pa.array(found)), places.drop_null()
        found = np.ones(len(asked), dtype=bool)
    rows = places.fill_null(0).to_numpy()
    filler = (
        _filler(connection, engine, target, missing, vectors.shape[1]) if not found.all() else 0
    )
    aligned = vectors[rows] if len(vectors) else np.zeros((len(rows), vectors.shape[1]), np.float32)
    if not found.all():
        aligned[~found] = filler
    attributes = {
        name: _column(values or [], rows, found) for name, values in zip(show, columns, strict=True)
    }
    return Features(asked.to_pylist(), aligned, found, attributes, version)


def _ids(keys: Any, id_type: IdType) -> pa.Array:
    if id_type is IdType.BIGINT:
        return pa.array(np.frombuffer(keys, ">i8").astype(np.int64))
    return pa.array(keys, pa.string())


def unpacked(packed: bytes, rows: int, precision: Precision) -> NDArray[Any]:
    """Take apart ``rows`` vectors as the server sends them, each behind a header of four bytes.

    Returns
    -------
    array (rows, dim), float32 or float16 as stored; bits as uint8, 0 and 1
    """
    component = {"float32": ">f4", "float16": ">f2", "bit": "u1"}[precision]
    width = (len(packed) // rows - 4) // np.dtype(component).itemsize
    fields = np.dtype([("header", ">u4"), ("value", component, (width,))])
    found = np.frombuffer(packed, fields)
    values = found["value"]
    if precision is Precision.BIT:
        return np.unpackbits(values, axis=1, count=int(found["header"][0]))
    return values.astype(values.dtype.newbyteorder("="))


def send(engine: Engine, precision: Precision) -> sql.Composable:
    """Return the function that gives a vector in its binary form, in SQL."""
    schema = sql.Identifier("pg_catalog") if precision is Precision.BIT else engine.schema
    return sql.SQL("{}.{}").format(schema, sql.Identifier(f"{precision.sql_type}_send"))


def _column(values: Sequence[Any], rows: NDArray[Any], found: NDArray[np.bool_]) -> NDArray[Any]:
    column = np.full(len(rows), None, dtype=object)
    if len(values):
        source = np.empty(len(values), dtype=object)
        source[:] = values
        column[found] = source[rows[found]]
    return column


def _filler(
    connection: Connection, engine: Engine, target: Target, missing: str, dim: int
) -> NDArray[np.float32]:
    if missing == "mean":
        if target.precision is Precision.BIT:
            raise InvalidQuery(
                f"{target.ref} holds bits, which have no mean among them: use missing='zero',"
                " 'nan', 'skip' or 'raise'"
            )
        row = connection.execute(
            sql.SQL("SELECT {}(({}.avg(embedding))) FROM {}").format(
                send(engine, target.precision),
                engine.schema,
                target.relation,
            ),
            binary=True,
        ).fetchone()
        assert row is not None
        mean = unpacked(row[0], 1, target.precision)[0]
        return np.asarray(mean, dtype=np.float32)
    return np.full(dim, 0.0 if missing == "zero" else np.nan, np.float32)


def _statement(engine: Engine, target: Target, show: tuple[str, ...]) -> bytes:
    keys = "string_agg(int8send(id), '')" if target.id_type is IdType.BIGINT else "array_agg(id)"
    version = sql.SQL("max(version)") if target.version is None else target.version_column
    return (
        sql.SQL(
            "SELECT {version}, {keys}, string_agg({send}(embedding), ''){shown}"
            " FROM {relation} WHERE id = ANY (%s)"
        )
        .format(
            version=version,
            keys=sql.SQL(keys),
            send=send(engine, target.precision),
            shown=sql.SQL("").join(
                sql.SQL(", array_agg({})").format(sql.Identifier(each)) for each in show
            ),
            relation=target.relation,
        )
        .as_bytes(None)
    )
