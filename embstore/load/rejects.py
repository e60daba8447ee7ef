"""The rows that a load leaves out: counted, listed in a file, and too many of them end it."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ..errors import BadInput, InvalidQuery
from ..readers.sieve import Place, Sieve
from .options import Options

COLUMNS = ("source", "row", "id", "reason")


def allowed(on_bad: str) -> int | None:
    """Return how many rows may be left out: 0 for ``reject``, None for any number.

    Raises
    ------
    InvalidQuery
        When it is neither ``reject``, ``skip`` nor ``abort-after=N``.
    """
    if on_bad in {"reject", "skip"}:
        return 0 if on_bad == "reject" else None
    found = re.fullmatch(r"abort-after=([0-9]{1,18})", str(on_bad), re.ASCII)
    if found is None:
        raise InvalidQuery(f"{on_bad!r} is no policy: use reject, skip or abort-after=N")
    return int(found[1])


class Rejects:
    """The bad rows of one load.

    Attributes
    ----------
    count : int
        How many there are so far.
    """

    def __init__(self, options: Options, file: TextIO | None) -> None:
        self.skips = options.on_bad != "reject"
        self.count = 0
        self._limit = allowed(options.on_bad)
        self._path = options.rejects
        self._rows = None if file is None else csv.writer(file, lineterminator="\n")
        self._first = ""
        self._write(*COLUMNS)

    def sieve(self) -> Sieve:
        """Return what sifts one source."""
        return Sieve(self.note if self.skips else None)

    def note(self, place: Place, row: int, key: Any, problem: str) -> None:
        """Count a row (from 0) that is left out, and write it down.

        Raises
        ------
        BadInput
            When it is one too many.
        """
        self.count += 1
        self._write(place.source, place.first + row, "" if key is None else key, problem)
        described = place.describe(row, key, problem)
        self._first = self._first or described
        if self._limit is not None and self.count > self._limit:
            listed = "" if self._path is None else f" ({os.fspath(self._path)} lists them)"
            raise BadInput(
                f"{described}; that is one more than the {self._limit} bad rows allowed: mend or"
                f" remove them{listed} and load again",
                source=place.source,
                row=place.first + row,
                id=key,
            )

    def summary(self, rows: int) -> str | None:
        """Return a sentence about the rows that were left out of ``rows``; None if none was."""
        if not self.count:
            return None
        rejected = f"{self.count:,} of {rows:,} rows rejected"
        if self._path is not None:
            return f"{rejected}: {os.fspath(self._path)}"
        return f"{rejected}, the first is {self._first}; --rejects FILE (rejects=) lists them"

    def _write(self, *values: object) -> None:
        if self._rows is not None:
            with _writing(self._path):
                self._rows.writerow(values)


@contextmanager
def opened(options: Options, sources: Sequence[object]) -> Iterator[Rejects]:
    """Begin the list of bad rows, before anything is read.

    Raises
    ------
    InvalidQuery
        When its file cannot be written, or is one that is to be loaded.
    """
    if options.rejects is None:
        yield Rejects(options, None)
        return
    path = Path(options.rejects).expanduser()
    if options.on_bad == "reject":
        raise InvalidQuery(
            "rejects= (--rejects) lists the rows that are left out: add on_bad='skip' or"
            " 'abort-after=N' (--on-bad)"
        )
    for each in (*sources, options.ids, options.data, options.attributes):
        if isinstance(each, str | os.PathLike) and _same(path, each):
            raise InvalidQuery(
                f"{path} is to be loaded, so it cannot be the file of rejects: name another"
            )
    with _writing(path):
        file = path.open("w", newline="", encoding="utf-8", errors="backslashreplace")
    try:
        yield Rejects(options, file)
    finally:
        with _writing(path):
            file.close()


@contextmanager
def _writing(path: str | os.PathLike[str] | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidQuery(
            f"{path}: the rejects cannot be written there ({error.strerror}); name another file"
        ) from error


def _same(path: Path, other: str | os.PathLike[str]) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False
