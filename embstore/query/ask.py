"""What a call of nearest or similar asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypedDict, Unpack

from .shape import Cut


class How(TypedDict, total=False):
    """What a call may say beside its queries and k; see ``Reads.nearest``."""

    where: object
    unsafe_where: object
    max_distance: float | None
    per_group: str | None
    group_limit: int
    offset: int
    exclude: object
    exact: bool
    search: Mapping[str, int] | None
    show: Sequence[str]
    progress: Callable[[int, int], None] | None


@dataclass(frozen=True)
class Ask:
    """What a call asks for beside its queries; see ``Reads.nearest``."""

    cut: Cut
    where: object = None
    unsafe_where: object = None
    exclude: object = None
    exact: bool = False
    search: Mapping[str, int] = field(default_factory=dict)
    show: Sequence[str] = ()
    progress: Callable[[int, int], None] | None = None

    @classmethod
    def of(cls, k: int, **how: Unpack[How]) -> Ask:
        """Return what a call asks for, checked as far as can be without what it asks.

        Raises
        ------
        InvalidQuery
        """
        rest: dict[str, Any] = {**how, "search": how.get("search") or {}}
        given = (
            k,
            rest.pop("offset", 0),
            rest.pop("max_distance", None),
            rest.pop("per_group", None),
            rest.pop("group_limit", 1),
        )
        try:
            cut = _cut(*given)
        except TypeError:  # unhashable: not a number at all
            cut = Cut(*given)
        return cls(cut, **rest)

    @property
    def plain(self) -> bool:
        """Whether it can be answered by one simple statement, also of the live view."""
        return (
            self.cut.plain
            and self.where is None
            and self.unsafe_where is None
            and self.exclude is None
            and not self.exact
        )


# A caller asks for the same again and again; to check it each time is a tenth of a call's cost.
_cut = lru_cache(maxsize=1000, typed=True)(Cut)
