"""References: ``items``, ``items@7``, ``items@candidate``, ``items@2026-11-01T00:00:00Z``.

The server resolves them (``embstore.resolve``), so that psql, Python and the CLI agree; this
module only takes them apart and checks names before they travel.
"""

from __future__ import annotations

import re

from .errors import InvalidName

NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
RULE = "a lower-case letter, then at most 47 lower-case letters, digits or underscores"


def check_name(name: str, what: str = "table") -> str:
    """Return ``name`` if it obeys the naming rule.

    Raises
    ------
    InvalidName
        Naming the rule.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidName(f"{name!r} is no {what} name: it must be {RULE}")
    return name


def is_reference(text: str) -> bool:
    """Say whether a text can be a reference."""
    return NAME.fullmatch(text.partition("@")[0]) is not None


def split(ref: str) -> tuple[str, str | None]:
    """Take ``items@7`` apart into its table and what follows the ``@`` (None if nothing does).

    Raises
    ------
    InvalidName
        When the table's name breaks the rule or nothing follows the ``@``.
    """
    table, at, selector = str(ref).partition("@")
    check_name(table)
    if at and not selector:
        raise InvalidName(
            f"{ref!r} ends after the @: write {table}, {table}@7 or {table}@candidate"
        )
    return table, selector or None
