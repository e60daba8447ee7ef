"""Rows whose id was there already: taken out again, the first of each id stays."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pyarrow as pa
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..relations import version_table
from ..types import IdType, Precision
from .arrivals import Arrivals
from .checksum import Checksum
from .rejects import Rejects
from .writer import BitProbe, Probe

_BATCH = 1000
_SENT = {Precision.FLOAT32: ">f4", Precision.FLOAT16: ">f2", Precision.BIT: "u1"}


def remove(
    connection: Connection,
    engine: Engine,
    version: VersionRow,
    arrivals: Arrivals,
    rejects: Rejects,
    checksum: Checksum,
    probe: Probe | BitProbe,
) -> None:
    """Delete every row whose id an earlier row has; sums and counts forget it too.

    A COPY into a table of its own transaction puts the rows one behind the other, so their places
    are in the order of their arrival.

    Raises
    ------
    BadInput
        When they are more bad rows than allowed.
    """
    bits = version.precision is Precision.BIT
    statement = sql.SQL(
        "COPY (WITH arrived AS MATERIALIZED ("
        " SELECT ctid AS place, id, row_number() OVER (ORDER BY ctid) - 1 AS arrival FROM {table}),"
        " ranked AS (SELECT place, arrival, first_value(arrival) OVER"
        " (PARTITION BY id ORDER BY arrival) AS original FROM arrived),"
        " gone AS (DELETE FROM {table} t USING ranked r"
        " WHERE t.ctid = r.place AND r.arrival > r.original"
        " RETURNING t.id, t.embedding, r.arrival, r.original)"
        " SELECT id, {send}(embedding), arrival, original FROM gone ORDER BY arrival)"
        " TO STDOUT (FORMAT binary)"
    ).format(
        table=version_table(version.table_name, version.version),
        send=sql.SQL("{}.{}").format(
            sql.Identifier("pg_catalog") if bits else engine.schema,
            sql.Identifier(f"{version.precision.sql_type}_send"),
        ),
    )
    bigint = version.id_type is IdType.BIGINT
    # Before a vector its dim and a spare 0, before bits their number.
    component = _SENT[version.precision]
    count = version.precision.nbytes(version.dim) // np.dtype(component).itemsize
    fields = np.dtype([("head", ">u4"), ("value", component, (count,))])
    with connection.cursor().copy(statement) as stream:
        stream.set_types(["int8" if bigint else "text", "bytea", "int8", "int8"])
        rows = stream.rows()
        while batch := list(islice(rows, _BATCH)):
            keys, vectors, places, originals = zip(*batch, strict=True)
            for key, at, original in zip(keys, places, originals, strict=True):
                place, row = arrivals.place(at)
                other, there = arrivals.place(original)
                same = f"{other.unit} {other.first + there}"
                named = same if other == place else other.name(there)
                rejects.note(place, row, key, f"duplicate of {named}")
            stored = np.frombuffer(b"".join(vectors), fields)["value"]
            stored = stored.astype(stored.dtype.newbyteorder("="))
            ids = pa.array(keys, pa.int64() if bigint else pa.string())
            checksum.update(ids, stored, sign=-1)
            probe.update(stored, sign=-1)
