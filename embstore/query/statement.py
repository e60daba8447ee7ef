"""The statements of a search.

The settings of an index scan travel inside the statement: a sub-select that stands by itself runs
before the scan opens, and sets them for the statement's own transaction. That costs no further
round trip (a transaction with SET LOCAL costs three, or half of the query's time again), and
leaves nothing behind in the session, so it also works behind a pooler in transaction mode.

::

    SELECT id, embedding <=> $1 AS distance FROM emb.items_v7
    WHERE (SELECT set_config('hnsw.ef_search', '100', true)) IS NOT NULL AND ...
      AND year >= $2
    ORDER BY distance LIMIT 10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from ..connection import Engine
from ..index.build import expression
from ..types import IdType, Index, Metric, Precision
from .filter import Filter
from .target import Target, column


@dataclass(frozen=True)
class Scan:
    """How the rows are gone through.

    Attributes
    ----------
    index : Index or None
        None compares with every row.
    settings : tuple of (name, value)
        Of Postgres, for the statement.
    """

    index: Index | None = None
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """What its statement depends on."""
        own = self.index and (self.index.name, self.index.search.get("oversample"))
        return own, self.settings

    @property
    def exact(self) -> bool:
        """Whether every row is compared."""
        return self.index is None

    def rounded(self, target: Target) -> bool:
        """Whether the index holds less than the vectors, so that the rows are ranked again."""
        return self.index is not None and self.index.precision is not target.precision

    def ordered(self, target: Target) -> bool:
        """Whether the rows come best first, a longer search beginning like a shorter one."""
        if self.index is None:
            return True
        return self.index.kind == "hnsw" and not self.rounded(target)


def search(
    engine: Engine,
    target: Target,
    by: str,
    scan: Scan,
    wanted: int,
    chosen: Filter | None,
    show: Sequence[str],
) -> bytes:
    """Compose a search by one ``vector``, by one stored ``id``, or by ``vectors``.

    Rows are id, distance, version if the target is live, shown...; of several vectors they are
    packed into one: places (int4), ids, distances (float8), shown...
    """
    many = by == "vectors"
    kind = engine.type("bit" if target.metric.of_bits else "vector")
    own = sql.SQL(_OWN[by]).format(kind=kind, relation=target.relation)
    if target.precision is Precision.FLOAT16 and by != "id":
        own = sql.SQL("{}::{}").format(own, engine.type("halfvec"))
    distance = sql.SQL("embedding {} {}").format(_operator(engine, target.metric), own)
    beside = [*([] if target.row or many else ["version"]), *show]
    conditions: list[sql.Composable] = [
        sql.SQL("(SELECT set_config({}, {}, true)) IS NOT NULL").format(
            sql.Literal(name), sql.Literal(value)
        )
        for name, value in scan.settings
    ]
    if chosen is not None:
        conditions.append(chosen.clause)
    parts = {
        "columns": sql.SQL(", ").join(
            [sql.SQL("id, {} AS distance").format(distance), *map(column, beside)]
        ),
        "where": sql.SQL("")
        if not conditions
        else sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions)),
        "limit": sql.Literal(wanted),
    }
    key = sql.SQL('id COLLATE "C"' if target.id_type is IdType.TEXT else "id")
    if scan.index is None:
        # The sum keeps the planner from matching the expression to an index.
        rows = sql.SQL(
            "SELECT {columns} FROM {relation}{where} ORDER BY ({distance}) + 0, {key} LIMIT {limit}"
        ).format(relation=target.relation, distance=distance, key=key, **parts)
    elif scan.ordered(target):
        rows = sql.SQL(
            "SELECT {columns} FROM {relation}{where} ORDER BY distance LIMIT {limit}"
        ).format(relation=target.relation, **parts)
    else:
        rows = sql.SQL(
            "SELECT {columns} FROM (SELECT * FROM {relation}{where} ORDER BY {first} LIMIT {more})"
            " AS c ORDER BY ({distance}) + 0, {key} LIMIT {limit}"
        ).format(
            relation=target.relation,
            first=_indexed(engine, target, scan.index, own),
            more=sql.Literal(wanted * scan.index.search["oversample"]),
            distance=distance,
            key=key,
            **parts,
        )
    return (_packed(target, rows, show, kind) if many else rows).as_bytes(None)


# What the query vector is, for each way of asking.
_OWN = {
    "vector": "%(_q)s::{kind}",
    "id": "(SELECT embedding FROM {relation} WHERE id = %(_q)s)",
    "vectors": "q.own",
}


def _operator(engine: Engine, metric: Metric) -> sql.Composed:
    # A percent sign by itself would begin a parameter.
    return engine.operator(metric.operator.replace("%", "%%"))


def _indexed(engine: Engine, target: Target, index: Index, own: sql.Composable) -> sql.Composable:
    """Return the expression that the index is on, compared with the query."""
    assert target.row is not None
    stored = expression(engine, target.row, index.precision)
    operator = _operator(engine, target.metric)
    if index.precision is not target.precision:
        if index.precision is Precision.FLOAT16:
            if target.metric is not Metric.L2:
                # Its length changes nothing in the order, and may be beyond float16.
                own = sql.SQL("{}.l2_normalize({})").format(engine.schema, own)
            own = sql.SQL("({})::{}").format(own, engine.type("halfvec", target.dim))
        else:
            operator = _operator(engine, Metric.HAMMING)
            own = sql.SQL("{}.binary_quantize({})::{}").format(
                engine.schema, own, engine.type("bit", target.dim)
            )
    return sql.SQL("{} {} {}").format(stored, operator, own)


def _packed(
    target: Target, rows: sql.Composable, show: Sequence[str], kind: sql.Composable
) -> sql.Composed:
    """Run ``rows`` for each of several vectors, and pack what they give into one row.

    numpy takes a packed value apart in one step; rows by themselves cost Python a microsecond each.
    """
    ids = "string_agg(int8send(r.id), '')" if target.id_type is IdType.BIGINT else "array_agg(r.id)"
    return sql.SQL(
        "SELECT string_agg(int4send(q.place::integer), ''), {ids},"
        " string_agg(float8send(r.distance), ''){shown}"
        " FROM unnest(%(_q)s::{kind}[]) WITH ORDINALITY AS q (own, place)"
        " CROSS JOIN LATERAL ({rows}) AS r"
    ).format(
        ids=sql.SQL(ids),
        shown=sql.SQL("").join(
            sql.SQL(", array_agg({})").format(sql.Identifier("r", each.replace("%", "%%")))
            for each in show
        ),
        kind=kind,
        rows=rows,
    )
