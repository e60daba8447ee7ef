"""Where bytes lie: on this machine, in an object store, on a web server, or coming through a pipe.

Each place says what state it is in, and opens a stream; some can be read out of order too.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa

from ..errors import BadInput, ConnectionFailed, EmbstoreError, NotFound
from ..optional import require

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ARROW = {"s3", "gs", "gcs"}
_WEB = {"http", "https"}
# Nobody who waits for a load wants to wait longer for a place that does not answer.
CONNECT_S, READ_S = 10, 60
# What a pipe keeps of its beginning, on disk: Arrow's text readers run up to 32 blocks of 4 MB
# ahead, and a format looks at the first block before it begins.
KEPT = 256 << 20
_REMOTE_BUFFER = 8 << 20


class Place:
    """Where a file's bytes are.

    Attributes
    ----------
    path : Path or None
        For libraries that open files by themselves.
    digest : str or None
        The sha256 of what a stream gave, once one was read from its first byte to its last.
    """

    path: Path | None = None
    digest: str | None = None

    def look(self) -> tuple[int, Mapping[str, object]]:
        """Return the size, -1 where only the end will tell, and what changes with the content."""
        return -1, {}

    def stream(self) -> Any:
        """Open a binary stream at the first byte."""
        raise NotImplementedError

    def random(self) -> Any:
        """Open it for reading out of order; None where that cannot be."""
        return None


def scheme_of(given: object) -> str | None:
    """Return ``s3`` of ``s3://bucket/key``, None for what is no URL."""
    found = _URL.match(given) if isinstance(given, str) else None
    return found[1].lower() if found else None


def shown(given: str | os.PathLike[str]) -> str:
    """Return a path as it was typed, and a URL without what may be secret in it.

    >>> shown("https://me:secret@host/a.npy?X-Amz-Signature=f00")
    'https://host/a.npy'
    """
    name = os.fsdecode(given)
    if scheme_of(name) in {None, "file"}:
        return name
    scheme, rest = name.split("://", 1)
    rest = re.split(r"[?#]" if scheme.lower() in _WEB else r"\?", rest)[0]
    host, slash, path = rest.partition("/")
    if "@" in path and ":" in host:  # a secret with a slash in it
        host, slash, path = path.rpartition("@")[2].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def place_of(given: str | os.PathLike[str]) -> Place:
    """Return the place that a path or URL names, without looking there.

    Raises
    ------
    BadInput, ConnectionFailed, MissingPackage
        When it is no URL that can be read, or its store cannot be reached.
    """
    name = os.fsdecode(given)
    scheme = scheme_of(name)
    if scheme is None:
        return Local(Path(name).expanduser(), name)
    if scheme == "file":
        return Local(Path(unquote(urlsplit(name).path)), name)
    if scheme in _WEB:
        return Web(name)
    return Remote(*filesystem_of(name), shown(name))


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return the Arrow filesystem of a URL and the path in it.

    The path is meant as it stands: ``%20`` in it is no space.

    Raises
    ------
    BadInput, ConnectionFailed, MissingPackage
    """
    scheme, rest = url.split("://", 1)
    rest, _, query = rest.partition("?")
    if not rest.strip("/"):
        raise BadInput(f"{shown(url)} names no file", source=shown(url))
    import pyarrow.fs as fs  # a hundredth of a second that local files need not wait

    with reaching(shown(url)):
        if scheme.lower() in _ARROW:
            bucket, slash, key = rest.partition("/")
            if scheme.lower() != "s3" and "retry_limit_seconds" not in query:
                # Its own limit is 15 minutes.
                query += f"{'&' if query else ''}retry_limit_seconds={CONNECT_S}"
            options = f"?{query}" if query else ""
            return tuple(fs.FileSystem.from_uri(f"{scheme}://{bucket}{slash}{quote(key)}{options}"))
        core = require("fsspec.core", "http")
        found, path = core.url_to_fs(url)
        return fs.PyFileSystem(fs.FSSpecHandler(found)), path


# What the stores' libraries say -> what to tell a person.
_REASONS = {
    r"protocol not known": "this kind of place is not known: give a path, s3://, gs://, http://,"
    " https://, or a scheme that fsspec knows",
    r"could not create a oauth2 access token|default credentials": "there are no credentials for"
    " it (gs://anonymous@BUCKET reads a public one)",
    r"access_denied|forbidden|permission_denied|\b40[13]\b|invalid_?access_?key|signature": "the"
    " credentials at hand may not read it",
    r"resolve|name or service not known|getaddrinfo": "the host name is not known",
    r"connect|timed? ?out|unavailable|network": "the server does not answer",
}


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Turn what a store's library raises into one sentence about the place.

    Raises
    ------
    NotFound, ConnectionFailed, BadInput
    """
    try:
        yield
    except EmbstoreError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{name}: there is no such file") from error
    except ImportError as error:
        raise BadInput(f"{name} cannot be opened: {_plain(error)}", source=name) from error
    except pa.ArrowInvalid as error:
        raise BadInput(f"{name} is no URL that can be read", source=name) from error
    except Exception as error:  # each store has its own
        said = _plain(error)
        if re.search(r"bucket '[^']*' not found|no_such_bucket|nosuchbucket", said, re.I):
            raise NotFound(f"{name}: there is no such bucket") from error
        reason = next((text for part, text in _REASONS.items() if re.search(part, said, re.I)), "")
        raise ConnectionFailed(f"{name} cannot be opened: {reason or said}") from error


def _plain(error: BaseException) -> str:
    """Return what an error says in one line, without the secrets of a URL in it."""
    said = " ".join((str(error) or type(error).__name__).split())
    return re.sub(r"\w+://[^\s'\"]+", lambda url: shown(url[0]), said)[:200].rstrip(".")


class Local(Place):
    """A regular file of this machine."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self._path, self._name = path, path, name

    def look(self) -> tuple[int, Mapping[str, object]]:
        """Return the size, and what changes with the content."""
        found = self._path.stat()
        # Opening a pipe would wait for its writer, so look before that.
        if not stat.S_ISREG(found.st_mode):
            if stat.S_ISDIR(found.st_mode):
                raise BadInput(f"{self._name} is a folder: name a file in it", source=self._name)
            raise BadInput(
                f"{self._name} is no regular file: give the path of a file, or pipe it in and"
                " say -",
                source=self._name,
            )
        state = {"device": found.st_dev, "inode": found.st_ino, "modified": found.st_mtime_ns}
        return found.st_size, state

    def stream(self) -> Any:
        """Open a binary stream at the first byte."""
        return pa.OSFile(str(self._path), "rb")

    def random(self) -> Any:
        """Open it for reading out of order."""
        return self.stream()


class Remote(Place):
    """A file in an object store, or wherever else Arrow or fsspec has a filesystem for."""

    def __init__(self, filesystem: Any, path: str, name: str) -> None:
        self._filesystem, self._path, self._name = filesystem, path, name

    def look(self) -> tuple[int, Mapping[str, object]]:
        """Return the size, and what changes with the content."""
        import pyarrow.fs as fs

        with reaching(self._name):
            found = self._filesystem.get_file_info(self._path)
        if found.type == fs.FileType.Directory:
            raise BadInput(f"{self._name} is a folder: name a file in it", source=self._name)
        if found.type == fs.FileType.NotFound:
            raise NotFound(f"{self._name}: there is no such file")
        size = -1 if found.size is None else int(found.size)
        return size, {"modified": found.mtime.isoformat()} if found.mtime else {}

    def stream(self) -> Any:
        """Open a binary stream at the first byte."""
        with reaching(self._name):
            return self._filesystem.open_input_stream(
                self._path, compression=None, buffer_size=_REMOTE_BUFFER
            )

    def random(self) -> Any:
        """Open it for reading out of order."""
        with reaching(self._name):
            return self._filesystem.open_input_file(self._path)


class Web(Place):
    """A file on a web server."""

    def __init__(self, url: str) -> None:
        self._url, self._name = url, shown(url)
        self._size = -1

    def look(self) -> tuple[int, Mapping[str, object]]:
        """Return the size, and what changes with the content."""
        with reaching(self._name), _cause(self._name):
            found = _web().info(self._url)
        self._size = -1 if found["size"] is None else int(found["size"])
        told = {"etag": "ETag", "modified": "Last-Modified"}
        return self._size, {name: found[each] for name, each in told.items() if each in found}

    def stream(self) -> Any:
        """Open a binary stream at the first byte."""
        with reaching(self._name), _cause(self._name):
            return _web().open(self._url, block_size=0, size=max(self._size, 1))

    def random(self) -> Any:
        """Open it for reading out of order; None where the server does not offer that."""
        if self._size < 1:
            return None
        found = _web().open(self._url, size=self._size)
        try:
            found.seek(self._size - 1)  # only an answer tells what a server can do
            found.read(1)
        except ValueError:
            found.close()
            return None
        found.seek(0)
        return found


@cache
def _web() -> Any:
    """Return fsspec's client: patient while bytes come, and without packing on the way."""
    require("aiohttp", "http")
    http = require("fsspec.implementations.http", "http")
    import aiohttp

    # Its own limit is 5 minutes for a whole download.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
    return http.HTTPFileSystem(
        client_kwargs={
            "timeout": timeout,
            "trust_env": True,
            "headers": {"Accept-Encoding": "identity"},
        }
    )


@contextmanager
def _cause(name: str) -> Iterator[None]:
    """Tell a file that is not there from a server that cannot be asked, which fsspec does not."""
    try:
        yield
    except FileNotFoundError as error:
        cause = error.__cause__
        status = getattr(cause, "status", None)
        if cause is None or status in {404, 410}:
            raise
        if status is not None and status not in {401, 403}:
            raise ConnectionFailed(
                f"{name} cannot be opened: the server answers {status}"
                f" {getattr(cause, 'message', '')}".rstrip()
            ) from error
        raise ConnectionError(str(cause) or type(cause).__name__) from error


class Reader(io.RawIOBase):
    """A binary stream over a function that reads ``count`` bytes at a place."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int = -1) -> None:
        super().__init__()
        self._read_at, self._size = read_at, size
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Tell whether it can be read out of order."""
        return self._size >= 0

    def tell(self) -> int:
        """Return where it stands."""
        return self._at

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere."""
        if not self.seekable():
            raise io.UnsupportedOperation("seek")
        self._at = max(0, to + {0: 0, 1: self._at, 2: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        data = self._read_at(self._at, len(buffer)) if len(buffer) else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class Handle(Place):
    """An open binary file that can be read out of order, from where it stands."""

    def __init__(self, opened: Any) -> None:
        self._opened, self._lock = opened, threading.Lock()
        self._start = opened.tell()

    def look(self) -> tuple[int, Mapping[str, object]]:
        """Return the size."""
        with self._lock:
            return self._opened.seek(0, io.SEEK_END) - self._start, {}

    def stream(self) -> Any:
        """Open a binary stream at the first byte."""
        return Reader(self._read_at, self.look()[0])

    def random(self) -> Any:
        """Open it for reading out of order."""
        return self.stream()

    def _read_at(self, at: int, count: int) -> bytes:
        with self._lock:
            self._opened.seek(self._start + at)
            return _bytes(self._opened.read(count))


class Pipe(Place):
    """What can be read once: its beginning is kept, so that its format can be told."""

    def __init__(self, opened: Any, name: str) -> None:
        self._opened, self._name, self._lock = opened, name, threading.Lock()
        self._kept = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this)
        weakref.finalize(self, self._kept.close)
        self._passed = 0

    def stream(self) -> Any:
        """Open a binary stream at the first byte; only one gets beyond what is kept."""
        return Reader(self._read_at)

    def _read_at(self, at: int, count: int) -> bytes:
        with self._lock:
            if at < min(self._passed, KEPT):
                self._kept.seek(at)
                return self._kept.read(min(count, KEPT - at))
            if at != self._passed:
                raise BadInput(
                    f"{self._name} has gone by and cannot be read again: save it as a file and"
                    " load that",
                    source=self._name,
                )
            data = _bytes(self._opened.read(min(count, KEPT - at) if at < KEPT else count))
            if at < KEPT:
                self._kept.seek(at)
                self._kept.write(data)
            self._passed += len(data)
            return data


def _bytes(data: Any) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview | pa.Buffer):
        raise TypeError("it gives text instead of bytes: open it with 'rb'")
    return bytes(data)
