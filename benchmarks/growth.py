"""What ten and a hundred times the rows cost."""

from __future__ import annotations

import math

from . import by_hand
from .bench import Bench
from .measure import medians
from .pictures import figure


def run(bench: Bench) -> None:
    """Nearest and lookup at a hundredth, a tenth and all of ``many`` rows."""
    sizes = [bench.many // 100, bench.many // 10, bench.many]
    found = [_measure(bench, rows) for rows in sizes]
    bench.report.table(
        "Growth: median milliseconds, one client",
        ["rows", "nearest", "nearest, live", "nearest, by hand", "lookup of 1000 ids"],
        [[rows, *medians] for rows, medians in zip(sizes, found, strict=True)],
    )
    image, axes = figure(6, 4)
    names = "nearest", "nearest, live", "nearest, by hand", "lookup of 1000 ids"
    for place, name in enumerate(names):
        axes.loglog(sizes, [each[place] for each in found], marker="o", label=name)
    steps = [found[0][0] * math.log(rows) / math.log(sizes[0]) for rows in sizes]
    axes.loglog(sizes, steps, linestyle=":", color="grey", label="like log n")
    axes.set_ylim(min(map(min, found)) / 3, 3 * max(map(max, found)))
    axes.set_xlabel("rows x 64")
    axes.set_ylabel("milliseconds")
    axes.legend()
    bench.report.picture("growth", image, "Milliseconds by rows, both axes logarithmic")
    logarithmic = math.log(sizes[-1]) / math.log(sizes[0])
    bench.report.goal(
        f"nearest, {sizes[-1]:,} rows against {sizes[0]:,}: log n grows {logarithmic:.2g} times",
        found[-1][0] / found[0][0],
        logarithmic,
    )
    bench.report.goal(
        f"lookup, {sizes[-1]:,} rows against {sizes[0]:,}: flat", found[-1][3] / found[0][3], 1.2
    )


def _measure(bench: Bench, rows: int) -> list[float]:
    data = bench.loaded(rows)
    hand = by_hand.Queries(bench.store.url, data.relation, 100)
    for query in data.queries:  # what a server has been asked for before is in its memory
        hand.nearest(query)
    near = medians(
        2000,
        lambda i: data.version.nearest(data.queries[i % 1000], 10),
        lambda i: data.table.nearest(data.queries[i % 1000], 10),
        lambda i: hand.nearest(data.queries[i % 1000]),
    )
    (look,) = medians(200, lambda i: data.version.lookup(data.asked[i % 50]))
    hand.connection.close()
    return [*near, look]
