"""Replicas: against the chosen library, BLAS, numpy and COPY alone, and against the wire."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

import embstore
from embstore import Replica, Version

from .measure import Report, interleaved, medians, recall, timed, true_neighbours, vectors
from .pictures import figure

K = 10
BATCH = 500


@dataclass(frozen=True)
class Line:
    """A figure beside another, and what their ratio should be."""

    what: str
    own: str
    beside: str
    ratio: float
    goal: float
    at_most: bool = False


def run(report: Report, url: str, rows: int) -> None:
    """Everything about replicas, of ``rows`` vectors of 64 dims."""
    base = vectors(rows)
    with embstore.connect(url) as store, tempfile.TemporaryDirectory() as folder:
        numbers = store.create_table("replica_numbers")
        texts = store.create_table("replica_texts")
        try:
            ids = np.random.default_rng(3).permutation(10 * rows)[:rows]
            by_number = numbers.load(base, ids=ids)
            words = [f"w{each:09d}" for each in range(rows)]
            by_text = texts.load(base, ids=words, index="none")
            lines = [write(by_number, Path(folder))]
            start = time.perf_counter()
            replica = by_number.replica(folder)
            built = time.perf_counter() - start
            lines += nearest(by_number, replica, base)
            lines.append(batch(replica, base))
            lines += lookup(by_number, replica, base, ids)
            lines += lookup(by_text, by_text.replica(folder, index="none"), base, np.array(words))
        finally:
            store.drop_table("replica_numbers")
            store.drop_table("replica_texts")
    report.table(
        f"Replicas of {rows:,} x 64 float32, cosine",
        ["what", "embstore", "beside it", "ratio", "goal"],
        [
            [
                each.what,
                each.own,
                each.beside,
                each.ratio,
                f"{'<' if each.at_most else '>'}= {each.goal:g}",
            ]
            for each in lines
        ],
    )
    report.say(f"\nThe HNSW graph was built in {built:.0f} s.")
    for each in lines:
        what = f"replica: {each.what}, to {each.beside.rsplit(' ', 2)[0]}"
        report.goal(what, each.ratio, each.goal, at_least=not each.at_most)
    _picture(report, lines)


def _picture(report: Report, lines: list[Line]) -> None:
    drawn, axes = figure(8, 3.2)
    better = [each.goal / each.ratio if each.at_most else each.ratio / each.goal for each in lines]
    names = [f"{each.what}, to {each.beside.rsplit(' ', 2)[0]}" for each in lines]
    axes.barh(names, better, color=["C0" if each >= 1 else "C3" for each in better])
    axes.axvline(1, color="black")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("how many times as good as its goal")
    report.picture("replica", drawn, "Each figure of the replica as a multiple of its goal")


def write(version: Version, folder: Path) -> Line:
    """The replica without its index, against reading the bytes of COPY."""
    relation = f"emb.{version.table}_v{version.number}"

    def copy() -> float:
        with psycopg.connect(version._store.url) as connection:
            start = time.perf_counter()
            with connection.cursor().copy(f"COPY {relation} TO STDOUT (FORMAT binary)") as stream:
                for _ in stream:
                    pass
            return time.perf_counter() - start

    counted = iter(range(100))

    def ours() -> float:
        return timed(lambda: version.replica(folder / f"{next(counted)}", index="none"))

    alone, own = interleaved(5, copy, ours)
    return Line("written", f"{own:.2f} s", f"COPY {alone:.2f} s", alone / own, 0.7)


def _queries(base: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    near = base[rng.integers(0, len(base), count)]
    return (near + 0.3 * rng.standard_normal(near.shape)).astype(np.float32)


def nearest(version: Version, replica: Replica, base: np.ndarray[Any, Any]) -> list[Line]:
    """One query by HNSW, against faiss alone on the same graph, and the server."""
    assert replica._graph is not None
    queries = _queries(base, 1000)
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    graph = replica._graph._index
    # Each has queries of its own in a turn: the second to ask would find the caches warm.
    own, library, wire = medians(
        2000,
        lambda i: replica.nearest(queries[i % 1000], K),
        lambda i: graph.search(unit[(i + 300) % 1000][None], K),
        lambda i: version.nearest(queries[(i + 600) % 1000], K),
    )
    found = replica.nearest(queries[:200], K).ids
    places = {int(each): row for row, each in enumerate(replica._ids.at(np.arange(replica.rows)))}
    rows = [[places[int(each)] for each in line] for line in found]
    reached = recall(rows, true_neighbours(queries[:200], base, K))
    what = f"nearest, k {K}, HNSW, recall {reached:.3f}"
    return [
        Line(what, f"{own:.3f} ms", f"faiss {library:.3f} ms", own / library, 1.3, True),
        Line(what, f"{own:.3f} ms", f"server {wire:.3f} ms", wire / own, 5.0),
    ]


def batch(replica: Replica, base: np.ndarray[Any, Any]) -> Line:
    """Exact recall of a batch, against the matrix product and numpy's top-k of its rows."""
    queries = _queries(base, BATCH)
    unit = base / np.linalg.norm(base, axis=1, keepdims=True)

    def by_hand() -> None:
        for at in range(0, BATCH, 50):  # 50 x 1M scores are 200 MB
            scores = queries[at : at + 50] @ unit.T
            best = np.argpartition(scores, -K, axis=1)[:, -K:]
            np.take_along_axis(scores, best, axis=1).sort(axis=1)

    hand, own = interleaved(
        3,
        lambda: timed(by_hand),
        lambda: timed(lambda: replica.nearest(queries, K, exact=True)),
    )
    what = f"{BATCH} queries, exact"
    return Line(what, f"{own:.2f} s", f"BLAS and argpartition {hand:.2f} s", hand / own, 0.7)


def lookup(
    version: Version, replica: Replica, base: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]
) -> list[Line]:
    """1000 ids, given as an array or for texts a list, against numpy and the server."""
    rng = np.random.default_rng(5)
    places = [rng.integers(0, len(ids), 1000) for _ in range(50)]
    asked: Sequence[Any] = [
        ids[each] if ids.dtype.kind == "i" else ids[each].tolist() for each in places
    ]
    keys = ids if ids.dtype.kind == "i" else ids.astype("S")
    order = np.argsort(keys)
    ordered = keys[order]

    def by_hand(i: int) -> None:
        wanted = np.asarray(asked[(i + 25) % 50], ordered.dtype)
        base[order[np.searchsorted(ordered, wanted)]]

    own, hand, wire = medians(
        400,
        lambda i: replica.lookup(asked[i % 50]),
        by_hand,
        lambda i: version.lookup(asked[i % 50]),
    )
    kind = "integer" if ids.dtype.kind == "i" else "text"
    what = f"lookup of 1000 {kind} ids"
    return [
        Line(what, f"{own:.3f} ms", f"numpy {hand:.3f} ms", own / hand, 3.0, True),
        Line(what, f"{own:.3f} ms", f"server {wire:.3f} ms", wire / own, 30.0),
    ]
