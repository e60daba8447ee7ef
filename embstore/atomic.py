"""Files that are there when they are whole: written aside, synced to the disk, then renamed."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import AlreadyExists, BadInput, EmbstoreError

# Not ".partial", which in a cache of replicas is a folder.
_ASIDE = ".aside"


@contextmanager
def written(*targets: str | os.PathLike[str], overwrite: bool = True) -> Iterator[list[Path]]:
    """Give an empty file aside for each target, to be filled in the block; then rename them.

    Whatever ends the block early, the targets stay as they were and nothing else is left; what a
    killed process left of the same targets is removed by the next one.

    Parameters
    ----------
    targets : paths in one folder
        Where there are several, they belong together: the first appears last, and a file that it
        replaces goes first, so that it never stands beside others than its own.
    overwrite : bool
        Replace what is there.

    Raises
    ------
    AlreadyExists
        Before the block and after it.
    BadInput
        When they cannot be written.
    """
    # What a link points to is replaced, not the link: /dev/stdout is one.
    paths = [Path(os.path.realpath(each)) for each in targets]
    held: list[tuple[int, Path]] = []
    try:
        for path, target in zip(paths, targets, strict=True):
            _check(path, target, overwrite)
            _sweep(path)
            held.append(_begun(path))
        yield [aside for _, aside in held]
        for number, _ in held:
            os.fsync(number)
        _publish([aside for _, aside in held], paths, targets, overwrite)
    except EmbstoreError:  # of which some are OSErrors too, such as a lost connection
        raise
    except OSError as error:
        raise unwritable(targets[0], error) from error
    finally:
        for number, aside in held:
            with suppress(FileNotFoundError):
                aside.unlink()
            os.close(number)


def unwritable(target: str | os.PathLike[str], error: OSError) -> BadInput:
    """Build the error for a file that cannot be written."""
    name = os.fspath(target)
    return BadInput(f"{name} cannot be written: {error.strerror or error}", source=name)


def _check(path: Path, target: str | os.PathLike[str], overwrite: bool) -> None:
    name = os.fspath(target)
    if not path.exists():
        return
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise BadInput(f"{name} cannot be written: it is {what}; name a file", source=name)
    if not overwrite:
        raise AlreadyExists(
            f"{name} is there already: give another name, or overwrite=True (--overwrite) to"
            " replace it"
        )


def _begun(path: Path) -> tuple[int, Path]:
    """Make the file aside, locked as long as its writer lives."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_ASIDE}")
    number = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with suppress(OSError):  # some network file systems have no locks
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return number, aside


def _sweep(path: Path) -> None:
    """Remove the files aside that nobody writes any more."""
    start = f".{path.name}."
    for left in path.parent.iterdir():
        if left.name.startswith(start) and left.name.endswith(_ASIDE):
            with suppress(OSError), left.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


def _publish(
    asides: list[Path],
    paths: list[Path],
    targets: tuple[str | os.PathLike[str], ...],
    overwrite: bool,
) -> None:
    folder = os.open(paths[0].parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)  # two writers' pairs do not mix
        for path, target in zip(paths, targets, strict=True):
            _check(path, target, overwrite)
        for aside, path in zip(asides, paths, strict=True):
            if path.exists():
                aside.chmod(stat.S_IMODE(path.stat().st_mode))
        if len(paths) > 1:
            paths[0].unlink(missing_ok=True)
        for aside, path in reversed(list(zip(asides, paths, strict=True))):
            aside.replace(path)
        os.fsync(folder)
    finally:
        os.close(folder)
