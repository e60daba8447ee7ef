"""CREATE TABLE and COPY: the rows' way into Postgres, and the proof that they arrived."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from psycopg import sql

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..errors import LoadFailed
from ..relations import version_table
from ..types import Precision
from .encode import HEADER, TRAILER

T = TypeVar("T")

# A row whose vector fits a page stays inline: an exact scan is 3 times faster than with TOAST at
# 768 dims. Left for the header, a long text id and the other columns (18 bytes each once TOASTed).
_PAGE_BYTES = 8160
_BESIDE_VECTOR = 1024 + 64
# Per row; sums of products below this are made of denormals, which have no precision to compare.
_DENORMAL = 1e-30
_FEW = 16


def create_table(
    connection: Connection, engine: Engine, relation: sql.Identifier, version: VersionRow
) -> None:
    """Create a version's table; in the transaction of its COPY, so that the WAL is skipped."""
    columns = [sql.SQL("id {} NOT NULL").format(sql.SQL(version.id_type.value))]
    columns += [
        sql.SQL("{} {}").format(sql.Identifier(each.name), sql.SQL(each.type))
        for each in version.attributes
    ]
    kind = engine.type(version.precision.sql_type, version.dim)
    columns.append(sql.SQL("embedding {} NOT NULL").format(kind))
    connection.execute(
        sql.SQL("CREATE TABLE {} ({})").format(relation, sql.SQL(", ").join(columns))
    )
    width = version.precision.nbytes(version.dim)
    if width + _BESIDE_VECTOR + 18 * len(version.attributes) <= _PAGE_BYTES:
        connection.execute(
            sql.SQL("ALTER TABLE {} ALTER COLUMN embedding SET STORAGE PLAIN").format(relation)
        )


def copy(
    connection: Connection,
    relation: sql.Identifier,
    version: VersionRow,
    chunks: Iterable[memoryview],
    *,
    freeze: bool = False,
) -> int:
    """Send encoded rows; returns how many the server took.

    Frozen, which a table made in the same transaction allows, nothing ever has to come back to
    mark them as visible.
    """
    names = ["id", *(each.name for each in version.attributes), "embedding"]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary{})").format(
        relation,
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", FREEZE" if freeze else ""),
    )
    # The commit syncs the table's file: let the kernel begin to write it while the rows come.
    connection.execute("SET LOCAL backend_flush_after = '2MB'")
    cursor = connection.cursor()
    with cursor.copy(statement) as stream:
        stream.write(HEADER)
        for chunk in chunks:
            stream.write(chunk)
        stream.write(TRAILER)
    return cursor.rowcount


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Compute the next item in a thread while the consumer works on this one."""
    end: Any = object()
    with ThreadPoolExecutor(1, "embstore-load") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item


class Probe:
    """A sum over all components that both sides can compute: products with one vector.

    COPY answers with a count only; this shows that the components arrived as they were sent, each
    in its place.
    """

    def __init__(self, dim: int) -> None:
        self.vector = np.cos(np.arange(1, dim + 1, dtype=np.float64)).astype(np.float32)
        self.rows = 0
        self.products = 0.0
        self.bulk = 0.0

    def update(self, stored: np.ndarray[Any, Any], *, sign: int = 1) -> None:
        """Add rows (n, dim) as stored, or with ``sign=-1`` take them away."""
        single = stored.astype(np.float32, copy=False)
        with np.errstate(over="ignore"):
            # einsum stays in this thread; BLAS would take the core that the server needs.
            products = np.einsum("ij,j->i", single, self.vector)
            self.products += sign * float(products.sum(dtype=np.float64))
            if sign > 0:  # what was added and taken away has left its rounding in the sum
                self.bulk += float(np.abs(products).sum(dtype=np.float64))
                # The products of a few rows may all be near 0, which their terms are not.
                few = np.abs(single[:_FEW]) @ np.abs(self.vector)
                self.bulk += float(few.sum(dtype=np.float64))
        self.rows += sign * len(stored)

    def verify(
        self, connection: Connection, engine: Engine, version: VersionRow, among: Any = None
    ) -> None:
        """Compare with what the server holds now, of the ids ``among`` or of all.

        Raises
        ------
        LoadFailed
        """
        row = connection.execute(
            sql.SQL("SELECT count(*), -sum(embedding {} {}::{}) FROM {}").format(
                engine.operator("<#>"),
                sql.Literal("[" + ",".join(map(repr, self.vector.tolist())) + "]"),
                engine.type(version.precision.sql_type),
                version_table(version.table_name, version.version),
            )
            + _only(among),
            None if among is None else (among,),
        ).fetchone()
        assert row is not None
        rows, products = row
        _check_rows(version, self.rows, rows)
        if not rows or not math.isfinite(self.bulk):
            return  # components near the limit of float32: their products have no finite sum
        # The probe is itself rounded to the stored precision on the server.
        slack = 1e-4 if version.precision == "float32" else 1e-2
        if abs(products - self.products) > slack * self.bulk + _DENORMAL * rows:
            raise _others(version)


class BitProbe:
    """Likewise for bits: how many are set, and how many of those in a mask of every other one."""

    def __init__(self, dim: int) -> None:
        mask = np.random.default_rng(dim).integers(0, 2, dim, dtype=np.uint8)
        self.mask = "".join(map(str, mask.tolist()))
        self._packed = np.packbits(mask)
        self.rows = 0
        self.ones = [0, 0]

    def update(self, stored: np.ndarray[Any, Any], *, sign: int = 1) -> None:
        """Add rows (n, bytes) as stored, or with ``sign=-1`` take them away."""
        for place, bits in enumerate((stored, stored & self._packed)):
            self.ones[place] += sign * int(_ONES[bits].sum(dtype=np.int64))
        self.rows += sign * len(stored)

    def verify(
        self, connection: Connection, engine: Engine, version: VersionRow, among: Any = None
    ) -> None:
        """Compare with what the server holds now, of the ids ``among`` or of all.

        Raises
        ------
        LoadFailed
        """
        row = connection.execute(
            sql.SQL(
                "SELECT count(*), coalesce(sum(bit_count(embedding))::bigint, 0),"
                " coalesce(sum(bit_count(embedding & {}::{}))::bigint, 0) FROM {}"
            ).format(
                sql.Literal(self.mask),
                engine.type("bit"),
                version_table(version.table_name, version.version),
            )
            + _only(among),
            None if among is None else (among,),
        ).fetchone()
        assert row is not None
        rows, *ones = row
        _check_rows(version, self.rows, rows)
        if ones != self.ones:
            raise _others(version)


# How many bits are set in each byte.
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


def probe_of(version: VersionRow) -> Probe | BitProbe:
    """Return a probe for a version's kind of vectors."""
    return (BitProbe if version.precision is Precision.BIT else Probe)(version.dim)


def _only(among: Any) -> sql.SQL:
    return sql.SQL("" if among is None else " WHERE id = ANY (%s)")


def _check_rows(version: VersionRow, sent: int, held: int) -> None:
    if held != sent:
        raise LoadFailed(
            f"{version.ref}: sent {sent} rows but the server holds {held}; nothing is visible,"
            " run the load again"
        )


def _others(version: VersionRow) -> LoadFailed:
    return LoadFailed(
        f"{version.ref}: the vectors that the server holds are not those that were sent; nothing"
        " is visible, run the load again"
    )
