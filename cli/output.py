"""Tables for people, JSON for pipelines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

# Wide enough that nothing is cut or wrapped in a pipe.
_PIPE_WIDTH = 10_000


def rows(records: Sequence[Mapping[str, Any]], as_json: bool, empty: str = "nothing") -> None:
    """Print records, which all have the keys of the first."""
    if as_json:
        document([dict(each) for each in records])
    elif not records:
        print(empty)
    else:
        _table(records)


def record(values: Mapping[str, Any], as_json: bool) -> None:
    """Print one record, a line per value."""
    if as_json:
        document(dict(values))
        return
    width = max(map(len, values))
    for name, value in values.items():
        print(f"{name:<{width}}  {text(value)}")


def warning(sentence: str) -> None:
    """Say on stderr what works but should be mended."""
    print(f"embstore: {sentence}", file=sys.stderr)


def document(value: object) -> None:
    """Print JSON."""
    json.dump(value, sys.stdout, indent=2, default=_plain, ensure_ascii=False)
    print()


def text(value: object) -> str:
    """Return a value for a terminal: short numbers, and no control character gets through."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    shown = str(value)
    return shown if shown.isprintable() else shown.encode("unicode_escape").decode("ascii")


def size(count: int | None) -> str:
    """Return bytes as people read them."""
    value = float(count or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def _table(records: Sequence[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in records[0]:
        numeric = all(isinstance(each[name], int | float | None) for each in records)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for each in records:
        table.add_row(*(Text(text(value)) for value in each.values()))
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else _PIPE_WIDTH, highlight=False).print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
