"""Follow an alias with a replica: a thread asks the server, fetches beside the old, and swaps.

What was seen last is kept in the cache folder, so that a process that starts while the server is
down answers from there, and knows how old that is.
"""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from ..connection import parse
from ..errors import ConnectionFailed, EmbstoreError, ServerFailed
from ..query.ask import How
from ..query.target import Target
from ..reads import Reads
from ..refs import split
from ..server import default_home
from ..types import Features, IdType, Neighbors
from . import replicate
from .folder import cache, remove, writing
from .replica import Replica, open_replica

if TYPE_CHECKING:
    from ..store import Store

EVERY_S = 5.0


def follow(
    ref: str,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    url: str | None = None,
    store: Store | None = None,
    every: float = EVERY_S,
    index: str | None = None,
) -> Follower:
    """Answer from a replica of whatever an alias names now.

    Parameters
    ----------
    ref : str
        ``items`` or ``items@candidate``.
    cache_dir, index
        As of ``Version.replica``.
    url : str
        As of ``embstore.connect``.
    store : Store
        An open store instead; it is not closed.
    every : float
        Seconds between two looks at the alias.

    Returns
    -------
    Follower
        When there is a first replica: the alias's, or with the server down the one seen last.

    Raises
    ------
    ConnectionFailed
        When the server is down and nothing was seen before.
    NotFound, ReplicaDamaged, MissingPackage
    """
    return Follower(ref, cache(cache_dir), url, store, every, index)


class Follower(Reads):
    """Recall and lookup on the replica of an alias; made by ``embstore.follow``.

    No call waits for the server or for a download: it is answered by the replica that is there
    when it begins, and by that one alone. Use it in a ``with`` block, or ``close`` it.
    """

    def __init__(
        self,
        ref: str,
        folder: Path,
        url: str | None,
        store: Store | None,
        every: float,
        index: str | None,
    ) -> None:
        name, _ = split(ref)
        self._ref, self._cache, self._every, self._index = ref, folder, every, index
        self._follows, self._url, self._own = store, url, store is None
        where = store.url if store else url or os.environ.get("EMBSTORE_URL") or str(default_home())
        shown = str(parse(where)) if "://" in where else where
        digest = sha256(f"{shown} {ref}".encode()).hexdigest()[:12]
        self._memory = folder / f".{name}-{digest}.json"
        self._stopped = threading.Event()
        self._looking = threading.Lock()
        self._error: EmbstoreError | None = None
        try:
            self._look()
        except EmbstoreError as error:
            self._current, self._seen = self._recalled(error)
            self._error = error
        self._start()

    def __repr__(self) -> str:
        return f"<Follower of {self._ref}: {self.replica.ref}, seen {self.age:.0f} s ago>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def replica(self) -> Replica:
        """The replica that answers now; several calls on it are of one version."""
        if self._pid != os.getpid():  # a forked child has its parent's replica, not its thread
            self._follows = None if self._own else self._follows
            self._looking = threading.Lock()
            self._start()
        return self._current

    @property
    def age(self) -> float:
        """Seconds since the server last said that this version is what the alias names."""
        return max(0.0, time.time() - self._seen)

    @property
    def stale(self) -> bool:
        """Whether the last look at the alias, or the fetch it led to, failed."""
        return self._error is not None

    @property
    def error(self) -> EmbstoreError | None:
        """Why it failed."""
        return self._error

    def refresh(self) -> bool:
        """Look at the alias now, and wait for what that brings; whether the version changed.

        Raises
        ------
        EmbstoreError
            Of the server or of the fetch; calls are answered as before.
        """
        before = self.replica
        try:
            self._look()
        except EmbstoreError as error:
            self._error = error
            raise
        return self._current is not before

    def close(self) -> None:
        """Stop following; the replica goes on answering."""
        self._stopped.set()
        if self._pid == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join(timeout=self._every)
        if self._own and self._follows is not None:
            self._follows.close()

    def nearest(self, queries: object, k: int = 10, **how: Any) -> Neighbors:
        """Return what the replica's ``nearest`` does."""
        return self.replica.nearest(queries, k, **how)

    def similar(self, ids: object, k: int = 10, **how: Unpack[How]) -> Neighbors:
        """Return what the replica's ``similar`` does."""
        return self.replica.similar(ids, k, **how)

    def lookup(self, ids: object, missing: str = "raise", *, show: Sequence[str] = ()) -> Features:
        """Return what the replica's ``lookup`` does."""
        return self.replica.lookup(ids, missing, show=show)

    @property
    def id_type(self) -> IdType:
        """``bigint`` or ``text``."""
        return self.replica.id_type

    def _target(self) -> Target:
        return self.replica._target()

    def _look(self) -> None:
        """Ask which version the alias names; fetch it if it is another, and answer with it."""
        from ..store import connect  # which imports the versions, and these the replicas

        with self._looking:
            if self._follows is None:
                self._follows = connect(self._url)
            version = self._follows[self._ref]
            now = getattr(self, "_current", None)
            if now is None or now.version.checksum != version.checksum or now.ref != version.ref:
                self._current = replicate(
                    self._follows, version._row, self._cache, index=self._index
                )
            self._seen, self._error = time.time(), None
            self._remember(self._current.path.name)

    def _remember(self, name: str) -> None:
        """Keep what was seen; of the versions followed the newest two stay on the disk."""
        known = self._memorised()
        now, before = known.get("now"), known.get("before")
        if now != name:
            others = [each for each in self._cache.glob(".*.json") if each != self._memory]
            if before not in {None, name} and not any(before in _text(each) for each in others):
                with writing(self._cache / before):
                    remove(self._cache / before)  # who has it mapped keeps it
            before = now
        aside = self._memory.with_suffix(f".{os.getpid()}.partial")
        aside.write_text(json.dumps({"now": name, "before": before, "seen": self._seen}))
        aside.rename(self._memory)

    def _memorised(self) -> Mapping[str, Any]:
        try:
            found = json.loads(_text(self._memory))
        except ValueError:
            return {}
        names = [found.get("now"), found.get("before")] if isinstance(found, dict) else [""]
        sound = all(each is None or Path(str(each)).name == each for each in names)
        return found if sound else {}

    def _recalled(self, error: EmbstoreError) -> tuple[Replica, float]:
        """Open what was seen last, as the server cannot be asked."""
        found = self._memorised()
        if not isinstance(error, ConnectionFailed | ServerFailed) or not found.get("now"):
            raise error
        return open_replica(self._cache / str(found["now"])), float(found.get("seen", 0))

    def _start(self) -> None:
        self._pid = os.getpid()
        self._thread = threading.Thread(
            target=_watch,
            args=(weakref.ref(self), self._stopped, self._every),
            name=f"embstore-follow-{self._ref}",
            daemon=True,
        )
        self._thread.start()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _watch(follower: Callable[[], Follower | None], stopped: threading.Event, every: float) -> None:
    """Look again and again, as long as the follower is there."""
    while not stopped.wait(every):
        mine = follower()
        if mine is None:
            return
        try:
            mine._look()
        except EmbstoreError as error:
            mine._error = error
        except Exception as error:  # whatever it is, the next look may succeed
            mine._error = EmbstoreError(f"looking at {mine._ref}: {error}")
        del mine
