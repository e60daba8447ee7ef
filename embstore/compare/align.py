"""Versions that are there, once more as the next ones, rotated onto the axes of an older one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import load
from ..catalog import VersionRow
from ..connection import snapshot
from ..errors import InvalidQuery, SpaceMismatch
from ..evaluate.result import METRIC
from ..export.rows import Rows
from ..export.tables import batches, schema
from ..index import Wanted
from ..readers.base import Opened
from ..types import Metric, Progress, Zero
from .alignment import Alignment, check_rotatable, stored
from .pairs import pairs
from .rotation import Procrustes, Rotation

if TYPE_CHECKING:
    from ..store import Store


def align(
    store: Store,
    rows: Sequence[VersionRow],
    to: VersionRow,
    *,
    index: str | Mapping[str, Any],
    progress: Callable[[Progress], None] | None,
    warn: Callable[[str], None] | None,
) -> list[VersionRow]:
    """Align versions of one training; see ``Store.align``."""
    own = _own(rows, to)
    wanted = Wanted.of(index)
    earlier = _earlier(store, rows, own)
    rotation = _fitted(store, own, to, progress)
    space = f"{own.space or own.ref} aligned to {to.ref}"
    done = []
    for row in rows:
        alignment = Alignment.fitted(to, rotation, {"from": row.ref}, earlier)
        done.append(_loaded(store, row, alignment, space, wanted, progress, warn))
    return done


def _own(rows: Sequence[VersionRow], to: VersionRow) -> VersionRow:
    """Return the version that the rotation is fitted with, if all of them can be rotated by it.

    Raises
    ------
    InvalidQuery, DimensionMismatch, SpaceMismatch
    """
    tables = [row.table_name for row in rows]
    if again := next((each for each in tables if tables.count(each) > 1), None):
        raise InvalidQuery(f"two versions of {again} are to be aligned: name one of each table")
    own = next((row for row in rows if row.table_name == to.table_name), None)
    if own is None:
        raise InvalidQuery(
            f"none of {', '.join(row.ref for row in rows) or 'nothing'} is of table"
            f" {to.table_name}: the rotation is fitted on the ids that two versions of it have in"
            f" common, so name the new one too"
        )
    if own.version == to.version:
        raise InvalidQuery(f"{own.ref} is what it is to be aligned to: name the newer version")
    for row in rows:
        check_rotatable(row.dim, row.precision, row.ref, to.ref, to.dim)
        if None not in {row.space, own.space} and row.space != own.space:
            raise SpaceMismatch(
                f"{row.ref} is of space {row.space} and {own.ref} of {own.space}: one rotation does"
                " not fit two trainings"
            )
    return own


def _earlier(store: Store, rows: Sequence[VersionRow], own: VersionRow) -> Alignment | None:
    """Return the alignment that all of the versions went through already.

    Raises
    ------
    SpaceMismatch
        When they did not go through the same one: then their axes differ by now.
    """
    with store.reading() as connection:
        first = stored(connection, own)
        for row in rows:
            other = stored(connection, row)
            same = (other is None) == (first is None)
            if first is not None and other is not None:
                same = np.allclose(first.matrix, other.matrix)
            if not same:
                raise SpaceMismatch(
                    f"{own.ref} and {row.ref} were not aligned by the same rotation, so that their"
                    " axes differ: one more rotation does not fit both"
                )
    return first


def _fitted(
    store: Store,
    new: VersionRow,
    old: VersionRow,
    progress: Callable[[Progress], None] | None,
) -> Rotation:
    fit = Procrustes(old.dim, unit=old.metric is Metric.COSINE)
    with (
        store.reading() as connection,
        snapshot(connection),
        closing(pairs(connection, old, new)) as stream,
    ):
        for block in stream:
            fit.add(block.new, block.old)
            if progress is not None:
                progress(Progress("align", fit.ids, new.rows))
    fit.check(new.ref, old.ref)
    return fit.solve()


def _loaded(
    store: Store,
    row: VersionRow,
    alignment: Alignment,
    space: str,
    index: Wanted,
    progress: Callable[[Progress], None] | None,
    warn: Callable[[str], None] | None,
) -> VersionRow:
    """Load a version as the next one of its table, through the rotation."""
    options = load.Options(
        trainer=row.trainer,
        params=row.params,
        # What its own index was measured to find.
        metrics={name: value for name, value in row.metrics.items() if name != METRIC},
        note=row.source.get("note"),
        space=space,
        id_type=row.id_type,
        precision=row.precision,
        zero=Zero.KEEP,
        index=index,
        align_to=alignment,
        progress=progress,
        warn=warn or (lambda _: None),
    )

    with store.reading() as connection, closing(batches(Rows(connection, row))) as stream:
        source = Opened(row.ref, schema(row), stream, row.rows)
        return load.load(store.connect_for_load, store.engine, row.table_name, source, options)
