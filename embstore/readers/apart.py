"""Arrays of a file that another process parses, because the parser may crash on what it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInput
from .arrays import Kind, row_blocks
from .source import FREE_BYTES, MAX_RATIO, File, read_exactly

_SCRIPTS = Path(__file__).parent / "children"
# Where a copy that was made aside has its path.
_OPEN_FILES = Path("/dev/fd")
_LONGEST_LINE = 64 << 20
# Rows of a block of texts, of which nobody knows the size before.
_TEXTS = 1024
# One more core would only make it start slower. HDF5 is to load no filters from elsewhere.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HDF5_PLUGIN_PRELOAD": "::",
}


class Apart:
    """A file that is open in a process of its own.

    Attributes
    ----------
    kinds : mapping of name to Kind
        The arrays that can be read; texts have the type ``U1``, whatever their length.
    skipped : mapping of name to str
        Those that cannot, and why.
    about : mapping
        Whatever else the script says of the file.
    """

    def __init__(
        self,
        file: File,
        script: str,
        memory: int,
        held: ExitStack,
        ratio: int | None = MAX_RATIO,
    ) -> None:
        """Start the process, which ``held`` stops.

        Parameters
        ----------
        script : str
            The module in ``children`` whose ``open_file`` parses.
        memory : int
            Bytes it may use.
        ratio : int or None
            Beyond so many times the file's size its arrays are no data; None where they may be.

        Raises
        ------
        BadInput
            When it cannot be parsed, or holds more than any data of its size.
        """
        self._name, self._ratio = file.name, ratio
        self._limit = None if ratio is None else max(FREE_BYTES, ratio * file.size)
        self._problems = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        path = file.local(held)
        aside = [int(path.name)] if path.parent == _OPEN_FILES else []
        scripts = [str(_SCRIPTS / f"{each}.py") for each in ("serve", script)]
        self._process = subprocess.Popen(
            # -P: the folder of the scripts must not come before the libraries.
            [sys.executable, "-P", *scripts, path, str(memory)],
            env=os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._problems,
            pass_fds=aside,
            pipesize=1 << 20,
        )
        held.callback(self._stop)
        self.about: Mapping[str, Any] = json.loads(self._line())
        self.kinds = {
            name: Kind(tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in self.about["arrays"].items()
        }
        self.skipped: Mapping[str, str] = self.about["skipped"]

    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """Read a matrix in blocks (n, dim).

        Raises
        ------
        BadInput
        """
        kind = self.kinds[name]
        self._check(name, kind)
        self._ask(name, max(1, (1 << 20) // max(1, kind.dtype.itemsize * kind.shape[1])))
        yield from row_blocks(self, kind.dtype, kind.shape, self._name)

    def whole(self, name: str) -> NDArray[Any]:
        """Read an array at once.

        Raises
        ------
        BadInput
        """
        kind = self.kinds[name]
        self._check(name, kind)
        if kind.dtype.kind == "U":
            return self._texts(name, kind.shape[0])
        count = int(np.prod(kind.shape, dtype=np.int64))
        self._ask(name, 1 << 16)
        data = read_exactly(self, count * kind.dtype.itemsize, self._name)
        return np.frombuffer(data, kind.dtype).reshape(kind.shape)

    def _texts(self, name: str, rows: int) -> NDArray[Any]:
        found: list[str] = []
        read = 0
        self._ask(name, _TEXTS)
        while len(found) < rows:
            line = self._line()
            read += len(line)
            if self._limit is not None and read > self._limit:
                raise self._bomb(name)
            found += json.loads(line)
        return np.array(found, object)

    def _ask(self, name: str, rows: int) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([name, rows]).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:
            raise self._bomb("a block of texts")
        if not line.endswith(b"\n"):
            raise self._failed()
        return line

    def read(self, count: int) -> bytes:
        """Return the next bytes of what was asked for."""
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise self._failed()
        return data

    def _check(self, name: str, kind: Kind) -> None:
        """Refuse what was never written: HDF5 makes up the chunks that are not there."""
        declared = kind.dtype.itemsize
        for each in kind.shape:
            declared *= each
        if self._limit is not None and declared > self._limit:
            raise self._bomb(name)

    def _bomb(self, name: str) -> BadInput:
        return BadInput(
            f"{self._name}: {name} unpacks to more than {self._ratio or MAX_RATIO} times the"
            " file's size: it is refused as a decompression bomb",
            source=self._name,
            column=name,
        )

    def _failed(self) -> BadInput:
        self._process.kill()
        code = self._process.wait()
        self._problems.seek(0)
        said = self._problems.read().decode(errors="replace").strip().split("\n")[-1]
        # A negative code is the signal that ended it; our own kill came after its exit.
        reason = said[:300].rstrip(".") if code in (1, 2) and said else "its parser crashed"
        more = "" if code == 2 else "; it is damaged or something else"
        return BadInput(f"{self._name} cannot be read: {reason}{more}", source=self._name)

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for each in (self._process.stdin, self._process.stdout):
            assert each is not None
            with suppress(BrokenPipeError):
                each.close()
