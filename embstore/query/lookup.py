"""Lookup: ids in, their vectors out, in the order of the ids.

The server packs a block of rows into one value; numpy reads it in one step, which is faster than
fetching rows. It is asked for ``id = ANY``, which a distributed Postgres can route, and the
order is restored here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql

from ..connection import Engine
from ..errors import InvalidQuery
from ..io import Io, Lender
from ..types import FeatureMatrix, Features, IdType, Precision, Vectors
from .target import (
    Target,
    check_columns,
    check_ids,
    column,
    current,
    id_parameter,
    rows,
)

MISSING = ("raise", "zero", "mean", "nan", "skip")
# Ids of one statement: at 1000 dims their vectors are 80 MB, far under the 1 GB of one value.
BLOCK = 20_000


async def lookup(
    lender: Lender,
    target: Target,
    ids: object,
    missing: str = "raise",
    *,
    show: Sequence[str] = (),
) -> Features:
    """Return the vectors of ids; see ``Reads.lookup``."""
    check_policy(missing)
    asked = check_ids(ids, target)
    async with lender.io() as io:
        if len(asked) <= BLOCK and (target.row or missing != "mean"):
            return await _looked_up(io, lender.engine, target, asked, missing, show)
        async with io.snapshot():
            return await _looked_up(io, lender.engine, target, asked, missing, show)


async def features(
    lender: Lender,
    targets: Mapping[str, Target],
    ids: Mapping[str, object],
    missing: str = "raise",
) -> FeatureMatrix:
    """Return the vectors of several tables side by side; see ``Store.features``."""
    check_policy(missing)
    if not ids:
        raise InvalidQuery("features of no table: give a mapping of table or reference to ids")
    asked = {ref: check_ids(own, targets[ref]) for ref, own in ids.items()}
    lengths = {ref: len(own) for ref, own in asked.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{count} of {ref}" for ref, count in lengths.items())
        raise InvalidQuery(f"row i is made of the i-th id of each table, but there are {listed}")
    kept = "nan" if missing == "skip" else missing
    async with lender.io() as io, io.snapshot():
        parts = {
            ref: await _looked_up(io, lender.engine, targets[ref], own, kept, ())
            for ref, own in asked.items()
        }
    found = np.stack([part.found for part in parts.values()], axis=1)
    vectors = np.concatenate([part.vectors for part in parts.values()], axis=1)
    if missing == "skip":
        vectors, found = vectors[found.all(axis=1)], found[found.all(axis=1)]
    ends = np.cumsum([part.vectors.shape[1] for part in parts.values()]).tolist()
    return FeatureMatrix(
        vectors,
        found,
        {ref: slice(a, b) for ref, a, b in zip(parts, [0, *ends], ends, strict=False)},
        {ref: part.version or 0 for ref, part in parts.items()},
    )


async def vectors_of(io: Io, engine: Engine, target: Target, ids: pa.Array) -> Vectors:
    """Return the vectors (n, dim) of ids that must be there.

    Raises
    ------
    NotFound
    """
    return (await _looked_up(io, engine, target, ids, "raise", ())).vectors


def check_policy(missing: str) -> None:
    """Refuse what is no policy for ids that are not there.

    Raises
    ------
    InvalidQuery
    """
    if missing not in MISSING:
        raise InvalidQuery(f"missing={missing!r} is no policy: use {', '.join(MISSING)}")


async def _looked_up(
    io: Io, engine: Engine, target: Target, asked: pa.Array, missing: str, show: Sequence[str]
) -> Features:
    names = await check_columns(io, target, show) if show else ()
    blocks = [asked.slice(at, BLOCK) for at in range(0, max(1, len(asked)), BLOCK)]
    parts = [await _block(io, engine, target, each, missing, names) for each in blocks]
    if len(parts) == 1:
        return parts[0]
    return Features(
        ids=[key for part in parts for key in part.ids],
        vectors=np.concatenate([part.vectors for part in parts]),
        found=np.concatenate([part.found for part in parts]),
        attributes={
            name: np.concatenate([part.attributes[name] for part in parts]) for name in names
        },
        version=parts[0].version,
    )


async def _block(
    io: Io,
    engine: Engine,
    target: Target,
    asked: pa.Array,
    missing: str,
    show: tuple[str, ...],
) -> Features:
    statement = target.statement(("lookup", show), lambda: _statement(engine, target, show))
    version, keys, packed, *columns = (
        await rows(io, target, statement, {"ids": id_parameter(asked)})
    )[0]
    if packed is None:  # not one of them is there: is the version?
        now = await current(io, target)
        version, found_ids = now.version, asked.slice(0, 0)
        vectors = np.zeros((0, now.dim), np.float32)
    else:
        own, stored = unpacked(packed, target.precision, keyed=keys is None)
        found_ids = pa.array(own if keys is None else keys, asked.type)
        vectors = stored.astype(np.float32, copy=False)
    places = pc.index_in(asked, value_set=found_ids)
    found = pc.is_valid(places).to_numpy(zero_copy_only=False)
    if missing == "raise" and not found.all():
        raise target.absent(asked.filter(pa.array(~found)).to_pylist())
    if missing == "skip":
        asked, places = asked.filter(pa.array(found)), places.drop_null()
        found = np.ones(len(asked), dtype=bool)
    order = places.fill_null(0).to_numpy()
    dim = vectors.shape[1]
    fill = await filler(io, engine, target, missing, dim) if not found.all() else 0
    aligned = vectors[order] if len(vectors) else np.zeros((len(order), dim), np.float32)
    if not found.all():
        aligned[~found] = fill
    attributes = {
        name: _column(values or [], order, found)
        for name, values in zip(show, columns, strict=True)
    }
    return Features(as_list(asked), aligned, found, attributes, version)


def unpacked_ids(keys: Any, id_type: IdType) -> NDArray[Any]:
    """Take ids apart as the server packs them: int64, or object holding str."""
    if id_type is IdType.BIGINT:
        return np.frombuffer(keys, ">i8").astype(np.int64)
    return as_objects(keys)


def as_list(ids: pa.Array) -> list[Any]:
    """Return ids as Python's; Arrow's own way is ten times as slow for integers."""
    listed: list[Any] = (
        np.asarray(ids).tolist() if pa.types.is_integer(ids.type) else ids.to_pylist()
    )
    return listed


def unpacked(
    packed: bytes, precision: Precision, *, keyed: bool = False
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Take apart vectors as the server sends them, each behind its dim and, if keyed, its id.

    Returns
    -------
    ids : array (rows,), int64; of rows without a key 0
    vectors : array (rows, dim), float32 or float16 as stored; bits as uint8, 0 and 1
    """
    before = 8 if keyed else 0
    bits = precision is Precision.BIT
    dim = int.from_bytes(packed[before : before + (4 if bits else 2)])
    component, width = {
        Precision.FLOAT32: (">f4", dim),
        Precision.FLOAT16: (">f2", dim),
        Precision.BIT: ("u1", precision.nbytes(dim)),
    }[precision]
    key = [("id", ">i8")] if keyed else []
    found = np.frombuffer(packed, [*key, ("header", ">u4"), ("value", component, (width,))])
    ids = found["id"].astype(np.int64) if keyed else np.zeros(len(found), np.int64)
    values = found["value"]
    if bits:
        return ids, np.unpackbits(values, axis=1, count=dim)
    return ids, values.astype(values.dtype.newbyteorder("="))


def send(engine: Engine, precision: Precision) -> sql.Composable:
    """Return the function that gives a vector in its binary form, in SQL."""
    schema = sql.Identifier("pg_catalog") if precision is Precision.BIT else engine.schema
    return sql.SQL("{}.{}").format(schema, sql.Identifier(f"{precision.sql_type}_send"))


def as_objects(values: Sequence[Any]) -> NDArray[np.object_]:
    """Return an array (n,) that holds the values themselves, lists among them."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _column(values: Sequence[Any], order: NDArray[Any], found: NDArray[np.bool_]) -> NDArray[Any]:
    column = np.full(len(order), None, dtype=object)
    if len(values):
        column[found] = as_objects(values)[order[found]]
    return column


async def filler(
    io: Io, engine: Engine, target: Target, missing: str, dim: int
) -> NDArray[np.float32]:
    """Return what an id that is not there gets, (dim,)."""
    if missing == "mean":
        if target.precision is Precision.BIT:
            raise InvalidQuery(
                f"{target.ref} holds bits, which have no mean among them: use missing='zero',"
                " 'nan', 'skip' or 'raise'"
            )
        statement = sql.SQL("SELECT {}(({}.avg(embedding))) FROM {}").format(
            send(engine, target.precision), engine.schema, target.relation
        )
        packed = (await rows(io, target, statement))[0][0]
        return np.asarray(unpacked(packed, target.precision)[1][0], dtype=np.float32)
    return np.full(dim, 0.0 if missing == "zero" else np.nan, np.float32)


def _statement(engine: Engine, target: Target, show: tuple[str, ...]) -> bytes:
    # One value is cheaper than two, where the id has a fixed width.
    bigint = target.id_type is IdType.BIGINT
    keys, before = ("NULL", "int8send(id) || ") if bigint else ("array_agg(id)", "")
    version = sql.SQL("max(version)") if target.row is None else target.version_column
    return (
        sql.SQL(
            "SELECT {version}, {keys}, string_agg({before}{send}(embedding), ''){shown}"
            " FROM {relation} WHERE id = ANY (%(ids)s)"
        )
        .format(
            version=version,
            keys=sql.SQL(keys),
            before=sql.SQL(before),
            send=send(engine, target.precision),
            shown=sql.SQL("").join(sql.SQL(", array_agg({})").format(column(n)) for n in show),
            relation=target.relation,
        )
        .as_bytes(None)
    )
