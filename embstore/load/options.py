"""What a load is told, and what it tells while it runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..types import IdType, Precision, Zero


@dataclass(frozen=True)
class Progress:
    """How far a load is.

    Attributes
    ----------
    phase : str
        ``rows``, then ``index``, then ``publish``.
    done, total : int, int or None
        Rows, or blocks of the index build; total is None where the source does not tell.
    note : str
        What is waited for, if anything.
    """

    phase: str
    done: int
    total: int | None
    note: str = ""


@dataclass(frozen=True)
class Options:
    """What a load is told beside its source; see ``Table.load``."""

    trainer: str | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str | None = None
    ids: object = None
    vectors: str | None = None
    format: str | None = None
    biases: str | None = None
    fold: bool = False
    data: object = None
    allow_pickle: bool = False
    bits: bool = False
    attributes: object = None
    attributes_ids: str | None = None
    id_type: IdType | None = None
    precision: Precision | None = None
    index: str = "hnsw"
    connections: int | None = None
    zero: Zero = Zero.REJECT
    on_bad: str = "reject"
    rejects: str | os.PathLike[str] | None = None
    alias: str | None = None
    progress: Callable[[Progress], None] | None = None
    warn: Callable[[str], None] = lambda _: None
