"""Files: what they are, how they are packed, and whether they stay as they were while read."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import BadInput, EmbstoreError, NotFound
from .places import Handle, Pipe, Place, place_of, shown

_MAGIC = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED_ENDINGS = {".gz", ".zst", ".zstd", ".gzip"}
CHUNK = 1 << 20
HEAD = 4096
# What must be read out of order is unpacked first; beyond this ratio it is no data. Small files
# may do as they like: numpy's zeros shrink a thousandfold.
MAX_RATIO = 200
FREE_BYTES = 64 << 20
_OTHERWISE = "it is damaged or something else (--format says what)"


@dataclass(frozen=True)
class File:
    """A file that somebody asked to load, on this machine, in a store, or out of a pipe.

    Attributes
    ----------
    name : str
        As the user typed it, without the secrets of a URL.
    place : Place
        Where its bytes are.
    size : int
        In bytes; -1 where only the end will tell.
    state : mapping
        When it was found; ``check_unchanged`` compares.
    packed : str or None
        ``gzip``, ``zstd`` or None.
    start : bytes
        Its first bytes, packed or not.
    """

    name: str
    place: Place
    size: int
    state: Mapping[str, object]
    packed: str | None
    start: bytes = field(repr=False)

    @classmethod
    def find(cls, given: object) -> File:
        """Look at a path, a URL or an open binary file.

        Raises
        ------
        NotFound, BadInput, ConnectionFailed
            When there is nothing, nothing that may be read, or no regular file.
        """
        name = shown(given) if isinstance(given, str | os.PathLike) else _name_of(given)
        try:
            place = place_of(given) if isinstance(given, str | os.PathLike) else _held(given, name)
            size, state = place.look()
            if size < 0 and not isinstance(place, Pipe):
                place = Pipe(place.stream(), name)
            with ExitStack() as held:
                stream = _opened(place, name, -1, held)
                start = bytes(stream.read(HEAD))
        except FileNotFoundError as error:
            raise NotFound(f"{name}: there is no such file") from error
        except EmbstoreError:
            raise
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadInput(f"{name} cannot be opened: {reason}", source=name) from error
        if not start:
            raise BadInput(f"{name} is empty: there is nothing to load", source=name)
        packed = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
        return cls(name, place, size, state, packed, start)

    @property
    def length(self) -> int | None:
        """Bytes of the content; None where only its end will tell, as where it is packed."""
        return self.size if self.packed is None and self.size >= 0 else None

    @property
    def ending(self) -> str:
        """The name's ending without the compression's: ``.npy`` of ``a.npy.gz``."""
        return ending_of(self.name)

    def head(self, count: int = HEAD) -> bytes:
        """Return the first bytes of the content."""
        if self.packed is None and (count <= len(self.start) or len(self.start) < HEAD):
            return self.start[:count]
        with reading(self.name, str(self.packed)), ExitStack() as held:
            return bytes(self.stream(held).read(count))

    def stream(self, held: ExitStack) -> Any:
        """Open the content as a binary stream, unpacked on the way; ``held`` closes it."""
        raw = _opened(self.place, self.name, self.size, held)
        if self.packed is None:
            return raw
        return held.enter_context(pa.CompressedInputStream(raw, self.packed))

    def seekable(self, held: ExitStack) -> Any:
        """Open the content for reading out of order; what cannot be is copied aside.

        Raises
        ------
        BadInput
            When it grows beyond all reason.
        """
        found = self.place.random() if self.packed is None else None
        if found is not None:
            native = found if isinstance(found, pa.NativeFile) else pa.PythonFile(found, mode="r")
            return held.enter_context(native)
        with ExitStack() as meanwhile:
            stream = self.stream(meanwhile)
            if self.size < 0:
                return _whole(stream, self.name, held)
            limit = self.size if self.packed is None else max(FREE_BYTES, MAX_RATIO * self.size)
            return aside(stream, self.name, limit, held)

    def local(self, held: ExitStack) -> Path:
        """Return a path for libraries that open files by themselves; else it is copied aside.

        Raises
        ------
        BadInput
            When it grows beyond all reason.
        """
        if self.packed is None and self.place.path is not None:
            return self.place.path
        with ExitStack() as meanwhile:
            stream = self.seekable(held if self.packed else meanwhile)
            if isinstance(stream, pa.NativeFile):
                stream = aside(stream, self.name, self.size, held)
            else:
                held.push(meanwhile.pop_all())
        return Path(f"/dev/fd/{stream.fileno()}")

    def sized(self, held: ExitStack) -> File:
        """Return this file, or a copy of it where only its end would tell its size."""
        if self.size >= 0:
            return self
        with ExitStack() as meanwhile:
            copy = _whole(_opened(self.place, self.name, -1, meanwhile), self.name, held)
        place = Handle(copy)
        place.digest = self.place.digest
        return replace(self, place=place, size=place.look()[0], state={})

    def guarded(self, batches: Iterator[pa.RecordBatch], what: str) -> Iterator[pa.RecordBatch]:
        """Pass on the batches; whatever goes wrong becomes one sentence that names this file.

        Raises
        ------
        BadInput
            When the file is damaged, or was written to while it was read.
        """
        try:
            with reading(self.name, what):
                yield from batches
        except EmbstoreError:
            self.check_unchanged()  # the better explanation, where it holds
            raise
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Refuse a file that was written to since it was found.

        Raises
        ------
        BadInput
        """
        now: object = None
        with suppress(OSError, NotFound, BadInput):
            now = self.place.look()
        if self.size >= 0 and now != (self.size, self.state):
            raise BadInput(
                f"{self.name} changed while it was read: load it when its writer is done",
                source=self.name,
            )

    def sha256(self) -> str | None:
        """Return the digest of the file as it lies there, packed or not.

        None for a remote file of which parts were read: it is not fetched twice.

        Raises
        ------
        BadInput
            When it was written to since it was found.
        """
        if self.place.path is None:
            return self.place.digest
        with self.place.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.check_unchanged()
        return digest

    def provenance(self, format: str) -> dict[str, object]:
        """Return what the catalog keeps of it."""
        told = {} if self.place.path is not None else self.state
        return {
            "format": format,
            "file": self.name.rpartition("/")[2],
            **({"bytes": self.size} if self.size >= 0 else {}),
            **({"compression": self.packed} if self.packed else {}),
            **told,
        }


def ending_of(name: str) -> str:
    """Return a name's ending in lower case, without a compression's."""
    path = Path(name)
    if path.suffix.lower() in _PACKED_ENDINGS:
        path = path.with_suffix("")
    return path.suffix.lower()


def is_file(given: object) -> bool:
    """Tell a path, a URL or an open file from other objects."""
    return isinstance(given, str | os.PathLike | io.IOBase | pa.NativeFile) or (
        callable(getattr(given, "read", None)) and not hasattr(given, "__arrow_c_stream__")
    )


def _name_of(opened: Any) -> str:
    name = getattr(opened, "name", None)
    if name == "<stdin>":
        return "stdin"
    return name if isinstance(name, str) and name else type(opened).__name__


def _held(opened: Any, name: str) -> Place:
    """Return an open binary file as a place."""
    if isinstance(opened, io.TextIOBase):
        raise BadInput(f"{name} is open as text: open it with 'rb'", source=name)
    if getattr(opened, "isatty", bool)():
        raise BadInput(f"{name} is a terminal: pipe a file into it", source=name)
    seekable = getattr(opened, "seekable", bool)
    return Handle(opened) if seekable() else Pipe(opened, name)


def _opened(place: Place, name: str, size: int, held: ExitStack) -> Any:
    """Open a stream that Arrow can take too."""
    raw = place.stream()
    if isinstance(raw, pa.OSFile):
        return held.enter_context(raw)
    return held.enter_context(pa.PythonFile(_Counted(raw, place, name, size), mode="r"))


class _Counted(io.RawIOBase):
    """A stream from elsewhere: it gives all that is asked for, and tells when it broke off."""

    def __init__(self, raw: Any, place: Place, name: str, size: int) -> None:
        super().__init__()
        self._raw, self._place, self._name, self._size = raw, place, name, size
        self._digest, self._count = hashlib.sha256(), 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes as asked for, fewer only at the end.

        Raises
        ------
        BadInput
            When the end comes early, or the connection breaks.
        """
        data = read_up_to(self._some, size)
        if size < 0 or len(data) < size:
            self._ended()
        return data

    def _some(self, count: int) -> bytes:
        try:
            data = bytes(self._raw.read(count))
        except EmbstoreError:
            raise
        except Exception as error:  # each store has its own
            reason = " ".join((str(error) or type(error).__name__).split())[:200].rstrip(".")
            raise BadInput(
                f"{self._name} broke off after {self._count} bytes ({reason}): load it again",
                source=self._name,
            ) from error
        self._digest.update(data)
        self._count += len(data)
        return data

    def _ended(self) -> None:
        if 0 <= self._count < self._size:
            raise BadInput(
                f"{self._name} broke off after {self._count} of {self._size} bytes: load it again",
                source=self._name,
            )
        self._place.digest = self._digest.hexdigest()

    def close(self) -> None:
        """Close the connection."""
        if not self.closed:
            self._raw.close()
        super().close()


@contextmanager
def reading(name: str, what: str, otherwise: str = _OTHERWISE) -> Iterator[None]:
    """Turn whatever a parser raises into one sentence about ``name``.

    Parameters
    ----------
    what : str
        What it was read as.
    otherwise : str
        How the sentence ends.
    """
    try:
        yield
    except EmbstoreError:
        raise
    # Parsers raise all kinds of exceptions on damaged bytes (zipfile alone has five), and a new
    # release of one may add another; the cause stays attached.
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:200].rstrip(".")
        raise BadInput(
            f"{name} cannot be read as {what}: {reason}; {otherwise}", source=name
        ) from error


def _whole(stream: Any, name: str, held: ExitStack) -> Any:
    """Copy aside what does not tell its size, as long as the disk has room."""
    folder = tempfile.gettempdir()
    limit = shutil.disk_usage(folder).free // 2
    problem = (
        f"{name} holds more than {limit} bytes, half of what is free in {folder}, and must be"
        " copied there to be read: save it as a file and load that"
    )
    return aside(stream, name, limit, held, problem)


def aside(stream: Any, name: str, limit: int, held: ExitStack, problem: str | None = None) -> Any:
    """Copy a stream into an unnamed temporary file, which can be read out of order.

    Raises
    ------
    BadInput
        When there is more than ``limit``, by default because it unpacks to that.
    """
    copy = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
    while chunk := stream.read(CHUNK):
        copy.write(chunk)
        if copy.tell() > limit:
            bomb = too_large(name, "; unpack it yourself if it is none")
            raise BadInput(problem, source=name) if problem else bomb
    copy.seek(0)
    return copy


def too_large(name: str, hint: str = "") -> BadInput:
    """Build the error for what unpacks to more than any data of its size."""
    return BadInput(
        f"{name} unpacks to more than {MAX_RATIO} times its size: it is refused as a decompression"
        f" bomb{hint}",
        source=name,
    )


def read_up_to(read: Callable[[int], bytes], size: int) -> bytes:
    """Read ``size`` bytes, fewer only at the end, all with -1; allocates no faster than they come.

    Parameters
    ----------
    read : callable
        Reads at most as many bytes as asked for, none at the end only.
    """
    parts: list[bytes] = []
    left = size
    while left and (part := read(CHUNK if left < 0 else min(left, 8 * CHUNK))):
        parts.append(part)
        left -= len(part) if left > 0 else 0
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_exactly(stream: Any, count: int, name: str) -> bytes:
    """Read ``count`` bytes, allocating no faster than they come.

    Raises
    ------
    BadInput
        When the stream ends before.
    """
    data = read_up_to(stream.read, count)
    if left := count - len(data):
        raise BadInput(f"{name} ends {left} bytes early: it is truncated", source=name)
    return data
