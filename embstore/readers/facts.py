"""What models tell of themselves, as JSON can hold it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

# A text beyond this is data, not a setting.
_LONGEST = 1000


def plain(value: Any) -> object:
    """Return a number, text, truth value or short list of them; None for anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple) and len(value) <= 16:
        parts = [plain(each) for each in value]
        return parts if None not in parts else None
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float) or (isinstance(value, str) and _is_text(value)):
        return value
    return None


def _is_text(value: str) -> bool:
    """Tell whether Postgres can keep it."""
    try:
        return len(value) <= _LONGEST and "\0" not in value and bool(value.encode() or True)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def public(values: Mapping[str, Any]) -> dict[str, object]:
    """Return those of an object's settings that JSON can hold and that are no private names."""
    shown = {name: plain(value) for name, value in values.items() if not name.startswith("_")}
    return {name: value for name, value in shown.items() if value is not None}


def class_name(value: object) -> str:
    """Return an object's package and class: ``gensim.Word2Vec``."""
    return f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"


def library(module: str) -> dict[str, object]:
    """Return the library a module belongs to and its version: ``{"library": "gensim 4.4.0"}``."""
    top = module.split(".")[0]
    name = _packages().get(top, [top])[0]
    try:
        return {"library": f"{name} {metadata.version(name)}"}
    except metadata.PackageNotFoundError:
        return {}


@cache
def _packages() -> Mapping[str, list[str]]:
    """Read which package each module is of: half a second where many are installed."""
    return metadata.packages_distributions()
