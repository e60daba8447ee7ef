"""What every example does: read the data, open the store, run, and print the table."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import embstore

from .data import Data
from .files import read


@dataclass
class Report:
    """What an example found.

    Attributes
    ----------
    rows : sequence of mappings
        The table, a row each, the baseline first; all have the same keys. None is an empty cell.
    saved : str
        What the store saved, in a sentence.
    notes : list of str
        What else it found, a line each.
    draw : function of axes, optional
        Draws the picture.
    """

    rows: Sequence[Mapping[str, Any]]
    saved: str
    notes: list[str] = field(default_factory=list)
    draw: Callable[[Any], None] | None = None

    def __str__(self) -> str:
        lines = [f"{note}\n" for note in self.notes]
        names = list(self.rows[0])
        lines.append(f"| {' | '.join(names)} |")
        lines.append(f"| {' | '.join('---' for _ in names)} |")
        lines += [f"| {' | '.join(_shown(row[name]) for name in names)} |" for row in self.rows]
        return "\n".join([*lines, "", self.saved])


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return (
            f"{value:,.0f}"
            if abs(value) >= 100
            else f"{value:.3g}"
            if value >= 1
            else f"{value:.3f}"
        )
    return f"{value:,}" if isinstance(value, int) else str(value)


Example = Callable[[embstore.Store, Data, int], Report]


def main(about: str | None, run: Example, needs: Sequence[str] = ()) -> None:
    """Run an example from the command line: ``python -m examples.NAME [RATINGS] [--items FILE]``.

    ``needs`` are columns of the books, or ``rating``, of which something must be known.
    """
    parser = argparse.ArgumentParser(
        f"python -m examples.{Path(sys.argv[0]).parent.name}",
        description=(about or "").split("\n")[0],
    )
    parser.add_argument(
        "ratings",
        nargs="?",
        type=Path,
        help="a file with user_id, item_id and rating; or a folder with goodbooks-10k as Parquet;"
        " by default goodbooks-10k where it lies beside the project, else data are made up",
    )
    parser.add_argument(
        "--items",
        type=Path,
        metavar="FILE",
        help="of the items of a file of ratings: id and any of title, author, series, year,"
        " language, genres, tags",
    )
    parser.add_argument("--quick", action="store_true", help="few readers, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it, as SVG")
    asked = parser.parse_args()
    # What myFM says of itself on its import is nothing to who runs an example.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    start = time.monotonic()
    try:
        data = read(asked.ratings, asked.items, quick=asked.quick, seed=asked.seed)
    except embstore.EmbstoreError as error:
        parser.error(str(error))
    if missing := [name for name in needs if not data.knows(name)]:
        parser.error(
            f"{data.name} does not tell {' and '.join(missing)}, which this example is about:"
            " --help says where to add it"
        )
    try:
        with embstore.connect() as store:
            report = run(store, data, asked.seed)
    except embstore.BadInput as error:  # which is of the data, as they were given
        sys.exit(f"{data.name}: {error}")
    print(report)
    users, items = data.shape
    print(f"\n{data.name}: {users:,} readers, {items:,} books; {time.monotonic() - start:.0f} s")
    if asked.picture and report.draw:
        picture(asked.picture, report.draw)


def picture(path: Path, draw: Callable[[Any], None]) -> None:
    """Draw a figure into an SVG file."""
    from benchmarks.pictures import figure

    image, axes = figure(6, 3.5)
    draw(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.savefig(path, bbox_inches="tight", metadata={"Date": None})


def bars(rows: Sequence[Mapping[str, Any]], what: str) -> Callable[[Any], None]:
    """Draw one column of the table as horizontal bars, the first row on top."""
    names = [str(next(iter(row.values()))) for row in rows]

    def draw(axes: Any) -> None:
        shown = [row[what] for row in rows]
        drawn = axes.barh(names, [each or 0 for each in shown])
        axes.bar_label(drawn, [_shown(each) for each in shown], padding=3)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_xlabel(what)

    return draw


def fresh(store: embstore.Store, name: str, **how: Any) -> embstore.Table:
    """Return an empty table, made anew."""
    if name in {each.name for each in store.tables()}:
        store.drop_table(name, force=True)
    return store.create_table(name, **how)
