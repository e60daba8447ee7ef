"""The sources of one load, opened one after the other, and where in them an id stands twice."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ..catalog import VersionRow
from ..errors import BadInput, DuplicateId, EmbstoreError, InvalidQuery, NotFound
from ..readers import open_source
from ..readers.base import ID, Ids, Opened, Picked, RowNumbers, Wanted, count_mismatch
from ..readers.folders import files_of
from ..readers.ids import outside_ids
from ..readers.sieve import ROW, Sieve
from ..readers.source import is_file
from ..types import IdType
from .ids import to_id_type
from .options import Options
from .rejects import Rejects


def several(source: object) -> list[object]:
    """Return the sources of one load: a list of paths is that many, so is a folder or a glob.

    Raises
    ------
    BadInput, NotFound
    """
    given = source if isinstance(source, list | tuple) and source else [source]
    if given is not source or all(map(is_file, given)):
        return [
            part
            for each in given
            for part in (files_of(each) if isinstance(each, str | os.PathLike) else [each])
        ]
    raise BadInput("a list is loaded only as a list of paths; give vectors as an array")


def opened(
    sources: Sequence[object], options: Options, rejects: Rejects | None = None
) -> Generator[Opened, None, None]:
    """Open the sources one after the other; all must hold the same columns.

    Of several, ids that are given apart are for all of their rows, one after the other.

    Raises
    ------
    BadInput, NotFound, InvalidQuery
    """
    wanted = Wanted(
        ids=options.ids,
        vectors=options.vectors,
        id_type=options.id_type,
        biases=options.biases,
        fold=options.fold,
        data=options.data,
        allow_pickle=options.allow_pickle,
        bits=options.bits,
    )
    apart = _apart(options.ids) if len(sources) > 1 else None
    if apart is not None:
        if rejects is not None and rejects.skips:
            raise InvalidQuery(
                "rows cannot be left out of several files whose ids are given apart: load with"
                " on_bad='reject' (--on-bad), or files that hold their ids"
            )
        wanted = replace(wanted, ids=RowNumbers.name)
    first, rows = None, 0
    for each in sources:
        wanted = replace(wanted, sieve=rejects.sieve() if rejects is not None else Sieve())
        with _opened(each, wanted, options.format) as part:
            if apart is not None:
                part = _numbered(part, apart, rows)
            first = part if first is None else first
            if _columns(part) != _columns(first):
                raise BadInput(
                    f"{part.name} has other columns than {first.name}"
                    f" ({_described(part)} against {_described(first)}): load"
                    " them as tables of their own",
                    source=part.name,
                )
            if part.provenance.get("leaves") != first.provenance.get("leaves"):
                raise BadInput(
                    f"{part.name} has other leaves than {first.name}, since the largest index of"
                    " a tree counts its leaves: load the parts as one array",
                    source=part.name,
                )
            counted = _Counted(part.batches, rows)
            yield replace(part, batches=iter(counted))
            rows = counted.rows
    if isinstance(apart, pa.Array) and len(apart) != rows:
        raise count_mismatch("all files together", rows, len(apart))


def _opened(source: object, wanted: Wanted, format: str | None) -> AbstractContextManager[Opened]:
    # A version that is loaded again is open already.
    return (
        nullcontext(source)
        if isinstance(source, Opened)
        else open_source(source, wanted, format=format)
    )


class _Counted:
    """Batches, and how many rows there were in them and before."""

    def __init__(self, batches: Iterator[pa.RecordBatch], rows: int) -> None:
        self._batches, self.rows = batches, rows

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            yield batch
            self.rows += len(batch)


def _apart(ids: object) -> Ids | None:
    """Return ids that are in none of several sources; a text is a file's name if there is one."""
    if isinstance(ids, str) and Path(ids).is_dir():
        return None
    try:
        found = outside_ids(ids, ())
    except NotFound:
        return None  # a column's name
    if isinstance(found, Picked):
        raise BadInput(
            "a vocabulary gives the rows of one matrix their ids: load several files with a list of"
            " ids, one per row of all of them"
        )
    return found


def _numbered(part: Opened, ids: Ids, before: int) -> Opened:
    """Replace the row numbers of a part by the ids of its rows among all."""
    at = part.schema.get_field_index(ID)
    schema = part.schema.set(at, pa.field(ID, ids.type))

    def batches() -> Iterator[pa.RecordBatch]:
        rows = before
        for batch in part.batches:
            keys = ids.slice(rows, len(batch))
            rows += len(batch)
            if len(keys) != len(batch):
                raise count_mismatch(
                    f"all files to {part.name}", rows, rows - len(batch) + len(keys), "at least "
                )
            columns = batch.columns
            columns[at] = keys
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return replace(part, schema=schema, batches=batches())


def _columns(opened: Opened) -> list[pa.Field]:
    return [each for each in opened.schema if each.name != ROW]


def _described(opened: Opened) -> str:
    return ", ".join(f"{each.name} {each.type}" for each in _columns(opened))


class Repeated(Exception):
    """The primary key could not be made: these ids stand there twice."""

    def __init__(self, ids: list[int | str]) -> None:
        self.ids = ids


def duplicate(
    sources: Sequence[object], version: VersionRow, options: Options, found: Repeated
) -> DuplicateId:
    """Find where a repeated id stands, by reading the sources once more where that is possible."""
    key = found.ids[0]
    places: list[tuple[str, int]] = []
    # What can be read once only, such as a pipe, is left out.
    with suppress(EmbstoreError):
        if not any(isinstance(each, pa.RecordBatchReader) for each in sources):
            for again in opened(sources, options):
                places += _places_of(again, version.id_type, key)
                if len(places) > 1:
                    break
    where = " and ".join(place for place, _ in places[:2]) or str(version.source["name"])
    more = f", and {len(found.ids) - 1} more ids are" if len(found.ids) > 1 else ""
    return DuplicateId(
        f"{where}: id {key!r} is there twice{more}; keep one row per id and load again",
        source=str(version.source["name"]),
        row=places[1][1] if len(places) > 1 else None,
        id=key,
        column="id",
    )


def _places_of(opened: Opened, id_type: IdType, key: int | str) -> list[tuple[str, int]]:
    places: list[tuple[str, int]] = []
    place, rows = opened.place, 0
    for batch in opened.batches:
        ids = to_id_type(batch.column(ID), id_type)
        for each in pc.indices_nonzero(pc.equal(ids, pa.scalar(key, ids.type))).to_pylist():
            places.append((place.name(rows + each), place.first + rows + each))
        if len(places) > 1:
            break
        rows += len(batch)
    return places
