"""The sha256 of a file, taken while it is loaded."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .source import CHUNK


@contextmanager
def sha256(path: Path) -> Iterator[Future[str]]:
    """Compute in a thread, which ends early if the context does.

    The file is read a second time, mostly out of the page cache: taking the hash of what the
    parser reads would put every byte through Python, and miss what it skips.
    """
    over = threading.Event()

    def compute() -> str:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while not over.is_set() and (chunk := file.read(CHUNK)):
                digest.update(chunk)
        return digest.hexdigest()

    with ThreadPoolExecutor(1, "embstore-sha256") as thread:
        try:
            yield thread.submit(compute)
        finally:
            over.set()
