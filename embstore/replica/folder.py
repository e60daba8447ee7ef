"""Where replicas are: one folder each in a cache folder, under a name no other version has."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import psycopg

from ..catalog import VersionRow
from ..connection import Connection
from ..errors import EmbstoreError, NotFound, ReplicaDamaged
from .manifest import NAME

PARTIAL = ".partial"
_LOCK = ".lock"


def cache(given: object) -> Path:
    """Return the cache folder, which is made if it is not there.

    Raises
    ------
    ReplicaDamaged
        When it cannot be made.
    """
    default = platformdirs.user_cache_path("embstore", appauthor=False) / "replicas"
    path = default if given is None else Path(str(given))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def unwritable(path: Path, error: OSError) -> EmbstoreError:
    """Build the error for a folder that cannot be written."""
    return ReplicaDamaged(
        f"{path} cannot be written ({error.strerror or error}): make room or give another folder",
        path=str(path),
    )


def identity(connection: Connection, address: str) -> str:
    """Return which store this is: the cluster's identifier and the database's, or else where it is.

    A standby has its primary's; a copy by dump and restore has its own.
    """
    try:
        row = connection.execute(
            "SELECT system_identifier, (SELECT oid FROM pg_database"
            " WHERE datname = current_database()) FROM pg_control_system()"
        ).fetchone()
        text = f"{row}"
    except psycopg.errors.InsufficientPrivilege:  # some hosted servers
        text = address
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def name(store: str, version: VersionRow) -> str:
    """Return the folder's name: ``items@7-`` and a digest of the store and the content."""
    text = f"{store} {version.ref} {version.checksum}"
    return f"{version.ref}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def located(path: Path) -> Path:
    """Return the replica's folder: this one, or the only one in it.

    Raises
    ------
    NotFound
    """
    if (path / NAME).exists():
        return path
    inside = sorted(each.parent for each in path.glob(f"*/{NAME}")) if path.is_dir() else []
    if len(inside) == 1:
        return inside[0]
    if inside:
        listed = ", ".join(each.name for each in inside)
        raise NotFound(f"{path} holds several replicas: open one of {listed}")
    raise NotFound(f"{path} holds no replica: there is no {NAME}")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only one who writes this replica; wait for another who does."""
    try:
        with (folder.parent / f".{folder.name}{_LOCK}").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise unwritable(folder, error) from error


def sweep(where: Path) -> None:
    """Remove what killed writers left: half-written folders that nobody holds the lock of."""
    for left in where.glob(f".*{PARTIAL}"):
        lock = where / f"{left.name.removesuffix(PARTIAL)}{_LOCK}"
        with suppress(OSError), lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(left)


def aside(folder: Path) -> Path:
    """Return an empty folder beside this one, to be renamed to it."""
    path = folder.parent / f".{folder.name}{PARTIAL}"
    remove(path)
    path.mkdir()
    return path


def remove(folder: Path) -> None:
    """Remove a folder; who has its files mapped keeps them."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
