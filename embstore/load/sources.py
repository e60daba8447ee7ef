"""The sources of one load, opened one after the other, and where in them an id stands twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import pyarrow as pa
import pyarrow.compute as pc

from ..catalog import VersionRow
from ..errors import BadInput, DuplicateId, EmbstoreError
from ..readers import open_source
from ..readers.base import ID, Opened, Wanted
from ..types import IdType
from .ids import to_id_type
from .options import Options


def several(source: object) -> list[object]:
    """Return the sources of one load: a list of paths is that many files."""
    if isinstance(source, list | tuple) and source:
        if all(isinstance(each, str | os.PathLike) for each in source):
            return list(source)
        raise BadInput("a list is loaded only as a list of paths; give vectors as an array")
    return [source]


def open_one(source: object, options: Options) -> AbstractContextManager[Opened]:
    """Open one source as the options say."""
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
    return open_source(source, wanted, format=options.format)


def parts_of(first: Opened, more: Sequence[object], options: Options) -> Iterator[Opened]:
    """Give the opened sources one after the other; all must hold the same columns."""
    yield first
    for each in more:
        with open_one(each, options) as opened:
            if opened.schema != first.schema:
                raise BadInput(
                    f"{opened.name} has other columns than {first.name}"
                    f" ({_described(opened.schema)} against {_described(first.schema)}): load"
                    " them as tables of their own",
                    source=opened.name,
                )
            if opened.provenance.get("leaves") != first.provenance.get("leaves"):
                raise BadInput(
                    f"{opened.name} has other leaves than {first.name}, since the largest index of"
                    " a tree counts its leaves: load the parts as one array",
                    source=opened.name,
                )
            yield opened


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{each.name} {each.type}" for each in schema)


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
    for source in sources:
        if isinstance(source, pa.RecordBatchReader):
            continue  # it can be read once only
        try:
            with open_one(source, options) as again:
                places += _places_of(again, version.id_type, key)
        except EmbstoreError:
            continue
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
    first = opened.first
    for batch in opened.batches:
        ids = to_id_type(batch.column(ID), id_type, opened.name, opened.unit, first)
        for each in pc.indices_nonzero(pc.equal(ids, pa.scalar(key, ids.type))).to_pylist():
            places.append((f"{opened.name} {opened.unit} {first + each}", first + each))
        if len(places) > 1:
            break
        first += len(batch)
    return places
