"""Readers, loaders and releases at once; each answer says by itself whether it is of one release.

``items@N`` and ``users@N`` are of training N: each row carries N as an attribute and as the first
component of its vector. A reader that saw two versions, or users of one release with items of
another, has it in its hands.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

import embstore
from embstore import Store
from tests.fix_data import clusters

ROWS, USERS, K = 1500, 200, 10
DIMS = (16, 24)
TABLES = ("items", "users")
READERS = 8


@dataclass
class Soak:
    """A run, and what came of it.

    Attributes
    ----------
    queries : list of int
        Answers of each reader.
    failures : list of str
    releases, rollbacks, loads, dropped : int
    release_ms : list of float
    """

    store: Store
    queries: list[int] = field(default_factory=lambda: [0] * READERS)
    failures: list[str] = field(default_factory=list)
    releases: int = 0
    rollbacks: int = 0
    loads: int = 0
    dropped: int = 0
    release_ms: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


def stamped(rows: int, run: int) -> pa.Table:
    """Return the vectors of a training, each with its number."""
    dim = DIMS[run % 2]
    vectors = clusters(rows, dim, seed=run)
    vectors[:, 0] = run
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    return pa.table({"id": range(rows), "stamp": [run] * rows, "embedding": flat})


def load(store: Store, table: str, run: int) -> None:
    """Load the version of a training; the numbers of both tables go along."""
    rows = ROWS if table == "items" else USERS
    version = store.table(table).load(stamped(rows, run), space=f"run-{run}", index="hnsw")
    assert version.number == run


def begin(store: Store) -> Soak:
    """Load two trainings, and make the first live."""
    for table in TABLES:
        store.create_table(table, metric="l2")
        for run in (1, 2):
            load(store, table, run)
    store.release(dict.fromkeys(TABLES, 1))
    return Soak(store)


def run(soak: Soak, seconds: float, every: float) -> Soak:
    """Ask, load and release for so long."""
    threads = [
        threading.Thread(target=_guarded, args=(soak, reader, place))
        for place, reader in enumerate(READING)
    ]
    threads += [threading.Thread(target=_guarded, args=(soak, _loads, at)) for at in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and not soak.failures:
            began = time.perf_counter()
            _release(soak)
            soak.release_ms.append(1e3 * (time.perf_counter() - began))
            time.sleep(every)
    finally:
        soak.over.set()
        for thread in threads:
            thread.join()
    return soak


def _guarded(soak: Soak, work: Callable[[Soak, int], None], place: int) -> None:
    try:
        work(soak, place)
    except BaseException as error:
        soak.failures.append(f"{work.__name__}: {type(error).__name__}: {error}")
        soak.over.set()


def _release(soak: Soak) -> None:
    """Make the newest whole training live, or now and then the one before again."""
    store = soak.store
    if soak.releases % 5 == 4:
        store.rollback("items" if soak.releases % 2 else "users")
        soak.rollbacks += 1
        soak.releases += 1
        return
    ready = [{each.number for each in store.table(name).versions()} for name in TABLES]
    live = store["items"].number
    others = sorted(ready[0] & ready[1] - {live})
    store.release(dict.fromkeys(TABLES, others[-1]))
    soak.releases += 1


def _loads(soak: Soak, place: int) -> None:
    """Load one training after the other into one of the tables, and drop what is long gone."""
    name = TABLES[place]
    number = 2
    while not soak.over.is_set():
        number += 1
        load(soak.store, name, number)
        soak.loads += 1
        _drop_old(soak, name)
        soak.over.wait(0.05)


def _drop_old(soak: Soak, name: str) -> None:
    table = soak.store.table(name)
    live = table.live.number
    for version in table.versions()[:-6]:
        if version.number not in {live, live - 1, live + 1}:
            try:
                table.drop(version.number)
                soak.dropped += 1
            except (embstore.DatabaseFailed, embstore.InvalidQuery):
                pass  # somebody's snapshot is older, or it has just become live


def _same(*seen: object) -> None:
    assert len(set(seen)) == 1, f"mixed: {seen}"


def _view(soak: Soak, place: int) -> None:
    """Plain SQL on the live view, prepared."""
    with psycopg.connect(soak.store.url, autocommit=True, prepare_threshold=0) as connection:
        while not soak.over.is_set():
            rows = connection.execute(
                "SELECT stamp, version FROM emb.items ORDER BY embedding <->"
                " (SELECT embedding FROM emb.items WHERE id = 7) LIMIT 10"
            ).fetchall()
            assert len(rows) == K, rows
            _same(*(each for row in rows for each in row))
            soak.queries[place] += 1


def _join(soak: Soak, place: int) -> None:
    """Users and items in one statement."""
    with psycopg.connect(soak.store.url, autocommit=True) as connection:
        while not soak.over.is_set():
            rows = connection.execute(
                "SELECT u.stamp, u.version, i.stamp, i.version FROM emb.users u"
                " JOIN emb.items i USING (id) WHERE id < 20"
            ).fetchall()
            assert len(rows) == 20, rows
            _same(*(each for row in rows for each in row))
            soak.queries[place] += 1


def _transaction(soak: Soak, place: int) -> None:
    """A user's vector, then items near it, in one snapshot."""
    with psycopg.connect(soak.store.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        while not soak.over.is_set():
            with connection.transaction():
                user = connection.execute(
                    "SELECT embedding::text, stamp FROM emb.users WHERE id = 3"
                ).fetchone()
                assert user is not None
                time.sleep(0.002)
                rows = connection.execute(
                    "SELECT stamp FROM emb.items ORDER BY embedding <-> %s::vector LIMIT 10",
                    (user[0],),
                ).fetchall()
            assert len(rows) == K, rows
            _same(user[1], *(row[0] for row in rows))
            soak.queries[place] += 1


def _functions(soak: Soak, place: int) -> None:
    """The SQL functions; lookup tells by the vectors themselves."""
    with psycopg.connect(soak.store.url, autocommit=True) as connection:
        while not soak.over.is_set():
            rows = connection.execute("SELECT id FROM embstore.similar('items', '7')").fetchall()
            assert len(rows) == K, rows
            rows = connection.execute(
                "SELECT (embedding::real[])[1] FROM embstore.lookup('items', '{1,2,3,4}')"
            ).fetchall()
            _same(*(row[0] for row in rows))
            soak.queries[place] += 2


def _similar(soak: Soak, place: int) -> None:
    """The Python client's recall."""
    table = soak.store.table("items")
    while not soak.over.is_set():
        found = table.similar([7], K, show=["stamp"])
        assert found.counts.tolist() == [K], found
        _same(found.version, *found.attributes["stamp"].ravel())
        soak.queries[place] += 1


def _lookup(soak: Soak, place: int) -> None:
    """The Python client's lookup."""
    table, ids = soak.store.table("items"), list(range(50))
    while not soak.over.is_set():
        found = table.lookup(ids)
        _same(found.version, *found.vectors[:, 0].astype(int).tolist())
        soak.queries[place] += 1


def _features(soak: Soak, place: int) -> None:
    """Both tables' vectors side by side."""
    ids = list(range(30))
    while not soak.over.is_set():
        found = soak.store.features({"users": ids, "items": ids})
        of: Any = [found.vectors[:, part][:, 0] for part in found.columns.values()]
        _same(*found.versions.values(), *np.concatenate(of).astype(int).tolist())
        soak.queries[place] += 1


def _at_once(soak: Soak, place: int) -> None:
    """What a nightly recall begins with."""
    while not soak.over.is_set():
        users, items = soak.store.at_once("users", "items")
        _same(users.number, items.number)
        _same(users.space, items.space)
        soak.queries[place] += 1


READING = (_view, _join, _transaction, _functions, _similar, _lookup, _features, _at_once)
