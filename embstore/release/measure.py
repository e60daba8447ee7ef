"""What gates measure, each in its own transaction: nothing is locked while it takes its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from ..catalog import VersionRow
from ..connection import snapshot, translated
from ..errors import EmbstoreError, InvalidQuery
from ..refs import is_reference
from ..relations import version_table
from .gates import Gate, GateResult

if TYPE_CHECKING:
    from ..store import Store

# Longer than any query that a gate should need, and short enough that a release is not held up.
SQL_TIMEOUT_S = 300
Measured = tuple["float | bool | None", str]


@dataclass(frozen=True)
class Case:
    """A gate, the version that is to pass it, and what is live instead.

    Attributes
    ----------
    together : mapping of table name to reference
        What else goes live in the same release: the queries of ``recall(users)``.
    """

    store: Store
    version: VersionRow
    live: VersionRow | None
    gate: Gate
    together: Mapping[str, str]


def measure(case: Case) -> GateResult:
    """Measure a gate; one that cannot be measured does not pass."""
    gate, ref = case.gate, case.version.ref
    try:
        value, note = _MEASURES[gate.name](case)
    except EmbstoreError as error:
        return GateResult(ref, gate.text, None, gate.bound, False, str(error))
    return GateResult(ref, gate.text, value, gate.bound, value is None or gate.holds(value), note)


_FIRST: Measured = (None, "nothing is live to compare with")


def _coverage(case: Case) -> Measured:
    from ..compare.measures import coverage

    if case.live is None:
        return _FIRST
    with case.store.reading() as connection:
        value = coverage(connection, case.live, case.version, case.gate.argument)
    return value, f"of the ids of {case.live.ref}"


def _overlap(case: Case) -> Measured:
    from ..compare.overlap import overlap

    if case.live is None:
        return _FIRST
    with case.store.reading() as connection:
        found = overlap(connection, case.live, case.version, case.gate.k)
    return found.mean, f"with {case.live.ref}, of {len(found):,} ids, ± {found.error:.3f}"


def _recall(case: Case) -> Measured:
    from ..evaluate.run import run

    if not case.version.indexes:
        return 1.0, "it has no index: every search is exact"
    queries = case.gate.argument
    if queries is not None:
        if not is_reference(queries):
            raise InvalidQuery(f"{queries!r} is no reference to take queries from")
        queries = case.together.get(queries, queries)
    index = case.version.indexes[0]
    own = index.search.get("probes", index.search.get("ef_search"))
    found = run(
        case.store,
        case.version.ref,
        queries,
        case.gate.k,
        sample=1000,
        seed=0,
        search=None if own is None else [own],
        write=False,
        progress=None,
    )
    used = found.used or found.settings[-1]
    return getattr(used, case.gate.statistic), f"of {found.count:,} queries: {found.queries}"


def _norm_drift(case: Case) -> Measured:
    from ..compare.measures import norm_drift, norms

    if case.live is None:
        return _FIRST
    engine = case.store.read_engine
    with case.store.reading() as connection:
        before, after = (norms(connection, engine, each) for each in (case.live, case.version))
    note = f"the median norm is {after.median:.4g}, in {case.live.ref} {before.median:.4g}"
    return norm_drift(before, after), note


def _duplicates(case: Case) -> Measured:
    from ..compare.measures import duplicates

    with case.store.reading() as connection:
        return duplicates(connection, case.store.read_engine, case.version), "of the rows"


def _rows(case: Case) -> Measured:
    return case.version.rows or 0, f"{case.live.ref} has {case.live.rows:,}" if case.live else ""


def _dim(case: Case) -> Measured:
    return case.version.dim, f"{case.live.ref} has {case.live.dim}" if case.live else ""


def _sql(case: Case) -> Measured:
    """Run a user's own query; ``{new}`` and ``{live}`` in it are the relations of the versions."""
    query = str(case.gate.argument)
    if "{live}" in query and case.live is None:
        return _FIRST
    with (
        case.store.reading() as connection,
        translated(f"the gate {case.gate.text}"),
        snapshot(connection),
    ):
        connection.execute(
            sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(SQL_TIMEOUT_S * 1000))
        )
        for name, row in (("{new}", case.version), ("{live}", case.live)):
            if row is not None:
                relation = version_table(row.table_name, row.version)
                query = query.replace(name, relation.as_string(connection))
        # With binary results one statement is all that the server takes.
        cursor = connection.execute(query.encode(), binary=True)
        rows = cursor.fetchmany(2) if cursor.description else []
    if len(rows) != 1 or len(rows[0]) != 1:
        raise InvalidQuery("its query must return one row of one column")
    (value,) = rows[0]
    if case.gate.op is None:
        if not isinstance(value, bool):
            raise InvalidQuery(
                f"its query returned {value!r}: it must return true or false, or be compared with"
                " a number"
            )
        return value, ""
    try:
        return float(value), ""
    except (TypeError, ValueError):
        raise InvalidQuery(f"its query returned {value!r}, which is no number") from None


_MEASURES: dict[str, Callable[[Case], Measured]] = {
    "coverage": _coverage,
    "overlap": _overlap,
    "recall": _recall,
    "norm_drift": _norm_drift,
    "duplicates": _duplicates,
    "rows": _rows,
    "dim": _dim,
    "sql": _sql,
}
