"""Eight clients at once: embstore's against pgbench, which sends the same SQL from C."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

import embstore
from embstore.server.programs import binary

from . import by_hand
from .bench import Bench, Loaded
from .measure import interleaved

CLIENTS = 8
# Each statement of pgbench's is planned once per client: few enough that this is 1% of the run,
# enough that the clients do not all walk the same part of the graph.
QUERIES = 200


def run(bench: Bench) -> None:
    """Queries per second of each, in turns."""
    data = bench.loaded(bench.rows)
    queries = data.queries[:QUERIES]
    script = bench.folder / "nearest.sql"
    script.write_text(_script(bench, data))
    url, seconds = bench.store.url, bench.seconds

    def ours() -> float:
        return _clients(_embstore, url, data.version.ref, queries, seconds)

    def hand() -> float:
        return _clients(_by_hand, url, data.relation, queries, seconds)

    rates = interleaved(2, lambda: _pgbench(url, script, seconds), hand, ours)
    names = "pgbench", "psycopg by hand", "embstore"
    bench.report.table(
        f"{CLIENTS} clients at once on {len(data.base):,} x 64, {seconds:g} s each",
        ["clients", "nearest, queries/s", "of pgbench"],
        [[name, rate, f"{rate / rates[0]:.2f}"] for name, rate in zip(names, rates, strict=True)],
    )
    bench.report.say(
        "\npgbench sends the statement that embstore sends, prepared, each query vector written"
        " into it. The clients and the server share the cores: a client in Python takes from the"
        " server what one in C does not. By hand is another statement, the shortest there is."
    )
    bench.report.goal(
        "8 clients, of pgbench with the same SQL", rates[2] / rates[0], 0.95, at_least=True
    )


def _script(bench: Bench, data: Loaded) -> str:
    """The statement that embstore sends, as the server shows it, once for each query vector."""
    data.version.nearest(data.queries[0], 10)
    with bench.store.connection() as connection:
        row = connection.execute(
            "SELECT query FROM pg_stat_activity WHERE application_name = 'embstore'"
            " AND state = 'idle' AND query LIKE %s AND query LIKE %s"
            " ORDER BY query_start DESC LIMIT 1",
            [f"%{data.relation.split('.')[1]}%", "%<=>%$1%"],
        ).fetchone()
    assert row is not None, "the statement is not to be seen in pg_stat_activity"
    return "".join(
        re.sub(r"\$1\b", f"'[{','.join(map(str, query.tolist()))}]'", row[0]) + ";\n"
        for query in data.queries[:QUERIES]
    )


def _pgbench(url: str, script: Path, seconds: float) -> float:
    """Queries per second. A transaction is the whole script."""
    command = [binary("pgbench"), "-n", "-M", "prepared", "-c", CLIENTS, "-j", "2"]
    command += ["-T", max(1, round(seconds)), "-f", script, url]
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=True
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1]) * QUERIES


def _clients(ask: Any, *given: Any) -> float:
    """Queries per second of several processes that begin together."""
    spawn = multiprocessing.get_context("spawn")
    ready, counts = spawn.Barrier(CLIENTS), spawn.Queue()
    processes = [
        spawn.Process(target=ask, args=(*given, place, ready, counts)) for place in range(CLIENTS)
    ]
    for process in processes:
        process.start()
    rate = sum(counts.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    return float(rate)


def _embstore(
    url: str, ref: str, queries: Any, seconds: float, place: int, ready: Any, counts: Any
) -> None:
    with embstore.connect(url) as store:
        version = store[ref]
        counts.put(_rate(lambda query: version.nearest(query, 10), queries, seconds, place, ready))


def _by_hand(
    url: str, relation: str, queries: Any, seconds: float, place: int, ready: Any, counts: Any
) -> None:
    hand = by_hand.Queries(url, relation, 100)
    counts.put(_rate(hand.nearest, queries, seconds, place, ready))


def _rate(nearest: Any, queries: Any, seconds: float, place: int, ready: Any) -> float:
    # Each begins elsewhere, as clients do.
    queries = np.roll(queries, place * len(queries) // CLIENTS, axis=0)
    for query in queries:
        nearest(query)
    ready.wait()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        nearest(queries[count % len(queries)])
        count += 1
    return count / (time.perf_counter() - start)
