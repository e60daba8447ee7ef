"""Gates: what must hold of a version before it goes live, as a person writes it.

``coverage>=0.99``, ``coverage(ratings_count)>=0.999``, ``overlap@10>=0.5``, ``recall@10>=0.95``,
``recall@10.p5(users)>=0.8``, ``norm_drift<=0.2``, ``duplicates<=0.01``, ``rows>=9000``, ``dim=64``,
``sql(SELECT count(*) = 0 FROM {new} WHERE title IS NULL)``; and ``items:rows>=9000``, of one table.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..catalog import table
from ..connection import Connection, translated
from ..errors import InvalidQuery

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
NEIGHBOURS, STATISTICS = 10, ("mean", "p5", "min")
# What a gate can measure, and what may stand in its parentheses.
MEASURES = {
    "coverage": "a numeric attribute that weighs the ids",
    "overlap": None,
    "recall": "a reference whose vectors are the queries",
    "norm_drift": None,
    "duplicates": None,
    "rows": None,
    "dim": None,
}
_OF_NEIGHBOURS = {"overlap", "recall"}

_GATE = re.compile(
    r"(?:(?P<table>[a-z]\w*)\s*:\s*)?"
    r"(?P<name>[a-z_]+)(?:@(?P<k>\d{1,4}))?(?:\.(?P<statistic>\w+))?(?:\((?P<argument>[^()]*)\))?"
    r"\s*(?P<op>>=|<=|==|=|>|<)\s*(?P<bound>\S+)"
)
_SQL = re.compile(
    r"(?:(?P<table>[a-z]\w*)\s*:\s*)?sql\((?P<argument>.*)\)"
    r"\s*(?:(?P<op>>=|<=|==|=|>|<)\s*(?P<bound>[^\s()]+))?",
    re.DOTALL,
)
_EXAMPLES = "coverage>=0.99, overlap@10>=0.5, recall@10>=0.95, rows>=9000"


@dataclass(frozen=True)
class Gate:
    """One condition.

    Attributes
    ----------
    text : str
        As it was written, without the table.
    table : str or None
        The table it is of; None for every table of the release.
    name : str
        A key of ``MEASURES``, or ``sql``.
    k : int
        Of ``overlap`` and ``recall``.
    statistic : {"mean", "p5", "min"}
        Of the queries' recall.
    argument : str or None
        What is in parentheses.
    op : str or None
        A key of ``OPERATORS``; None of a SQL query that returns true or false.
    bound : float or None
    """

    text: str
    table: str | None
    name: str
    k: int
    statistic: str
    argument: str | None
    op: str | None
    bound: float | None

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read a gate.

        Raises
        ------
        InvalidQuery
            Saying what is wrong with it.
        """
        written = text.strip()
        found = _SQL.fullmatch(written) or _GATE.fullmatch(written)
        if found is None:
            raise InvalidQuery(f"{text!r} is no gate: write {_EXAMPLES}")
        parts = found.groupdict()
        name = parts.get("name") or "sql"
        op = {"==": "="}.get(parts["op"], parts["op"])
        bound = None if parts["bound"] is None else _number(parts["bound"], text)
        argument = (parts["argument"] or "").strip() or None
        if name == "sql":
            if argument is None:
                raise InvalidQuery(f"{text!r} is no gate: put a query in the parentheses")
        elif name not in MEASURES:
            listed = ", ".join([*MEASURES, "sql(...)"])
            raise InvalidQuery(f"{text!r} is no gate: it can be of {listed}")
        elif argument is not None and MEASURES[name] is None:
            raise InvalidQuery(f"{text!r} is no gate: {name} takes nothing in parentheses")
        elif name not in _OF_NEIGHBOURS and parts["k"] is not None:
            raise InvalidQuery(f"{text!r} is no gate: {name} is of no neighbours, leave out the @")
        if parts.get("statistic") is not None and (
            name != "recall" or parts["statistic"] not in STATISTICS
        ):
            listed = ", ".join(f"recall@10.{each}" for each in STATISTICS)
            raise InvalidQuery(f"{text!r} is no gate: there are {listed}")
        k = int(parts.get("k") or NEIGHBOURS)
        if not 1 <= k <= 1000:
            raise InvalidQuery(f"{text!r} is no gate: k must be 1 to 1000")
        return cls(
            written[len(parts["table"]) :].lstrip(" :") if parts["table"] else written,
            parts["table"],
            name,
            k,
            parts.get("statistic") or "mean",
            argument,
            op,
            bound,
        )

    def holds(self, value: float | bool) -> bool:
        """Say whether a value passes."""
        if self.op is None or self.bound is None:
            return value is True
        return OPERATORS[self.op](float(value), self.bound)


def _number(written: str, text: str) -> float:
    try:
        value = float(written)
    except ValueError:
        value = float("nan")
    if value != value or "_" in written:
        raise InvalidQuery(f"{text!r} is no gate: {written!r} is no number")
    return value


@dataclass(frozen=True)
class GateResult:
    """What was measured for a gate.

    Attributes
    ----------
    ref : str
        The version that is to go live.
    gate : str
    value : float, bool or None
        None where there is nothing to compare with, and where it could not be measured.
    bound : float or None
    passed : bool
    note : str
        What it was measured on, or why it was not.
    """

    ref: str
    gate: str
    value: float | bool | None
    bound: float | None
    passed: bool
    note: str

    def as_json(self) -> dict[str, Any]:
        """Return it as the catalog keeps it."""
        return asdict(self)

    def __str__(self) -> str:
        value = self.note if self.value is None else f"is {self.value:.6g}"
        return f"{self.ref} {self.gate}: {value}"


def stored(connection: Connection, tables: Sequence[str]) -> dict[str, list[str]]:
    """Return the gates that are kept with tables, in the order of their names."""
    with translated("reading the gates"):
        rows = connection.execute(
            "SELECT table_name, array_agg(gate ORDER BY set_at, gate) FROM embstore.gates"
            " WHERE table_name = ANY (%s) GROUP BY 1",
            (list(tables),),
        ).fetchall()
    return dict(rows)


def keep(connection: Connection, name: str, gates: Iterable[str]) -> list[str]:
    """Keep these gates with a table in place of those that it has; none takes them away.

    Raises
    ------
    InvalidQuery, NotFound
    """
    wanted = list(dict.fromkeys(_own(Gate.parse(each), name, each) for each in gates))
    with translated(f"setting the gates of {name}"), connection.transaction():
        table(connection, name)
        connection.execute("DELETE FROM embstore.gates WHERE table_name = %s", (name,))
        connection.cursor().executemany(
            "INSERT INTO embstore.gates (table_name, gate, set_at, set_by)"
            " VALUES (%s, %s, clock_timestamp(), session_user)",
            [(name, each) for each in wanted],
        )
    return wanted


def _own(gate: Gate, name: str, text: str) -> str:
    if gate.table not in {None, name}:
        raise InvalidQuery(f"{text!r} is of {gate.table}: it cannot be a gate of {name}")
    return gate.text


def of_release(
    tables: Sequence[str], kept: Mapping[str, Sequence[str]], given: Sequence[str]
) -> dict[str, list[Gate]]:
    """Return the gates of each table of a release: those kept with it, and those given.

    Raises
    ------
    InvalidQuery
    """
    asked = [Gate.parse(each) for each in given]
    for each in asked:
        if each.table is not None and each.table not in tables:
            raise InvalidQuery(
                f"{each.table}:{each.text} is of a table that is not released here:"
                f" {', '.join(tables)}"
            )
    found = {}
    for name in tables:
        own = [Gate.parse(text) for text in kept.get(name, ())]
        own += [each for each in asked if each.table in {None, name}]
        found[name] = list({each.text: each for each in own}.values())
    return found
