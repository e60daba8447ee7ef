"""A comparison as one HTML page that needs no other file: its plots are SVG, written here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ..types import Metric
from .measures import Norms
from .result import Comparison, Distribution, MovedId

_MOST_COLUMNS = 6
_WIDTH, _HEIGHT = 520, 200
_LEFT, _BOTTOM, _TOP = 56, 34, 10


def page(found: Comparison) -> str:
    """Return the page."""
    title = f"{escape(found.old)} and {escape(found.new)}"
    parts = [
        f"<h1>{title}</h1>",
        f"<p>What became of {escape(found.old)} in {escape(found.new)}, compared by"
        f" {found.metric}.</p>",
        _figures(found),
        "<h2>Ids</h2>",
        _ids(found),
        "<h2>Norms</h2>",
        _norms(found),
        f"<h2>Neighbours that stayed</h2>{_overlap(found)}",
        f"<h2>Drift after alignment</h2>{_drift(found)}",
        f"<h2>What moved most</h2>{_moved(found)}",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head>\n<body>{chr(10).join(parts)}</body></html>\n"
    )


def about(part: Distribution) -> str:
    """Say how much was looked at: its size, and the error that comes of it."""
    if part.count == part.of:
        return f"all {part.of:,} ids in common"
    return f"{part.count:,} of {part.of:,} ids in common, drawn at random; ± {part.error:.2g}"


def drift_unit(metric: Metric) -> str:
    """Return what the drift is measured in."""
    if metric is Metric.COSINE:
        return "cosine distance"
    return "distance, in units of the old vectors' root mean square length"


def _figures(found: Comparison) -> str:
    figures = [
        ("ids kept", f"{found.coverage:.1%}", f"{found.ids.common:,} of {found.rows[0]:,}"),
        ("change of the median norm", _percent(found.norm_drift), _medians(found)),
    ]
    if found.overlap is not None:
        mean = f"{found.overlap.mean:.3f}"
        figures.append((f"neighbours kept, of {found.k}", mean, about(found.overlap)))
    if found.drift is not None and found.aligned is not None:
        figures.append(("drift, mean", f"{found.drift.mean:.4f}", drift_unit(found.metric)))
        left = f"{found.aligned.before:.3f} without the rotation"
        figures.append(("residual", f"{found.aligned.residual:.3f}", left))
    cards = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span><small>{escape(note)}</small></div>"
        for name, value, note in figures
    )
    return f'<section class="figures">{cards}</section>'


def _medians(found: Comparison) -> str:
    old, new = found.norms
    return f"from {old.median:.4g} to {new.median:.4g}"


def _percent(part: float) -> str:
    return f"{part:.1%}" if part < 1e6 else "from 0"


def _ids(found: Comparison) -> str:
    rows = [
        ["in common", f"{found.ids.common:,}", ""],
        ["removed", f"{found.ids.removed:,}", _some(found.ids.removed_sample, found.ids.removed)],
        ["added", f"{found.ids.added:,}", _some(found.ids.added_sample, found.ids.added)],
    ]
    return _table(["", "ids", "such as"], rows)


def _some(sample: Sequence[object], count: int) -> str:
    return ", ".join(map(str, sample)) + (", ..." if count > len(sample) else "")


def _norms(found: Comparison) -> str:
    what = "bits set" if found.metric.of_bits else "length of the vectors"
    rows = [
        [ref, f"{dim}", *(f"{each:.4g}" for each in (own.mean, own.p5, own.median, own.p95))]
        for ref, dim, own in zip((found.old, found.new), found.dims, found.norms, strict=True)
    ]
    head = ["", "dims", "mean", "5%", "median", "95%"]
    return f"{_table(head, rows)}<p>{what}</p>{_ranges(found)}"


def _overlap(found: Comparison) -> str:
    part = found.overlap
    if part is None:
        return "<p>The two have too few ids in common.</p>"
    return (
        f"<p>Share of each id's {found.k} nearest neighbours that are still among them: mean"
        f" {part.mean:.3f}, median {part.median:.3f}; {escape(about(part))}.</p>"
        f"{_histogram(part, 'share of the neighbours that stayed', _shares(part, found.k))}"
    )


def _shares(part: Distribution, k: int) -> list[str]:
    if len(part.histogram) != k + 1:
        return _from(part)
    return [f"{place / k:.2g}" for place in range(k + 1)]


def _drift(found: Comparison) -> str:
    if found.drift is None or found.aligned is None:
        return f"<p>Not measured: {escape(found.unaligned or 'no ids in common')}.</p>"
    return (
        f"<p>How far each id is from where it was, once {escape(found.new)} is rotated onto"
        f" {escape(found.old)}: mean {found.drift.mean:.4f}, median {found.drift.median:.4f},"
        f" 95% below {found.drift.p95:.4f}; {escape(about(found.drift))}. The rotation leaves a"
        f" residual of {found.aligned.residual:.3f}; without it {found.aligned.before:.3f}.</p>"
        f"{_histogram(found.drift, drift_unit(found.metric), _from(found.drift))}"
    )


def _from(part: Distribution) -> list[str]:
    return [f"{low:.2g}" for low, *_ in part.histogram]


def _moved(found: Comparison) -> str:
    if not found.moved:
        return "<p>Nothing is in common.</p>"
    names = list(found.moved[0].attributes)[:_MOST_COLUMNS]
    what = "neighbours kept" if found.drift is None else "drift"

    def row(each: MovedId) -> list[str]:
        value = each.overlap if found.drift is None else each.drift
        shown = ["" if each.attributes[name] is None else each.attributes[name] for name in names]
        return [str(each.id), f"{value:.4f}", *map(str, shown)]

    return _table(["id", what, *names], [row(each) for each in found.moved])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(each)}</td>' for each in row)}</tr>\n" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _histogram(part: Distribution, label: str, marks: Sequence[str]) -> str:
    """Draw bars, all of one width: the last one may stand for a long tail."""
    most = max(count for *_, count in part.histogram) or 1
    width = (_WIDTH - _LEFT - 10) / len(part.histogram)
    space = _HEIGHT - _TOP - _BOTTOM
    shapes = [_axis(most)]
    step = max(1, len(marks) // 10)
    for place, (low, high, count) in enumerate(part.histogram):
        left, tall = _LEFT + place * width, space * count / most
        says = f"{low:.4g} to {high:.4g}: {count:,} ids"
        shapes.append(
            f'<rect x="{left + 1:.1f}" y="{_TOP + space - tall:.1f}" width="{width - 2:.1f}"'
            f' height="{tall:.1f}"><title>{says}</title></rect>'
        )
        if place % step == 0:
            shapes.append(_text(left + width / 2, _HEIGHT - _BOTTOM + 14, marks[place]))
    shapes.append(_text((_WIDTH + _LEFT) / 2, _HEIGHT - 4, label))
    return _svg(_HEIGHT, shapes, label)


def _axis(most: int) -> str:
    foot = _HEIGHT - _BOTTOM
    line = f'<line x1="{_LEFT}" y1="{foot}" x2="{_WIDTH - 10}" y2="{foot}"/>'
    return (
        line
        + _text(_LEFT - 6, _TOP + 10, f"{most:,}", "end")
        + _text(_LEFT - 6, foot, 0, "end")
        + _text(_LEFT - 6, (_TOP + foot) / 2 + 4, "ids", "end")
    )


def _ranges(found: Comparison) -> str:
    """Draw the norms of both versions: a bar from 5% to 95%, the median on it."""
    largest = max(each.p95 for each in found.norms) or 1.0

    def at(value: float) -> float:
        return 12 + (_WIDTH - 24) * value / largest

    def bar(place: int, ref: str, own: Norms) -> str:
        y = 16 + 40 * place
        return (
            _text(12, y - 3, ref, "start") + f'<rect class="light" x="{at(own.p5):.1f}" y="{y}"'
            f' width="{max(1.0, at(own.p95) - at(own.p5)):.1f}" height="16"/>'
            + f'<rect x="{at(own.median) - 1.5:.1f}" y="{y}" width="3" height="16"/>'
        )

    bars = [
        bar(place, ref, own)
        for place, (ref, own) in enumerate(zip((found.old, found.new), found.norms, strict=True))
    ]
    scale = [_text(at(share * largest), 92, f"{share * largest:.3g}") for share in (0, 0.5, 0.97)]
    return _svg(98, [*bars, *scale], "norms of both versions, from 5% to 95%")


def _text(x: float, y: float, text: Any, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(str(text))}</text>'


def _svg(height: int, shapes: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img"'
        f' aria-label="{escape(label)}">{"".join(shapes)}</svg>'
    )


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem }
p { margin: .3rem 0 .6rem } small, span { color: #5b6b7b }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.figures div { border: 1px solid #d8dfe6; border-radius: 8px; padding: .7rem 1rem; flex: 1 1 9rem;
  display: flex; flex-direction: column }
.figures b { font-size: 1.5rem } .figures small { font-size: .8rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #e6ebf0;
  overflow-wrap: break-word; vertical-align: top }
th { color: #5b6b7b; font-weight: 500 }
svg { max-width: 100%; height: auto; display: block; margin-top: .6rem }
svg rect { fill: #2f6db5 } svg rect.light { fill: #bcd3ee } svg line { stroke: #9aa8b5 }
svg text { font: 12px system-ui, sans-serif; fill: #5b6b7b }
"""
