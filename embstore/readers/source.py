"""Files: what they are, how they are packed, and whether they stay as they were while read."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..errors import BadInput, EmbstoreError, NotFound

_MAGIC = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED_ENDINGS = {".gz", ".zst", ".zstd", ".gzip"}
CHUNK = 1 << 20
# What must be read out of order is unpacked first; beyond this ratio it is no data. Small files
# may do as they like: numpy's zeros shrink a thousandfold.
MAX_RATIO = 200
FREE_BYTES = 64 << 20
_OTHERWISE = "it is damaged or something else (--format says what)"


@dataclass(frozen=True)
class File:
    """A regular file that somebody asked to load.

    Attributes
    ----------
    name : str
        As the user typed it.
    size, state : int, tuple
        When it was found; ``check_unchanged`` compares.
    packed : str or None
        ``gzip``, ``zstd`` or None.
    """

    name: str
    path: Path
    size: int
    state: tuple[int, ...]
    packed: str | None

    @classmethod
    def find(cls, given: str | os.PathLike[str]) -> File:
        """Look at a path.

        Raises
        ------
        NotFound, BadInput
            When there is nothing, nothing that may be read, or no regular file.
        """
        name = os.fsdecode(given)
        try:
            path = Path(name).expanduser()
            found = path.stat()
            # Opening a pipe would wait for its writer, so look before that.
            if not stat.S_ISREG(found.st_mode):
                raise BadInput(f"{name} is no regular file: give the path of a file", source=name)
            with path.open("rb") as file:
                head = file.read(4)
        except FileNotFoundError as error:
            raise NotFound(f"{name}: there is no such file") from error
        except EmbstoreError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadInput(f"{name} cannot be opened: {reason}", source=name) from error
        if not found.st_size:
            raise BadInput(f"{name} is empty: there is nothing to load", source=name)
        packed = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        return cls(name, path, found.st_size, _state(found), packed)

    @property
    def ending(self) -> str:
        """The name's ending without the compression's: ``.npy`` of ``a.npy.gz``."""
        path = Path(self.name)
        if path.suffix.lower() in _PACKED_ENDINGS:
            path = path.with_suffix("")
        return path.suffix.lower()

    def head(self, count: int = 4096) -> bytes:
        """Return the first bytes of the content."""
        with reading(self.name, str(self.packed)), ExitStack() as held:
            return bytes(self.stream(held).read(count))

    def stream(self, held: ExitStack) -> Any:
        """Open the content as a binary stream, unpacked on the way; ``held`` closes it."""
        raw = held.enter_context(pa.OSFile(str(self.path), "rb"))
        if self.packed is None:
            return raw
        return held.enter_context(pa.CompressedInputStream(raw, self.packed))

    def seekable(self, held: ExitStack) -> Any:
        """Open the content for reading out of order; a packed file is unpacked aside.

        Raises
        ------
        BadInput
            When it grows beyond all reason.
        """
        if self.packed is None:
            return self.stream(held)
        with ExitStack() as meanwhile:
            limit = max(FREE_BYTES, MAX_RATIO * self.size)
            return aside(self.stream(meanwhile), self.name, limit, held)

    def local(self, held: ExitStack) -> Path:
        """Return a path for libraries that open files by themselves; a packed one is copied aside.

        Raises
        ------
        BadInput
            When it grows beyond all reason.
        """
        if self.packed is None:
            return self.path
        copy = self.seekable(held)
        return Path(f"/dev/fd/{copy.fileno()}")

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
        try:
            now = _state(self.path.stat())
        except OSError:
            now = ()
        if now != self.state:
            raise BadInput(
                f"{self.name} changed while it was read: load it when its writer is done",
                source=self.name,
            )

    def sha256(self) -> str:
        """Return the digest of the file as it lies there, packed or not.

        Raises
        ------
        BadInput
            When it was written to since it was found.
        """
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.check_unchanged()
        return digest

    def provenance(self, format: str) -> dict[str, object]:
        """Return what the catalog keeps of it."""
        return {
            "format": format,
            "file": self.path.name,
            "bytes": self.size,
            **({"compression": self.packed} if self.packed else {}),
        }


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


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


def aside(stream: Any, name: str, limit: int, held: ExitStack) -> Any:
    """Copy a stream into an unnamed temporary file, which can be read out of order.

    Raises
    ------
    BadInput
        When there is more than ``limit``.
    """
    copy = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
    while chunk := stream.read(CHUNK):
        copy.write(chunk)
        if copy.tell() > limit:
            raise BadInput(
                f"{name} unpacks to more than {MAX_RATIO} times its size: it is refused as a"
                " decompression bomb; unpack it yourself if it is none",
                source=name,
            )
    copy.seek(0)
    return copy


def read_exactly(stream: Any, count: int, name: str) -> bytes:
    """Read ``count`` bytes, allocating no faster than they come.

    Raises
    ------
    BadInput
        When the stream ends before.
    """
    parts = []
    left = count
    while left:
        part = stream.read(min(left, 8 * CHUNK))
        if not part:
            raise BadInput(f"{name} ends {left} bytes early: it is truncated", source=name)
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
