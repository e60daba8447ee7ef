"""What an exported file tells of the version it was, in its metadata: written here, read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .base import Opened

if TYPE_CHECKING:
    from ..catalog import VersionRow

_PREFIX = "embstore."
# Measured of the version's index, which its vectors leave behind.
_OF_THE_INDEX = "index_recall"
_LONGEST = 1 << 20


def described(version: VersionRow) -> dict[str, str]:
    """Return what a file tells of the version in it: text, of ``params`` and ``metrics`` JSON."""
    metrics = {name: each for name, each in version.metrics.items() if name != _OF_THE_INDEX}
    told = {
        "ref": version.ref,
        "metric": version.metric.value,
        "precision": version.precision.value,
        "id_type": version.id_type.value,
        "checksum": version.checksum,
        "created_at": version.created_at.isoformat(),
        "space": version.space,
        "trainer": version.trainer,
        "params": json.dumps(dict(version.params), ensure_ascii=False),
        "metrics": json.dumps(metrics, ensure_ascii=False),
    }
    return {f"{_PREFIX}{name}": value for name, value in told.items() if value is not None}


def with_origin(opened: Opened, metadata: Mapping[Any, Any] | None) -> Opened:
    """Add what the metadata of an exported file tell: trainer, params, metrics, and of what it is.

    They say what the file was when it was written, and tools carry them along when they change
    the rows: so nothing that matters is taken from them. The space, by which vectors are compared
    with others, must be said again.
    """
    told = {_text(name): _text(value) for name, value in (metadata or {}).items()}
    if not told.get(f"{_PREFIX}ref"):
        return opened
    told = {name.removeprefix(_PREFIX): value for name, value in told.items() if is_ours(name)}
    origin = {each: told[each] for each in ("ref", "checksum", "created_at") if told.get(each)}
    return replace(
        opened,
        provenance={**opened.provenance, "exported": origin},
        trainer=opened.trainer or told.get("trainer") or None,
        params={**opened.params, **_mapping(told.get("params"))},
        metrics={**opened.metrics, **_mapping(told.get("metrics"))},
    )


def is_ours(name: str) -> bool:
    """Tell whether a name among a file's metadata is one of those that ``described`` gives."""
    return name.startswith(_PREFIX)


def _text(value: object) -> str:
    """Return a text that Postgres can keep; of a note that somebody damaged, an empty one."""
    try:
        text = value.decode() if isinstance(value, bytes) else str(value)
        text.encode()
    except UnicodeError:
        return ""
    return text if len(text) <= _LONGEST and "\0" not in text else ""


def _mapping(text: str | None) -> dict[str, object]:
    """Return the JSON object that a text is, if Postgres can keep it; else an empty one."""
    try:
        found = json.loads(text or "{}")
        plain = json.dumps(found, ensure_ascii=False, allow_nan=False)
        plain.encode()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and "\\u0000" not in plain else {}
