"""Who uses the server, across processes, threads and forks; whoever leaves last stops it.

Every process that uses the server holds a shared lock on ``home/users`` for as long as it does;
the kernel frees it however the process ends. Starts and stops take turns on ``home/lock``.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import ServerFailed
from . import listen, postmaster
from .account import account
from .cluster import Cluster
from .postmaster import Postmaster


@dataclass
class _Share:
    """This process's share of a home: one lock, however many holds."""

    file: int
    holds: int = 0


_shares: dict[Path, _Share] = {}
_mutex = threading.RLock()


@contextmanager
def turn(home: Path, *, make: bool = True) -> Iterator[Cluster]:
    """Take turns with every other start and stop of this home.

    Raises
    ------
    ServerFailed
        When the home cannot be used.
    FileNotFoundError
        When it is not there and ``make`` is false.
    """
    cluster = Cluster(home)
    if make:
        cluster.prepare()
    elif not home.exists():
        raise FileNotFoundError(home)
    try:
        file = account().open(home / "lock")
    except PermissionError as error:
        raise ServerFailed(f"{home} belongs to another user: run embstore as that user") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield cluster
    finally:
        _unlock(file)


def hold(home: Path, start: Callable[[Cluster], Postmaster]) -> Postmaster:
    """Return the running server, started if need be, and hold it until ``let_go`` or the exit."""
    with _mutex, turn(home) as cluster:
        share = _share(home)
        try:
            fcntl.flock(share.file, fcntl.LOCK_SH)
            server = cluster.ready() or start(cluster)
        except BaseException:
            if not share.holds:
                _drop(home, share)
            raise
        share.holds += 1
        _shares[home] = share
        _end_with_worker()
        return server


def let_go(home: Path) -> None:
    """Give up one hold of this process; the last one of the machine stops the server."""
    with _mutex:
        share = _shares.get(home)
        if share is not None and share.holds > 0:
            share.holds -= 1
            if share.holds == 0:
                _leave(home, share)


def _share(home: Path) -> _Share:
    """Return this process's share of the home as it is now: a new one if it was removed since."""
    file = account().open(home / "users")
    share = _shares.get(home)
    if share is None:
        return _Share(file)
    if os.path.samestat(os.fstat(share.file), os.fstat(file)):
        os.close(file)
    else:
        _unlock(share.file)
        share.file = file
    return share


def _leave(home: Path, share: _Share) -> None:
    """Give up this process's share, and stop the server if nobody else uses it.

    A connection that this process left open, such as that of an engine, does not count.
    """
    try:
        with turn(home, make=False) as cluster:
            server = postmaster.find(cluster.data)
            if server and _alone(share) and not (home / "keep").exists():
                with suppress(ServerFailed):
                    if not listen.clients(server, listen.own_connections(server)):
                        cluster.stop(server)
    except FileNotFoundError:
        pass  # the home was removed meanwhile
    _drop(home, share)


def _alone(share: _Share) -> bool:
    try:
        fcntl.flock(share.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop(home: Path, share: _Share) -> None:
    _unlock(share.file)
    _shares.pop(home, None)


def _unlock(file: int) -> None:
    # Closing alone does not unlock while a forked child has the file open too.
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


def _leave_all() -> None:
    with _mutex:
        for home, share in list(_shares.items()):
            with suppress(OSError, ServerFailed):
                _leave(home, share)


# At the exit. Finalizers run in reverse order, so this comes after those of the open stores.
weakref.finalize(_Share, _leave_all)


def _end_with_worker() -> None:
    """Have a worker of multiprocessing leave too: it ends by os._exit, past all finalizers."""
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, _leave_all, exitpriority=0)


def _forked() -> None:
    """A forked child has none of its parent's shares, and none of the threads in the mutex."""
    global _mutex
    _mutex = threading.RLock()
    for share in _shares.values():
        os.close(share.file)
    _shares.clear()


os.register_at_fork(after_in_child=_forked)
