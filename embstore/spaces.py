"""Spaces: which vectors may be compared with each other.

A training draws its own axes: users of run 8 against items of run 7 give numbers, and nonsense. A
version says of which training it is by its ``space``; and versions that one release made live
belong together, whatever they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .catalog import VersionRow
from .connection import Connection
from .errors import InvalidQuery, SpaceMismatch

# What else there is, in a message.
FORCED = ", or do it all the same with force=True (--force)"
# What trackers call the identifier of a run among its parameters.
_RUN_IDS = ("run_id", "mlflow.run_id", "mlflow_run_id")


def space_of(given: str | None, params: Mapping[str, Any]) -> str | None:
    """Return the space of a load: what is given, else the run among the trainer's parameters.

    Raises
    ------
    InvalidQuery
    """
    if given is not None:
        if not given.strip() or not given.isprintable():
            raise InvalidQuery(f"space {given!r} is no name: give that of the training run")
        return given
    return next((str(params[name]) for name in _RUN_IDS if params.get(name)), None)


def check_together(
    connection: Connection, a: VersionRow, b: VersionRow, otherwise: str = ""
) -> str | None:
    """Refuse to compare versions of two trainings; ``otherwise`` is what else can be done then.

    Returns
    -------
    str or None
        A sentence where nothing says that they are of one training, nor that they are not.

    Raises
    ------
    SpaceMismatch
        When they are known to be of different trainings, or their tables have been released
        together and these two have not.
    """
    if a.ref == b.ref or (a.space is not None and a.space == b.space):
        return None
    if a.space is not None and b.space is not None:
        raise SpaceMismatch(
            f"{a.ref} is of space {a.space} and {b.ref} of {b.space}: vectors of two trainings"
            f" cannot be compared; take versions of one{otherwise}"
        )
    row = connection.execute(
        "SELECT coalesce(bool_or(refs @> ARRAY[%(a)s, %(b)s]), false), count(*) FROM"
        " embstore.releases r WHERE (SELECT count(*) FROM unnest(r.refs) AS u (ref)"
        "  WHERE split_part(u.ref, '@', 1) IN (%(a_table)s, %(b_table)s)) = 2",
        {"a": a.ref, "b": b.ref, "a_table": a.table_name, "b_table": b.table_name},
    ).fetchone()
    together, releases = row or (False, 0)
    if together:
        return None
    if a.space is not None or b.space is not None:
        known, unknown = (a, b) if a.space is not None else (b, a)
        raise SpaceMismatch(
            f"{known.ref} is of space {known.space}, and {unknown.ref} does not say of which:"
            f" load it with its space, or release the two together{otherwise}"
        )
    if releases:
        raise SpaceMismatch(
            f"{a.ref} and {b.ref} were never released together, as other versions of"
            f" {a.table_name} and {b.table_name} were: they may be of two trainings; release them"
            f" together{otherwise}"
        )
    return (
        f"nothing says that {a.ref} and {b.ref} are of one training: load them with their space, or"
        " release them together"
    )
