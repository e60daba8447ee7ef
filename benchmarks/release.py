"""A release of three tables, and a promote of one, while eight processes query all of them."""

from __future__ import annotations

import multiprocessing
from typing import Any

import psycopg

from .bench import Bench
from .measure import medians, vectors

TABLES = ("moves_a", "moves_b", "moves_c")
ROWS, DIMS, READERS, ROUNDS = 30_000, (32, 64), 8, 200
LIMIT_MS = 30


def run(bench: Bench) -> None:
    """How long they take, beside three rows updated by hand, and whether any reader notices."""
    store = bench.store
    for name in TABLES:
        table = store.create_table(name)
        for run, dim in enumerate(DIMS, 1):
            table.load(vectors(ROWS, dim), ids=range(ROWS), space=f"run-{run}")
    store.release(dict.fromkeys(TABLES, 1))
    with store.connection() as connection:
        connection.execute("CREATE TABLE pointers (name text PRIMARY KEY, version int)")
        for name in TABLES:
            connection.execute("INSERT INTO pointers VALUES (%s, 0)", (name,))
    spawn = multiprocessing.get_context("spawn")
    over, begun, counts = spawn.Event(), spawn.Barrier(READERS + 1), spawn.Queue()
    readers = [
        spawn.Process(target=_read, args=(store.url, over, begun, counts)) for _ in range(READERS)
    ]
    for reader in readers:
        reader.start()
    begun.wait()
    with psycopg.connect(store.url, autocommit=True, prepare_threshold=0) as own:

        def by_hand(at: int) -> None:
            with own.transaction():
                for name in TABLES:
                    own.execute("UPDATE pointers SET version = %s WHERE name = %s", (at, name))

        # To 1 and to 2 in turns: each call moves all of the tables.
        hand, release, sql = medians(
            ROUNDS,
            by_hand,
            lambda at: store.release(dict.fromkeys(TABLES, 1 + at % 2)),
            lambda at: own.execute(
                "SELECT embstore.release(%s)", ([f"{name}@{1 + at % 2}" for name in TABLES],)
            ),
        )
    over.set()
    answers = sum(counts.get(timeout=60) for _ in readers)
    for reader in readers:
        reader.join()
    with store.connection() as connection:
        connection.execute("DROP TABLE pointers")
    store.create_table("moves_alone")
    for dim in DIMS:
        store.table("moves_alone").load(vectors(ROWS, dim), ids=range(ROWS))
    (alone,) = medians(ROUNDS, lambda at: store.promote(f"moves_alone@{1 + at % 2}"))
    bench.report.table(
        f"A release of three tables of {ROWS:,} rows, {DIMS[0]} to {DIMS[1]} dims and back,"
        f" beside {READERS} processes that query them",
        ["", "median, ms"],
        [
            ["store.release", release],
            ["embstore.release in SQL", sql],
            ["three rows updated by hand in one transaction", hand],
            ["a promote of one table, nobody reading", alone],
        ],
    )
    bench.report.say(
        f"\nThe readers asked {answers:,} times, each for the neighbours in all three tables in one"
        f" snapshot, over {2 * ROUNDS} releases: none failed, came back short, or saw two"
        " trainings."
    )
    bench.report.goal("a release of three tables with readers, ms", release, LIMIT_MS)


def _read(url: str, over: Any, begun: Any, counts: Any) -> None:
    answers = 0
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
        begun.wait()
        while not over.is_set():
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            seen = set()
            for name in TABLES:
                rows = connection.execute(
                    f"SELECT id, version FROM emb.{name} ORDER BY embedding <=>"  # noqa: S608
                    f" (SELECT embedding FROM emb.{name} WHERE id = 7) LIMIT 10"
                ).fetchall()
                assert len(rows) == 10, name
                seen |= {version for _, version in rows}
            connection.execute("COMMIT")
            assert len(seen) == 1, seen
            answers += 1
    counts.put(answers)
