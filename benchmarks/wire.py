"""One client over the wire: nearest and lookup, beside psycopg by hand and beside the peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import by_hand
from .bench import Bench, Loaded
from .measure import answers, medians, recall, timed
from .peers import PEERS, QUICK_TO_LOAD

HEAD = (
    "system",
    "nearest",
    "nearest by id",
    "lookup of 1000 ids",
    "recall@10",
    "load and index, s",
)


def run(bench: Bench) -> None:
    """At ``rows``, all peers."""
    _reads(bench, bench.loaded(bench.rows), PEERS, goals=True)


def run_many(bench: Bench) -> None:
    """At ``many``, the peers that take them in minutes."""
    _reads(bench, bench.loaded(bench.many), QUICK_TO_LOAD, goals=False)


def _reads(
    bench: Bench, data: Loaded, peers: Sequence[Callable[[str], Any]], *, goals: bool
) -> None:
    report, queries, asked = bench.report, data.queries, data.asked
    table, version = data.table, data.version
    hand = by_hand.Queries(bench.store.url, data.relation, 100)

    def rate(found: Any) -> float:
        return recall([found(query) for query in queries[: len(data.true)]], data.true)

    ours = rate(lambda query: version.nearest(query, 10).ids[0])
    by = rate(lambda query: [row[0] for row in hand.nearest(query)])
    near = medians(
        3000,
        lambda i: hand.nearest(queries[i % 1000]),
        lambda i: version.nearest(queries[i % 1000], 10),
        lambda i: table.nearest(queries[i % 1000], 10),
    )
    same = medians(
        3000,
        lambda i: hand.similar(i * 7 % len(data.ids)),
        lambda i: version.similar([i * 7 % len(data.ids)], 10),
        lambda i: table.similar([i * 7 % len(data.ids)], 10),
    )
    look = medians(
        200,
        lambda i: hand.rows(asked[i % 50]),
        lambda i: hand.lookup(asked[i % 50]),
        lambda i: version.lookup(asked[i % 50]),
        lambda i: table.lookup(asked[i % 50]),
    )
    hand.connection.close()
    lines: list[list[object]] = [
        ["psycopg by hand (prepared, binary)", near[0], same[0], look[1], by, ""],
        ["embstore, a version", near[1], same[1], look[2], ours, data.seconds],
        ["embstore, what is live", near[2], same[2], look[3], "", ""],
    ]
    if bench.peers:
        lines += [_peer(make(bench.store.url), data) for make in peers]
    report.table(
        f"{len(data.ids):,} x 64, cosine, 10 neighbours, one client; median milliseconds",
        HEAD,
        lines,
    )
    report.say(
        f"\nRatios: nearest {near[1] / near[0]:.2f} (version) and {near[2] / near[0]:.2f} (live) of"
        f" by hand, by id {same[1] / same[0]:.2f} and {same[2] / same[0]:.2f}; lookup"
        f" {look[1] / look[2]:.2f} times as fast as by hand with rows put in order, and"
        f" {look[0] / look[2]:.2f} times as fast as the bare fetchall ({look[0]:.3g} ms)."
    )
    if not goals:
        return
    report.goal("nearest over the wire, one client, of by hand", near[1] / near[0], 1.1)
    report.goal("the same on what is live", near[2] / near[0], 1.1)
    report.goal(
        "lookup of 1000 ids, times as fast as fetchall", look[0] / look[2], 1.4, at_least=True
    )
    theirs = {str(line[0]): line for line in lines}
    if vecs := theirs.get("vecs"):
        report.goal("nearest, times as fast as vecs", _number(vecs[1]) / near[1], 4, at_least=True)
        report.goal(
            "lookup of 1000 ids, times as fast as vecs",
            _number(vecs[3]) / look[2],
            10,
            at_least=True,
        )


def _peer(peer: Any, data: Loaded) -> list[object]:
    seconds = timed(lambda: peer.load(data.ids, data.base)) + timed(peer.index)
    near, rate = answers(peer.nearest, data.queries, data.true)
    look: object = ""
    if hasattr(peer, "lookup"):
        (look,) = medians(20, lambda i: peer.lookup(data.asked[i % 50]))
    peer.close()
    return [peer.name, near, "", look, rate, seconds]


def _number(cell: object) -> float:
    assert isinstance(cell, float)
    return cell
