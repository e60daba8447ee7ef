"""What a load is told."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..index import Wanted
from ..types import IdType, Precision, Progress, Zero

if TYPE_CHECKING:
    from ..compare.alignment import Alignment
    from ..evaluate.target import Goal


@dataclass(frozen=True)
class Options:
    """What a load is told beside its source; see ``Table.load``."""

    trainer: str | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str | None = None
    space: str | None = None
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
    index: Wanted = dataclasses.field(default_factory=Wanted)
    goal: Goal | None = None
    align_to: str | Alignment | None = None
    connections: int | None = None
    zero: Zero = Zero.REJECT
    on_bad: str = "reject"
    rejects: str | os.PathLike[str] | None = None
    alias: str | None = None
    progress: Callable[[Progress], None] | None = None
    warn: Callable[[str], None] = lambda _: None
