"""Kill, come back, and look whether all is there and nothing is between."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import psycopg

import embstore
from embstore import Store, connection, schema, server
from embstore.load.checksum import Checksum
from embstore.query.stream import blocks
from tests.fix_data import clusters

from . import DIM, ROWS, TABLES

# Of one piece of work, so that a kill hits any of its moments; the first pieces are slower.
PIECE_S = 0.25
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class State:
    """How much was done, as the catalog has it."""

    releases: int
    appends: int


def fill(store: Store) -> None:
    """Load what the works work on."""
    for name in (*TABLES, "solo"):
        table = store.create_table(name)
        for run in (1, 2):
            space = None if name == "solo" else f"run-{run}"
            table.load(clusters(ROWS, DIM, run), ids=range(ROWS), space=space, index="hnsw")
    store.release([*(f"{name}@1" for name in TABLES), "solo@1"])
    store.create_table("old").load(clusters(ROWS, DIM), ids=range(ROWS), promote=True)


def round_of(url: str, work: str, rng: random.Random, pids: list[int] | None = None) -> int:
    """Start a worker and kill it, or these processes of the server, while it works.

    Returns
    -------
    int
        How many pieces it had acknowledged.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.kills.worker", url, work],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None and worker.stderr is not None
        lines: list[str] = []
        begun = threading.Event()

        def listen(stream: Iterator[str]) -> None:
            for line in stream:
                lines.append(line.strip())
                begun.set()

        listener = threading.Thread(target=listen, args=(worker.stdout,))
        listener.start()
        try:
            assert begun.wait(60), worker.stderr.read()
            time.sleep(rng.uniform(0, 3 * PIECE_S))
            for pid in pids or [worker.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if pids:  # it notices, says so, and goes
                worker.wait(60)
                said = worker.stderr.read()
                assert "EmbstoreError" in said or "embstore.errors." in said, said
        finally:
            worker.kill()
            listener.join()
    return lines.count("done")


def check(store: Store, work: str, before: State, acknowledged: int) -> State:
    """Say what is wrong, as a failed assertion; returns how much is done now."""
    now = state(store)
    with store.connection() as lent:
        rows = lent.execute(
            "SELECT table_name, version FROM embstore.aliases WHERE alias = 'live'"
        ).fetchall()
    live: dict[str, int] = dict(rows)
    assert live["items"] == live["users"], f"between: {live}"
    for name in (*TABLES, "solo", "old"):
        moves = store.table(name).history()
        assert moves[-1].version == live[name], f"{name}: the history ends elsewhere"
        assert all(b.previous == a.version for a, b in pairwise(moves)), f"{name}: a gap"
        assert store.table(name).similar([3], 5).counts.tolist() == [5]
        _whole(store, name)
    done = now.releases - before.releases
    done = {"append": now.appends - before.appends, "apart": done // 2}.get(work, done)
    assert acknowledged <= done <= acknowledged + 1, f"{done} done, {acknowledged} acknowledged"
    for each in store.releases():
        assert len(each.moves) == len(each.refs), each
    return now


def state(store: Store) -> State:
    """Ask how much is done."""
    with store.connection() as lent:
        row = lent.execute(
            "SELECT (SELECT count(*) FROM embstore.releases),"
            " (SELECT count(*) FROM embstore.appends)"
        ).fetchone()
    assert row is not None
    return State(*row)


def _whole(store: Store, name: str) -> None:
    """Each ready version is as its catalog row says; no other has a relation."""
    with store.connection() as lent:
        rows = lent.execute(
            "SELECT version, status, to_regclass(format('emb.%%I', table_name || '_v' || version))"
            " IS NOT NULL FROM embstore.versions WHERE table_name = %s",
            (name,),
        ).fetchall()
    for version, status, there in rows:
        assert (status == "ready") is there and status != "loading", (name, version, status, there)
    for version in store.table(name).versions():
        checksum, count = Checksum(), 0
        with store.connection() as lent:
            for block in blocks(lent, version._row):
                checksum.update(block.ids, block.vectors)
                count += len(block.ids)
            appended = lent.execute(
                "SELECT coalesce(sum(rows), 0)::int FROM embstore.appends"
                " WHERE table_name = %s AND version = %s",
                (name, version.number),
            ).fetchone()
        assert appended == (version.appended,)
        assert count == version.rows == ROWS + version.appended
        assert str(checksum) == version.checksum, version.ref


def kill_clients(url: str, work: str, rounds: int, rng: random.Random) -> int:
    """Kill so many workers; returns how many pieces they had done."""
    total = 0
    with embstore.connect(url) as store:
        before = state(store)
    for _ in range(rounds):
        done = round_of(url, work, rng)
        _wait_until_alone(url)
        with embstore.connect(url) as store:
            before = check(store, work, before, done)
        total += done
    return total


def _wait_until_alone(url: str) -> None:
    """Until the server has ended what the killed client had begun."""
    with psycopg.connect(url, autocommit=True) as own:
        for _ in range(400):
            row = own.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                " AND state <> 'idle'"
            ).fetchone()
            if row == (0,):
                return
            time.sleep(0.05)
    raise AssertionError("the killed client's session lives on")


@contextmanager
def own_server(home: Path) -> Iterator[str]:
    """Run a server that may be killed; gives its URL."""
    server.up(home)
    try:
        schema.upgrade(connection.parse(_url(home)))
        yield _url(home)
    finally:
        server.down(home)


def _url(home: Path) -> str:
    return f"postgresql://embstore@/embstore?host={home / 'run'}"


def kill_servers(home: Path, work: str, rounds: int, rng: random.Random) -> int:
    """Kill the server under a worker so many times, and start it again."""
    total = 0
    for _ in range(rounds):
        with embstore.connect(_url(home)) as store:
            before = state(store)
        pid = int((home / "data" / "postmaster.pid").read_text().split("\n")[0])
        processes = [pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))]
        done = round_of(_url(home), work, rng, processes)
        server.up(home)
        with embstore.connect(_url(home)) as store:
            check(store, work, before, done)
        total += done
    return total
