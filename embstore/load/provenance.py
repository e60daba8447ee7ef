"""What a version remembers without being told: its sources, who loaded them, from where."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

from ..readers.base import Opened
from .options import Options

_SECRET_OPTION = re.compile(r"[\w-]*(password|passwd|secret|token|api-?key)[\w-]*", re.I)
_SECRETS = (
    # scheme://user:password@host, however odd the password is
    (re.compile(r"(\w[\w+.-]*://[^/@:]*):.*@", re.DOTALL), r"\1:***@"),
    (
        re.compile(
            r"((?:password|passwd|secret|token|api[-_]?key)\w*\s*[=:]\s*)('(?:[^'\\]|\\.)*'|\S+)",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
)
# Whoever has a signed URL can read what it names.
_SIGNED = (
    re.compile(r"\b((?!postgres|mysql|sqlite)\w[\w+.-]*://[^\s?'\"]*)\?[^\s'\"]*"),
    r"\1?***",
)
_LONGEST = 4000
_PATIENCE = 2.0


def provenance(origins: Sequence[Opened], options: Options) -> dict[str, object]:
    """Return what the catalog keeps of where the vectors came from.

    Of several sources each is kept under ``parts``. What cannot be found out is left out:
    ``command``, ``user``, ``host``, and ``git_commit`` of the working directory, which ends in
    ``-dirty`` when it has changes.
    """
    known = [{"name": each.name, **each.provenance, **each.later()} for each in origins]
    found = {
        "note": options.note,
        "command": command(sys.argv),
        "user": _user(),
        "host": platform.node(),
        "git_commit": _commit(),
    }
    return {
        **(known[0] if len(known) == 1 else {"name": known[0]["name"], "parts": known}),
        **{name: value for name, value in found.items() if value},
    }


def command(arguments: Sequence[str]) -> str:
    """Return a command line without the secrets in it.

    >>> command(["load", "--url", "postgresql://me:secret@host/db"])
    'load --url postgresql://me:***@host/db'
    """
    shown = []
    hide = False
    for each in arguments:
        plain = "***" if hide else each
        for pattern, replacement in (*_SECRETS, _SIGNED):
            plain = pattern.sub(replacement, plain)
        # A quoting of the stars would only look odd.
        shown.append(plain if plain == "***" or "***@" in plain else shlex.quote(plain))
        hide = each.startswith("-") and _SECRET_OPTION.fullmatch(each) is not None
    return " ".join(shown)[:_LONGEST]


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's number without a name
        return str(os.getuid())


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
