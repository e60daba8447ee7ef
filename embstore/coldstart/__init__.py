"""Cold start: vectors for new ids, made of what is there, until the next training.

One way per module, each a function of a version and its new rows that gives a `Made`; the vectors
then join the version by an append.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from ..append import Appended, append
from ..append.columns import OWN
from ..connection import translated
from ..errors import BadInput, DimensionMismatch, DuplicateId, InvalidQuery
from ..load import Options
from ..load.ids import to_id_type
from ..load.rejects import allowed
from ..query.target import id_parameter
from ..readers import read_attributes
from ..readers.base import EMBEDDING, ID
from ..readers.sieve import Place, Sieve
from ..relations import version_table
from ..types import Origin
from .fold import fold_in
from .made import Made, column_of
from .neighbours import mean_of_neighbours
from .side import side_information
from .transform import transform

if TYPE_CHECKING:
    from ..version import Version

__all__ = [
    "WAYS",
    "Made",
    "coldstart",
    "fold_in",
    "mean_of_neighbours",
    "side_information",
    "transform",
]

WAYS: Mapping[str, Callable[..., Made]] = {
    each.__name__: each for each in (mean_of_neighbours, side_information, transform, fold_in)
}
Own = Callable[[pa.Table, "Version"], Any]


def coldstart(
    version: Version,
    new: object,
    method: str | Own,
    how: Mapping[str, Any],
    *,
    ids: str | None,
    message: str | None,
    dry_run: bool,
    options: Options,
) -> Appended:
    """Make vectors for new ids and append them; see ``Version.coldstart``."""
    way = _way(method, how)
    rows = _read(version, new, ids)
    keys = rows.column(0)
    known = _known(version, keys)
    limit = allowed(options.on_bad)
    if limit is not None and known.sum() > limit:
        key = keys.filter(pa.array(known))[0].as_py()
        raise DuplicateId(
            f"{version.ref} has id {key!r} already, and what it has never changes: leave it out, or"
            " skip what is there with on_bad='skip' (--on-bad skip)",
            id=key,
            column=ID,
        )
    made = way(version, rows)
    _check(made, version, len(rows))
    for note in made.notes:
        options.warn(note)
    there = ~np.isnan(made.vectors).all(axis=1)
    kept = there & ~known
    joining = _joining(version, rows, made, kept)
    if joining.num_rows and not dry_run:
        own = dataclasses.replace(options, ids=ID, vectors=EMBEDDING)
        store = version._store
        done = append(
            store.connect_for_load,
            store.engine,
            version.ref,
            joining,
            made.origin,
            message,
            False,  # they are made in the version's own axes
            own,
        )
    else:
        done = Appended(
            version.ref,
            None,
            joining.num_rows,
            made.origin,
            0,
            (),
            version.rows,
            version.checksum,
            None,
            message,
        )
    return dataclasses.replace(
        done,
        rejected=done.rejected + int(known.sum()),
        without=tuple(keys.filter(pa.array(~there & ~known)).to_pylist()),
    )


def _way(method: str | Own, how: Mapping[str, Any]) -> Callable[[Version, pa.Table], Made]:
    """Return the way that is asked for, with its options, before anything is read."""
    if callable(method):
        if how:
            raise InvalidQuery(f"a function of your own takes no {next(iter(how))}=")
        function = method
        return lambda version, new: Made(np.asarray(function(new, version)), Origin.GIVEN)
    found = WAYS.get(str(method).replace("-", "_"))
    if found is None:
        raise InvalidQuery(f"{method!r} is no way of a cold start: use {', '.join(WAYS)}")
    way = found
    try:
        inspect.signature(way).bind(None, None, **how)
    except TypeError as error:
        raise InvalidQuery(f"{way.__name__}: {error}") from error
    return lambda version, new: way(version, new, **how)


def _read(version: Version, new: object, ids: str | None) -> pa.Table:
    """Read the new rows; the first column is ``id``, in the version's type."""
    table = read_attributes(new, ids=ids)
    column = column_of(table, ID, version.ref)
    keys = Sieve().sift(
        pa.record_batch([column], [ID]),
        Place("new rows"),
        0,
        lambda batch: to_id_type(batch.column(0), version.id_type),
    )
    return table.set_column(0, ID, keys)


def _known(version: Version, keys: pa.ChunkedArray) -> Any:
    """Return which of the ids (n,) the version has."""
    ids = keys.combine_chunks()
    ids = pa.concat_arrays(ids.chunks) if isinstance(ids, pa.ChunkedArray) else ids
    statement = sql.SQL("SELECT id FROM {} WHERE id = ANY (%s)").format(
        version_table(version.table, version.number)
    )
    with translated(f"reading {version.ref}"), version._store.writing() as connection:
        found = connection.execute(statement, (id_parameter(ids),)).fetchall()
    there = pa.array([row[0] for row in found], ids.type)
    return pc.is_in(ids, value_set=there).to_numpy(zero_copy_only=False)


def _check(made: Made, version: Version, rows: int) -> None:
    if made.vectors.shape != (rows, version.dim):
        raise DimensionMismatch(
            f"the vectors for {rows} new rows of {version.ref} have the shape"
            f" {made.vectors.shape}: ({rows}, {version.dim}) is needed"
        )
    if made.vectors.dtype.kind not in "fiub":
        raise BadInput(f"the vectors for {version.ref} are {made.vectors.dtype}, no numbers")


def _joining(version: Version, rows: pa.Table, made: Made, kept: Any) -> pa.Table:
    """Return the rows to append: their ids, what are attributes of the version, and vectors."""
    names = {each.name for each in version.attributes} - {each.name for each in OWN}
    own = [name for name in rows.column_names[1:] if name in names and name not in made.columns]
    table = rows.select([ID, *own]).filter(pa.array(kept))
    for name, values in made.columns.items():
        table = table.append_column(name, pa.array(values[kept]))
    flat = pa.array(made.vectors[kept].astype(np.float64).ravel())
    return table.append_column(EMBEDDING, pa.FixedSizeListArray.from_arrays(flat, version.dim))
