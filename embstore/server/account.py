"""Whose server it is: the operating-system user, the private files, the wheel's programs.

Postgres refuses to run as root; for root it runs as the system user ``embstore``, who must be
able to reach the home folder and the programs.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import ServerFailed

ROLE = "embstore"
SYSTEM_USER = "embstore"
_USERADD = ("useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent")


@dataclass(frozen=True)
class Account:
    """The operating-system user that the server runs as. What it owns, nobody else may enter."""

    name: str
    uid: int
    gid: int

    @property
    def admitted(self) -> list[str]:
        """Who is let in through the socket: the server's user, and root, who could be anybody."""
        return list(dict.fromkeys([self.name, pwd.getpwuid(0).pw_name]))

    def run(self, *command: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program as this user, apart from the caller's terminal, so that Ctrl-C spares it.

        The caller's locale and libpq variables do not reach it.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PG", "LC_", "LANG"))
        } | {"LC_ALL": "C"}
        dropped: Mapping[str, object] = (
            {"user": self.uid, "group": self.gid, "extra_groups": []} if is_root() else {}
        )
        done: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
            [str(each) for each in command],
            input=stdin,
            capture_output=True,
            env=environment,
            cwd="/",
            umask=0o077,
            encoding="utf-8",
            errors="replace",
            check=False,
            start_new_session=True,
            **dropped,
        )
        return done

    def folder(self, path: Path) -> None:
        """Make a private folder, or make sure that the one there is no other user's.

        Raises
        ------
        ServerFailed
        """
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        try:
            # Through a descriptor: a link planted here must not be followed.
            file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise ServerFailed(
                f"{path} is not a folder that {self.name} may use ({error.strerror}): remove it or"
                " set EMBSTORE_HOME to another folder"
            ) from error
        try:
            owner = os.fstat(file).st_uid
            if owner not in {self.uid, os.geteuid()}:
                raise ServerFailed(
                    f"{path} belongs to user {_name(owner)}: run embstore as that user or set"
                    " EMBSTORE_HOME to another folder"
                )
            self._own(file, 0o700)
        finally:
            os.close(file)

    def open(self, path: Path, flags: int = os.O_RDWR) -> int:
        """Open a private file, made if it is missing."""
        wanted = flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(path, wanted, 0o600)
        self._own(file, 0o600)
        return file

    def write(self, path: Path, text: str, *, for_clients: bool = False) -> None:
        """Write a private file in one step; ``for_clients``: to be read by the caller's user."""
        new = path.with_name(path.name + ".new")
        new.unlink(missing_ok=True)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as writer:
            writer.write(text)
            writer.flush()
            os.fsync(file)
            if not for_clients:
                self._own(file, 0o600)
        new.rename(path)

    def _own(self, file: int, mode: int) -> None:
        found = os.fstat(file)
        if is_root() and found.st_uid != self.uid:
            os.fchown(file, self.uid, self.gid)
        if stat.S_IMODE(found.st_mode) != mode:
            os.fchmod(file, mode)


def is_root() -> bool:
    """Tell whether Postgres would refuse to run as this user."""
    return os.geteuid() == 0


@cache
def account() -> Account:
    """Return the user that the server runs as; for root, ``embstore``, made if it is missing.

    Raises
    ------
    ServerFailed
        When it cannot be made, or the user has no name.
    """
    if is_root():
        return known() or _made()
    me = known()
    if me is None:
        raise ServerFailed(
            f"user id {os.geteuid()} has no name in /etc/passwd and Postgres wants one: add it, or"
            " give --url"
        )
    return me


def known() -> Account | None:
    """Return the server's user if there is one already; makes nothing."""
    try:
        entry = pwd.getpwnam(SYSTEM_USER) if is_root() else pwd.getpwuid(os.geteuid())
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _made() -> Account:
    # Another process may be making it, or hold the lock of the passwd file for a moment.
    for _ in range(5):
        with suppress(OSError):
            subprocess.run(
                [*_USERADD, "--shell", "/usr/sbin/nologin", SYSTEM_USER],
                check=False,
                capture_output=True,
            )
        if found := known():
            return found
        time.sleep(0.2)
    raise ServerFailed(
        f"Postgres does not run as root and the system user {SYSTEM_USER} could not be made: make"
        " it, run embstore as another user, or give --url"
    )


def unreachable(path: Path) -> Path | None:
    """Return the folder above ``path`` that the server's user may not pass through, if any."""
    if not is_root():
        return None
    who = known()
    for folder in reversed(path.parents):
        if not folder.exists():
            return None
        found = folder.stat()
        if who is not None and found.st_uid == who.uid:
            needed = stat.S_IXUSR
        elif who is not None and found.st_gid == who.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return folder
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
