"""The mean of the nearest trained rows by their attributes.

M. Grbovic and H. Cheng, "Real-time Personalization using Embeddings for Search Ranking at Airbnb",
KDD 2018, section 3.4: a new listing gets the mean vector of the 3 geographically closest listings
that have one, of the same type and price bucket; it covered 98% of the new listings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from psycopg import sql

from ..connection import translated
from ..errors import InvalidQuery
from ..load.attributes import to_stored
from ..query.filter import of_conditions
from ..query.target import column
from ..query.where import Condition, conditions
from ..readers.sieve import Place, Sieve
from ..relations import version_table
from ..types import Attribute, Origin
from .made import Made, column_of, empty

if TYPE_CHECKING:
    from ..connection import Engine
    from ..version import Version

# New rows of one statement, each joined with all trained rows that match it.
_BLOCK = 500


def mean_of_neighbours(
    version: Version,
    new: pa.Table,
    *,
    match: Sequence[str] = (),
    near: Mapping[str, float] | None = None,
    where: object = None,
    k: int | None = 3,
    minimum: int = 1,
) -> Made:
    """Give each new row the mean of the k trained rows that are nearest by their attributes.

    Parameters
    ----------
    version : Version
    new : pyarrow.Table
        n new rows, with the attributes that are compared.
    match : sequence of str
        Attributes that must be equal: ``["type", "price_bucket"]``. A missing value equals none.
    near : mapping of attribute to float
        Attributes that are numbers, and by how much they may differ at most: ``{"price": 10}``;
        ``math.inf`` sets no limit. The nearest rows have the least sum of squared differences,
        each in units of its limit (if it has one); ties are broken by the id.
    where : mapping or conditions
        Which rows may be neighbours at all, as in ``Version.nearest``.
    k : int or None
        None takes all. Without ``near`` no row is nearer than another, and the least ids are taken.
    minimum : int
        With fewer neighbours a new row gets no vector.

    Returns
    -------
    Made
        ``vectors`` (n, dim); only rows of origin ``trained`` are averaged.

    Raises
    ------
    InvalidQuery
        Naming the attribute that cannot be compared.
    BadInput
        Naming the column that the new rows have not, or the row whose value cannot be compared.

    Notes
    -----
    The method of M. Grbovic and H. Cheng, KDD 2018, section 3.4.
    """
    near = dict(near or {})
    vectors = empty(version, len(new))
    if not (match or near or where):
        raise InvalidQuery("say what makes a neighbour: match, near or where")
    if minimum < 1 or (k is not None and k < minimum):
        raise InvalidQuery(f"minimum={minimum} and k={k}: 1 <= minimum <= k is needed")
    bounds = {name: _limit(name, limit) for name, limit in near.items()}
    types = {each.name: each for each in version.attributes}
    compared = [_compared(version, new, types, name, name in near) for name in (*match, *near)]
    statement, parameters = _statement(version, [*match], bounds, where, k, types)
    with translated(f"averaging rows of {version.ref}"), version._store.reading() as connection:
        for at in range(0, len(new), _BLOCK):
            places = range(at, min(len(new), at + _BLOCK))
            values: dict[str, Any] = {"place": list(places)}
            for number, each in enumerate(compared):
                values[f"c{number}"] = each.slice(at, _BLOCK).to_pylist()
            found = connection.execute(statement, parameters | values, binary=True).fetchall()
            for place, count, mean in found:
                if count >= minimum:
                    # What vector_send sends: the dim, a spare 0, then the components.
                    vectors[place] = np.frombuffer(mean, ">f4", offset=4)
    return Made(vectors, Origin.MEAN_OF_NEIGHBOURS)


def _limit(name: str, limit: object) -> float:
    if isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0:
        return float(limit)
    raise InvalidQuery(f"near={{{name!r}: {limit!r}}}: a number above 0 is needed, or infinity")


def _compared(
    version: Version, new: pa.Table, types: Mapping[str, Attribute], name: str, number: bool
) -> pa.Array:
    """Return a column of the new rows in the type of the version's attribute."""
    attribute = types.get(name)
    if attribute is None:
        have = ", ".join(types) or "none"
        raise InvalidQuery(f"{version.ref} has no attribute {name!r} to compare by: it has {have}")
    if number and attribute.type not in {"bigint", "double precision"}:
        raise InvalidQuery(f"near: {name!r} is {attribute.type}, and only numbers have a distance")
    if attribute.type == "jsonb":
        raise InvalidQuery(f"match: {name!r} holds JSON, which is not compared")
    values = column_of(new, name, version.ref)
    if number:
        attribute = Attribute(name, "double precision")
    # Ids only name a row that cannot be compared.
    ids = column_of(new, "id", version.ref)
    batch = pa.record_batch([values], [name])
    stored: pa.Array = Sieve().sift(
        batch, Place("new rows"), 0, lambda b: to_stored(b.column(0), attribute, ids)
    )
    return stored


def _statement(
    version: Version,
    match: Sequence[str],
    near: Mapping[str, float],
    where: object,
    k: int | None,
    types: Mapping[str, Attribute],
) -> tuple[sql.Composed, dict[str, Any]]:
    """Compose the query for a block of new rows, whose values are arrays c0, c1, ..."""
    engine: Engine = version._store.engine
    target = version._target()
    checked = (
        where
        if isinstance(where, tuple) and all(isinstance(each, Condition) for each in where)
        else conditions(where, target.columns, version.ref)
        if where is not None
        else ()
    )
    if "origin" in types:
        checked += (Condition("origin", "=", Origin.TRAINED.value),)
    chosen = of_conditions(checked)
    names = [sql.Identifier(f"c{number}") for number in range(len(match) + len(near))]
    kinds = [types[name].type for name in match] + ["double precision"] * len(near)
    given = [
        sql.SQL("%(place)s::bigint[]"),
        *(
            sql.SQL("{}::{}[]").format(sql.Placeholder(f"c{number}"), sql.SQL(kind))
            for number, kind in enumerate(kinds)
        ),
    ]
    own = [
        sql.SQL("{}::{} AS {}").format(column(name), sql.SQL(kind), alias)
        for name, kind, alias in zip((*match, *near), kinds, names, strict=True)
    ]
    joined = [sql.SQL("v.{0} = n.{0}").format(each) for each in names[: len(match)]]
    distances: list[sql.Composable] = []
    for each, limit in zip(names[len(match) :], near.values(), strict=True):
        difference = sql.SQL("(v.{0} - n.{0})").format(each)
        if math.isfinite(limit):
            bound = sql.SQL("abs{} <= {}").format(difference, sql.Literal(limit))
            scaled = sql.SQL("({} / {})").format(difference, sql.Literal(limit))
        else:
            bound, scaled = sql.SQL("{} IS NOT NULL").format(difference), difference
        joined.append(bound)
        distances.append(sql.SQL("power({}, 2)").format(scaled))
    order = [sql.SQL(" + ").join(distances)] if distances else []
    statement = sql.SQL(
        "WITH n AS MATERIALIZED (SELECT * FROM unnest({given}) AS n ({names})),"
        " v AS (SELECT {own} FROM {table}{where}),"
        " near AS (SELECT place, id FROM (SELECT n.place, v.id,"
        "  row_number() OVER (PARTITION BY n.place ORDER BY {order}) AS rank"
        "  FROM n JOIN v ON {joined}) AS r{most})"
        " SELECT near.place, count(*), {schema}.vector_send({schema}.avg(t.embedding::{kind}))"
        " FROM near JOIN {table} t USING (id) GROUP BY near.place"
    ).format(
        given=sql.SQL(", ").join(given),
        names=sql.SQL(", ").join([sql.Identifier("place"), *names]),
        own=sql.SQL(", ").join([sql.Identifier("id"), *own]),
        table=version_table(version.table, version.number),
        where=sql.SQL("") if chosen is None else sql.SQL(" WHERE {}").format(chosen.clause),
        order=sql.SQL(", ").join([*order, sql.SQL("v.id")]),
        joined=sql.SQL(" AND ").join(joined) if joined else sql.SQL("true"),
        most=sql.SQL("") if k is None else sql.SQL(" WHERE rank <= {}").format(sql.Literal(k)),
        schema=engine.schema,
        kind=engine.type("vector"),
    )
    return statement, chosen.parameters if chosen else {}
