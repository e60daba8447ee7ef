"""Two versions compared from end to end: ids, norms, neighbours, alignment, drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..catalog import VersionRow
from ..connection import snapshot
from ..errors import InvalidQuery
from ..evaluate.queries import check_sample
from ..evaluate.recall import check_k
from ..io import complete
from ..query.lookup import lookup
from ..query.target import Target
from ..types import Id, Metric, Precision, Progress
from .drift import Moves, moves
from .measures import id_changes, norms
from .overlap import Overlap, of_pairs
from .pairs import Pairs
from .result import Aligned, Comparison, MovedId, of_drift, of_overlap
from .rotation import Procrustes

if TYPE_CHECKING:
    from ..store import Store


def compare(
    store: Store,
    old: VersionRow,
    new: VersionRow,
    k: int,
    *,
    sample: int | None,
    seed: int,
    top: int,
    show: Sequence[str] | None,
    progress: Callable[[Progress], None] | None,
) -> Comparison:
    """Compare two versions; see ``Store.compare``."""
    check_k(k)
    check_sample(sample, seed)
    if top < 0:
        raise InvalidQuery(f"top is {top}: how many ids to show cannot be negative")
    report = progress or (lambda _: None)
    names = _shown(new, show)
    engine = store.read_engine
    why = _no_rotation(old, new)
    fit = None if why else Procrustes(old.dim, unit=old.metric is Metric.COSINE)
    with store.reading() as connection, snapshot(connection):
        ids = id_changes(connection, old, new)
        lengths = norms(connection, engine, old), norms(connection, engine, new)

        def seen(phase: str) -> Callable[[int], None]:
            return lambda done: report(Progress(phase, done, ids.common))

        def fitted(block: Pairs) -> None:
            if fit is not None:
                fit.add(block.new, block.old)

        found = of_pairs(connection, old, new, k, sample, seed, seen("neighbours"), fitted)
        if fit is not None and fit.ids < old.dim:
            why = f"a rotation of {old.dim} dimensions needs as many ids in common"
        rotation, drift = None, None
        if fit is not None and why is None:
            rotation = fit.solve()
            drift = moves(connection, old, new, rotation.matrix, fit.scale, top, seen("drift"))
    return Comparison(
        old.ref,
        new.ref,
        old.metric,
        (ids.common + ids.removed, ids.common + ids.added),
        (old.dim, new.dim),
        ids,
        lengths,
        k if found is None else found.k,
        seed,
        None if found is None else of_overlap(found),
        None if rotation is None else Aligned(rotation.ids, rotation.residual, rotation.before),
        None if drift is None else of_drift(drift.values, old.metric),
        why,
        _moved(store, new, names, drift, found, top),
    )


def _no_rotation(old: VersionRow, new: VersionRow) -> str | None:
    """Say why no rotation maps the new version onto the old one."""
    if Precision.BIT in {old.precision, new.precision}:
        return "bits are not rotated"
    return None if old.dim == new.dim else f"{new.dim} dimensions are not rotated onto {old.dim}"


def _shown(new: VersionRow, show: Sequence[str] | None) -> tuple[str, ...]:
    have = [each.name for each in new.attributes]
    for name in show or ():
        if name not in have:
            raise InvalidQuery(
                f"{new.ref} has no attribute {name!r}: it has {', '.join(have) or 'none'}"
            )
    return tuple(have if show is None else show)


def _moved(
    store: Store,
    new: VersionRow,
    names: tuple[str, ...],
    drift: Moves | None,
    found: Overlap | None,
    top: int,
) -> tuple[MovedId, ...]:
    """Return the ids that moved most, with what the new version says of them."""
    kept: dict[Id, float] = {}
    if found is not None:
        kept = dict(zip(found.ids.tolist(), found.values.tolist(), strict=True))
    if drift is not None:
        far: list[tuple[Id, float | None]] = [*drift.top]
    else:
        far = [(each, None) for each in sorted(kept, key=kept.__getitem__)[:top]]
    if not far:
        return ()
    ids = [each for each, _ in far]
    target = Target.of_version(new)
    shown: dict[str, Any] = {}
    if names:
        shown = complete(lookup(store.lender, target, ids, show=names)).attributes
    return tuple(
        MovedId(each, value, kept.get(each), {name: shown[name][at] for name in names})
        for at, (each, value) in enumerate(far)
    )
