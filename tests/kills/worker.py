"""``python -m tests.kills.worker URL WORK``: do one kind of work over and over, until killed.

After each piece of it that was acknowledged a line goes to standard output: what must be there
afterwards, whatever is killed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count

import numpy as np

import embstore
from embstore import Store

from . import DIM, ROWS, TABLES


def promote(store: Store, at: int) -> None:
    store.promote(f"solo@{3 - store['solo'].number}")


def release(store: Store, at: int) -> None:
    """Both tables to the other training; every third time back by a rollback."""
    if at % 3 == 2:
        store.rollback("items")
    else:
        other = 3 - store["items"].number
        store.release(dict.fromkeys(TABLES, other))


def append(store: Store, at: int) -> None:
    version = store["solo@1"]
    first = version.rows
    vectors = np.random.default_rng(at).standard_normal((5, DIM)) + 3
    version.append(vectors, ids=range(first, first + 5))


def gc(store: Store, at: int) -> None:
    """Load a version and make it live, then remove all but the live one."""
    vectors = np.random.default_rng(at).standard_normal((ROWS, DIM)) + 3
    store.table("old").load(vectors, ids=range(ROWS), index="none", promote=True)
    store.gc(keep=1)


def apart(store: Store, at: int) -> None:
    """What a release must not be: one table after the other."""
    other = 3 - store["items"].number
    for table in TABLES:
        store.promote(f"{table}@{other}", force=True, message="apart")


WORKS: dict[str, Callable[[Store, int], None]] = {
    each.__name__: each for each in (promote, release, append, gc, apart)
}


def main(url: str, work: str) -> None:
    with embstore.connect(url) as store:
        for at in count(1):
            print("begin", flush=True)
            WORKS[work](store, at)
            print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
