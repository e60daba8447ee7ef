"""Files: what they are, how they are packed, and whether they stay as they were while read."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from ..errors import BadInput, EmbstoreError, NotFound

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED_ENDINGS = {".gz", ".zst", ".zstd", ".gzip"}
# Formats that must be read out of order are unpacked aside; beyond this ratio it is no data.
_MAX_RATIO = 200
_FREE_RATIO_BYTES = 64 << 20
CHUNK = 1 << 20


@dataclass(frozen=True)
class File:
    """A regular file that somebody asked to load.

    Attributes
    ----------
    name : str
        As the user typed it.
    size, modified : int
        When it was opened; ``unchanged`` compares.
    packed : str or None
        ``gzip``, ``zstd`` or None.
    """

    name: str
    path: Path
    size: int
    modified: int
    packed: str | None

    @classmethod
    def find(cls, given: str | os.PathLike[str]) -> File:
        """Look at a path.

        Raises
        ------
        NotFound, BadInput
            When there is nothing, nothing that may be read, or no regular file.
        """
        name = os.fspath(given)
        path = Path(name).expanduser()
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise BadInput(f"{name} is no regular file: give the path of a file", source=name)
            with path.open("rb") as file:
                head = file.read(4)
        except EmbstoreError:
            raise
        except FileNotFoundError as error:
            raise NotFound(f"{name}: there is no such file") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadInput(f"{name} cannot be opened: {reason}", source=name) from error
        if not found.st_size:
            raise BadInput(f"{name} is empty: there is nothing to load", source=name)
        packed = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        return cls(name, path, found.st_size, found.st_mtime_ns, packed)

    @property
    def ending(self) -> str:
        """The name's ending without the compression's: ``.npy`` of ``a.npy.gz``."""
        path = Path(self.name)
        if path.suffix.lower() in _PACKED_ENDINGS:
            path = path.with_suffix("")
        return path.suffix.lower()

    def head(self, count: int = 4096) -> bytes:
        """Return the first bytes of the content."""
        with self.reading("its compression"), self.stream() as stream:
            return stream.read(count)  # type: ignore[no-any-return]

    def stream(self) -> Any:
        """Open the content as a binary stream (a pyarrow file), unpacked on the way."""
        raw = pa.OSFile(str(self.path), "rb")
        return pa.CompressedInputStream(raw, self.packed) if self.packed else raw

    @contextmanager
    def seekable(self) -> Iterator[IO[bytes]]:
        """Open the content for reading out of order; a packed file is unpacked aside.

        Raises
        ------
        BadInput
            When it grows beyond all reason.
        """
        if not self.packed:
            with self.path.open("rb") as file:
                yield file
            return
        with tempfile.TemporaryFile() as aside:
            with self.stream() as stream:
                while chunk := stream.read(CHUNK):
                    aside.write(chunk)
                    if aside.tell() > max(_FREE_RATIO_BYTES, _MAX_RATIO * self.size):
                        raise BadInput(
                            f"{self.name} unpacks to more than {_MAX_RATIO} times its size: it is"
                            " refused as a decompression bomb; unpack it yourself if it is none",
                            source=self.name,
                        )
            aside.seek(0)
            yield aside

    @contextmanager
    def reading(self, as_what: str) -> Iterator[None]:
        """Turn whatever a parser raises into one sentence that names this file."""
        try:
            yield
        except EmbstoreError:
            raise
        except (
            pa.ArrowException,
            OSError,
            ValueError,
            TypeError,
            LookupError,
            EOFError,
            ArithmeticError,
            MemoryError,
            RecursionError,
            SyntaxError,
            NotImplementedError,
            struct.error,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            reason = " ".join((str(error) or type(error).__name__).split())[:200]
            raise BadInput(
                f"{self.name} cannot be read as {as_what}: {reason}; it is damaged or something"
                " else (--format says what)",
                source=self.name,
            ) from error

    def check_unchanged(self) -> None:
        """Refuse a file that was written to while it was read.

        Raises
        ------
        BadInput
        """
        try:
            now = self.path.stat()
        except OSError:
            now = None
        if now is None or (now.st_size, now.st_mtime_ns) != (self.size, self.modified):
            raise BadInput(
                f"{self.name} changed while it was read: load it when its writer is done",
                source=self.name,
            )

    def provenance(self, format: str) -> dict[str, object]:
        """Return what the catalog keeps of it."""
        return {
            "format": format,
            "bytes": self.size,
            **({"compression": self.packed} if self.packed else {}),
        }


def read_exactly(stream: Any, count: int, name: str) -> bytes:
    """Read ``count`` bytes.

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
