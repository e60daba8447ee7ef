"""The columns of a table: which is the id, which the vector, and which attributes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ..errors import BadInput
from .base import EMBEDDING, ID

# What pandas calls an index without a name, as a column.
_UNNAMED_INDEX = re.compile(r"__index_level_[0-9]+__")


@dataclass(frozen=True)
class Layout:
    """Which column is what.

    Attributes
    ----------
    id : str or None
        None when the ids come from elsewhere.
    vectors : tuple of str
        One column of lists (or of text), or a column per dimension.
    attributes : tuple of str
    """

    id: str | None
    vectors: tuple[str, ...]
    attributes: tuple[str, ...]


def layout(
    schema: pa.Schema,
    name: str,
    ids: str | None,
    vectors: str | None,
    *,
    outside: bool = False,
    texts: Sequence[str] = (),
) -> Layout:
    """Choose the columns.

    Parameters
    ----------
    ids, vectors : str or None
        What the user named.
    outside : bool
        The ids come from elsewhere.
    texts : sequence of str
        Columns whose text looks like a vector.

    Raises
    ------
    BadInput
        When a name is not there, or the choice is not plain.
    """
    _check_columns(schema, name)
    names = schema.names
    chosen = _vector_columns(schema, name, ids, vectors, texts)
    vectors_of = set(chosen)
    rest = [each for each in names if each not in vectors_of]
    own = None if outside else _id_column(schema, name, ids, rest)
    attributes = [each for each in rest if each != own and not _UNNAMED_INDEX.fullmatch(each)]
    for taken, by in ((ID, own or "elsewhere"), (EMBEDDING, chosen[0])):
        if taken in attributes:
            raise BadInput(
                f"{name}: column {taken!r} cannot become an attribute, because that is what the"
                f" column from {by!r} will be called; rename or leave it out",
                source=name,
                column=taken,
            )
    return Layout(own, chosen, tuple(attributes))


def _check_columns(schema: pa.Schema, name: str) -> None:
    seen: set[str] = set()
    for each in schema:
        if each.name in seen:
            raise BadInput(
                f"{name} has two columns called {each.name!r}: rename one",
                source=name,
                column=each.name,
            )
        seen.add(each.name)
        if isinstance(each.type, pa.BaseExtensionType) and not isinstance(each.type, pa.JsonType):
            raise BadInput(
                f"{name}: column {each.name!r} has the extension type {each.type}, which is not"
                " read; store it as a plain type",
                source=name,
                column=each.name,
            )


def _vector_columns(
    schema: pa.Schema, name: str, ids: str | None, vectors: str | None, texts: Sequence[str]
) -> tuple[str, ...]:
    groups = _numbered(schema, ids)
    if vectors is not None:
        return _named_vectors(schema, name, vectors, groups)
    lists = [each for each in schema if is_vector(each.type)]
    if EMBEDDING in [each.name for each in lists]:
        return (EMBEDDING,)
    # Lists of truth values are vectors only where there are no others.
    lists = [each for each in lists if is_number(each.type.value_type)] or lists
    candidates: list[tuple[str, ...]] = (
        [(each.name,) for each in lists]
        or list(groups.values())
        or [(each,) for each in texts if each != ids]
    )
    if not candidates:
        raise BadInput(
            f"{name} has no column of vectors: it has {listed(schema.names)}; name one with"
            " --vectors",
            source=name,
        )
    if len(candidates) > 1:
        shown = listed([each[0] if len(each) == 1 else f"{each[0]}..." for each in candidates])
        raise BadInput(
            f"{name}: the vectors could be {shown}; say with --vectors NAME", source=name
        )
    return candidates[0]


def _named_vectors(
    schema: pa.Schema, name: str, vectors: str, groups: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
    if vectors in schema.names:
        kind = schema.field(vectors).type
        if not (is_vector(kind) or is_text(kind)):
            raise BadInput(
                f"{name}: column {vectors!r} has type {kind} and holds no vectors",
                source=name,
                column=vectors,
            )
        return (vectors,)
    for prefix, columns in groups.items():
        if vectors in {prefix, f"{columns[0]}..."}:  # the second is what a message has shown
            return columns
    raise BadInput(
        f"{name} has no column {vectors!r}: it has {listed(schema.names)}",
        source=name,
        column=vectors,
    )


def _numbered(schema: pa.Schema, ids: str | None) -> dict[str, tuple[str, ...]]:
    """Columns of numbers called v0, v1, ... or v01, v02, ...: by their common beginning."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for each in schema:
        match = re.fullmatch(r"(.*?)([0-9]{1,6})", each.name, re.DOTALL | re.ASCII)
        if match and is_number(each.type) and each.name != ids:
            found[match[1]].append((int(match[2]), each.name))
    groups = {}
    for prefix, columns in found.items():
        columns.sort()
        start = columns[0][0]
        wanted = list(range(start, start + len(columns)))
        if start in (0, 1) and len(columns) > 1 and [n for n, _ in columns] == wanted:
            groups[prefix] = tuple(each for _, each in columns)
    return groups


def _id_column(schema: pa.Schema, name: str, ids: str | None, rest: list[str]) -> str:
    if ids is not None:
        if ids not in rest:
            raise BadInput(
                f"{name} has no column or file {ids!r} for the ids: its columns are {listed(rest)}",
                source=name,
                column=ids,
            )
        check_id_type(schema.field(ids).type, name, ids)
        return ids
    index = pandas_index(schema)
    for each in (ID, index if isinstance(index, str) else None):
        if each in rest and not _UNNAMED_INDEX.fullmatch(each):
            check_id_type(schema.field(each).type, name, each)
            return each
    candidates = [each for each in rest if _is_id(schema.field(each).type)]
    # The nameless index of a filtered frame is its old row numbers: only if there is nothing else.
    named = [each for each in candidates if not _is_row_numbers(schema.field(each))]
    candidates = named or candidates
    if len(candidates) != 1:
        what = f"could be {listed(candidates)}" if candidates else "are not there"
        raise BadInput(f"{name}: the ids {what}; say with --ids NAME or --ids FILE", source=name)
    return candidates[0]


def _is_row_numbers(field: pa.Field) -> bool:
    return bool(_UNNAMED_INDEX.fullmatch(field.name)) and pa.types.is_integer(field.type)


def pandas_index(schema: pa.Schema) -> str | tuple[str, range] | None:
    """Return the index of the pandas frame that a table was: its column, or its name and range."""
    try:
        found = (schema.pandas_metadata or {}).get("index_columns", [])
        if len(found) != 1:
            return None
        (index,) = found
        if isinstance(index, str):
            return index if index in schema.names else None
        if index["kind"] == "range" and isinstance(index["name"], str):
            return index["name"], range(index["start"], index["stop"], index["step"])
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # somebody else's note on the table, which may be anything
    return None


def check_id_type(kind: pa.DataType, name: str, column: str) -> None:
    """Refuse a column that cannot hold ids.

    Raises
    ------
    BadInput
    """
    if not _is_id(kind):
        raise BadInput(
            f"{name}: column {column!r} has type {kind} and cannot hold ids, which are integers or"
            " text",
            source=name,
            column=column,
        )


def is_vector(kind: pa.DataType) -> bool:
    """Tell whether a column of this type can hold vectors."""
    is_list = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    return bool(is_list and (is_number(kind.value_type) or pa.types.is_boolean(kind.value_type)))


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a column of this type holds text."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Tell whether a column of this type holds numbers."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_id(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(value) or is_text(value))


def listed(names: Sequence[str]) -> str:
    """Show names in a message."""
    shown = ", ".join(map(repr, names[:12]))
    return f"{shown}, ..." if len(names) > 12 else shown or "nothing"
