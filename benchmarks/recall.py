"""Recall against queries per second: each system with its HNSW at growing ef."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from embstore import Version

from . import by_hand
from .bench import Bench
from .measure import Array, answers, factors, true_neighbours
from .peers import CURVES
from .pictures import figure

EF = (10, 20, 40, 70, 100, 150, 200, 400)
GOODBOOKS = Path(__file__).parents[2] / "shared" / "data" / "goodbooks" / "vectors"
# Seconds that one point may take.
LIMIT = 2.0

Point = tuple[str, object, float, float]  # system, ef, recall@10, queries per second


def run(bench: Bench) -> None:
    """Factors, where recall is a question, and goodbooks' items if they are at hand."""
    sets = list(_sets(bench.rows))
    image, panels = figure(7, 5, len(sets))
    for axes, (name, base, queries) in zip(np.atleast_1d(panels), sets, strict=True):
        points = list(_points(bench, base, queries))
        bench.report.table(
            f"Recall@10 against queries per second: {name}, one client",
            ["system", "ef", "recall@10", "queries/s"],
            points,
        )
        _draw(axes, name, points)
    bench.report.picture(
        "recall", image, "Recall@10 against queries per second, a line for each system"
    )


def _sets(rows: int) -> Iterator[tuple[str, Array, Array]]:
    yield f"{rows:,} x 64 factors", factors(rows), factors(200, seed=1)
    if GOODBOOKS.exists():
        base = np.load(GOODBOOKS / "svd_items_64d.npy")
        users = np.load(GOODBOOKS / "svd_users_64d.npy")
        yield "goodbooks, users against 10,000 books", base, users[:200]


def _points(bench: Bench, base: Array, queries: Array) -> Iterator[Point]:
    ids, true = np.arange(len(base)), true_neighbours(queries, base, 10)

    def point(system: str, ef: object, nearest: Callable[[Array], Any]) -> Point:
        milliseconds, rate = answers(nearest, queries, true, LIMIT)
        return system, ef, rate, 1000 / milliseconds

    table = bench.store.create_table("curve")
    try:
        version = table.load(base, ids=ids, index="hnsw", promote=True)
        hand = by_hand.Queries(bench.store.url, f"emb.curve_v{version.number}", 100)
        for ef in EF:  # one after the other, so that a slow minute hits both
            hand.tune(ef)
            yield point("by hand", ef, lambda query: [row[0] for row in hand.nearest(query)])
            yield point("embstore", ef, partial(_ids, version, search={"ef_search": ef}))
        hand.connection.close()
        yield point("embstore, by default", "", partial(_ids, version))
        yield point("embstore, exact", "", partial(_ids, version, exact=True))
    finally:
        bench.store.drop_table("curve")
    for make in CURVES if bench.peers else []:
        peer = make(bench.store.url)
        peer.load(ids, base)
        peer.index()
        if not hasattr(peer, "tune"):  # Chroma: its ef is that of the collection's making
            yield point(peer.name, 100, peer.nearest)
        else:
            for ef in EF:
                if ef >= getattr(peer, "least_ef", 0):
                    peer.tune(ef)
                    yield point(peer.name, ef, peer.nearest)
        peer.close()


def _ids(version: Version, query: Array, **how: Any) -> Any:
    return version.nearest(query, 10, **how).ids[0]


def _draw(axes: Any, name: str, points: list[Point]) -> None:
    for system in dict.fromkeys(point[0] for point in points):
        own = sorted(point[2:] for point in points if point[0] == system)
        width = 2.5 if system == "embstore" else 1.2
        marker = "o" if len(own) > 1 else "*"
        axes.plot(*zip(*own, strict=True), marker=marker, linewidth=width, label=system)
    axes.set_yscale("log")
    axes.set_title(name)
    axes.set_xlabel("recall@10")
    axes.set_ylabel("queries per second")
    axes.legend(fontsize="small")
