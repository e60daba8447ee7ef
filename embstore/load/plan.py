"""What a version will be: decided, and refused, before any row is read; then registered."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from psycopg.types.json import Jsonb

from .. import catalog
from ..catalog import TableRow, VersionRow
from ..connection import Connection
from ..errors import BadInput, InvalidQuery
from ..index import check as check_index
from ..readers import read_attributes
from ..readers.base import EMBEDDING, ID, Opened
from ..readers.places import shown
from ..readers.sieve import ROW
from ..spaces import space_of
from ..types import IdType, Precision, Status
from . import leftovers
from .attributes import SideTable, agree, columns_of
from .ids import id_type_of
from .options import Options


def plan(
    connection: Connection, name: str, opened: Opened, options: Options
) -> tuple[VersionRow, SideTable | None]:
    """Decide what the version will be; every refusal that needs no row comes from here."""
    table = catalog.table(connection, name)
    id_type = _settled("id type", table, table.id_type, options.id_type)
    precision = _settled("precision", table, table.precision, options.precision)
    id_type = id_type or id_type_of(opened.schema.field(ID).type)
    precision = precision or Precision.FLOAT32
    if not 1 <= opened.dim <= precision.max_dim:
        what = "bits" if precision is Precision.BIT else "dimensions"
        raise BadInput(
            f"{opened.name}: vectors of {opened.dim} {what} cannot be stored, the limits are 1"
            f" to {precision.max_dim}",
            source=opened.name,
        )
    if options.connections is not None and options.connections < 1:
        raise InvalidQuery(f"connections={options.connections}: a load takes at least one")
    check_index(connection, options.index, opened.dim, table.metric, precision, opened.name)
    if options.goal is not None:
        options.goal.check_dim(opened.dim, opened.name)
    own = columns_of(
        pa.schema([each for each in opened.schema if each.name not in {ID, EMBEDDING, ROW}]),
        opened.name,
    )
    side = None
    if options.attributes is not None:
        side = side_table(options, id_type)
        if both := {each.name for each in own} & {each.name for each in side.attributes}:
            raise BadInput(
                f"{side.source}: column {min(both)!r} is in {opened.name} too; leave it out of one",
                source=side.source,
                column=min(both),
            )
        own += side.attributes
    known = [each for row in catalog.ready_versions(connection, name) for each in row.attributes]
    agree(own, known, name, opened.name)
    planned = VersionRow(
        table_name=name,
        version=0,
        status=Status.LOADING,
        dim=opened.dim,
        id_type=id_type,
        metric=table.metric,
        precision=precision,
        rows=None,
        bytes=None,
        index_kind="none",
        indexes=(),
        attributes=tuple(own),
        trainer=options.trainer or opened.trainer,
        params={**opened.params, **options.params},
        metrics={**opened.metrics, **options.metrics},
        source={"name": opened.name, **opened.provenance},
        checksum=None,
        created_at=table.created_at,
        created_by="",
        ready_at=None,
        retired_at=None,
        space=space_of(options.space, {**opened.params, **options.params}),
        appended=0,
    )
    return planned, side


def _settled(what: str, table: TableRow, fixed: Any, asked: Any) -> Any:
    if fixed is not None and asked is not None and fixed != asked:
        if fixed is Precision.BIT:
            raise InvalidQuery(
                f"table {table.name} compares bits by {table.metric}: leave precision {asked} out"
            )
        raise InvalidQuery(
            f"table {table.name} has {what} {fixed}, fixed by its first load: it cannot take"
            f" {asked}; use another table"
        )
    return fixed or asked


def side_table(options: Options, id_type: IdType) -> SideTable:
    """Read the attributes that are given apart.

    Raises
    ------
    BadInput, NotFound
    """
    given = options.attributes
    named = shown(given) if isinstance(given, str | os.PathLike) else "attributes"
    return SideTable(read_attributes(given, ids=options.attributes_ids), named, id_type)


def register(connection: Connection, planned: VersionRow) -> VersionRow:
    """Take the next number and make the load known, before anything else exists of it."""
    name = planned.table_name
    with connection.transaction():
        row = connection.execute(
            "INSERT INTO embstore.version_numbers AS n (table_name, last) VALUES (%s, 1)"
            " ON CONFLICT (table_name) DO UPDATE SET last = n.last + 1 RETURNING last",
            (name,),
        ).fetchone()
        assert row is not None
        version = dataclasses.replace(planned, version=row[0])
        leftovers.hold(connection, name, version.version)
        connection.execute(
            "INSERT INTO embstore.versions (table_name, version, status, dim, id_type, metric,"
            " precision, index_kind, attributes, trainer, params, metrics, source, space,"
            " created_at, created_by) VALUES (%s, %s, 'loading', %s, %s, %s, %s, %s, %s, %s, %s,"
            " %s, %s, %s, clock_timestamp(), session_user)",
            (
                name,
                version.version,
                version.dim,
                version.id_type,
                version.metric,
                version.precision,
                version.index_kind,
                Jsonb([dataclasses.asdict(each) for each in version.attributes]),
                version.trainer,
                as_json(version.params, "params"),
                as_json(version.metrics, "metrics"),
                as_json(version.source, "source"),
                version.space,
            ),
        )
    return version


def as_json(value: Mapping[str, Any], what: str) -> Jsonb:
    """Return provenance as a jsonb parameter; numpy's numbers and arrays become JSON's.

    Raises
    ------
    InvalidQuery
        When JSON has no such value, NaN for one.
    """

    def plain(other: object) -> object:
        if isinstance(other, np.generic | np.ndarray):
            return other.tolist()
        return str(other)

    def dumps(each: object) -> str:
        try:
            return json.dumps(each, default=plain, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidQuery(f"{what} cannot be kept as JSON: {error}") from error

    dumps(value)
    return Jsonb(value, dumps=dumps)
