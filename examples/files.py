"""Ratings from files: goodbooks-10k where it is, or anybody's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embstore import BadInput
from embstore.interactions import pair
from embstore.readers import read_attributes
from embstore.readers.ids import id_array

from .data import Array, Data, catalogue, generated

# Where goodbooks-10k is as Parquet: books, ratings, to_read and book_tags.
GOODBOOKS = Path(__file__).parents[2] / "shared" / "data" / "goodbooks"
QUICK = 2_700
NO_ONE = np.empty(0, np.int64), np.empty(0, np.int64)


def read(
    path: Path | None = None, items: Path | None = None, *, quick: bool = False, seed: int = 0
) -> Data:
    """Read ratings; without a path goodbooks-10k, if it lies beside the project, or made-up ones.

    Parameters
    ----------
    path : path
        A file of ratings, or the folder of goodbooks-10k.
    items : path
        What is known of the items that a file rates.
    quick : bool
        Keep 2,700 of the readers, about.

    Raises
    ------
    embstore.BadInput, embstore.NotFound
    """
    if path is None and not GOODBOOKS.exists():
        return generated(400 if quick else 2000, 800 if quick else 4000, seed)
    path = path or GOODBOOKS
    data = goodbooks(path) if (path / "to_read.parquet").exists() else rated(path, items)
    return data.smaller(min(1, QUICK / data.shape[0])) if quick else data


def rated(path: Path, items: Path | None = None) -> Data:
    """Read a file of ratings, in any format that embstore reads tables of.

    Parameters
    ----------
    path : path
        With the columns ``user_id`` and ``item_id``, else the first two, and ``rating``. The
        highest rating counts as 5 of 5; without any, so does every row.
    items : path
        With the item's ``id``, else the first column, and any of ``title``, ``author``, ``series``,
        ``year``, ``language``, and ``tags`` or ``genres`` (lists, or texts with | between).
    """
    table = read_attributes(path)
    user, item = pair(table, str(path))
    _, users = _numbered(table[user], f"{path}, column {user}")
    things, which = _numbered(table[item], f"{path}, column {item}")
    ratings = np.full(len(table), 5.0)
    if "rating" in table.schema.names:
        given = _as(table["rating"], pa.float64(), f"{path}, column rating").to_numpy()
        if not np.isfinite(given).all() or given.max() <= 0:
            raise BadInput(f"{path}, column rating: every row needs a number, the best above 0")
        ratings = 5 * given / given.max()
    # Of a pair that is there twice, the last rating counts.
    pairs, place = np.unique((users * len(things) + which)[::-1], return_index=True)
    chosen = pairs % len(things)
    return Data(
        path.name,
        _known(things, np.bincount(chosen), items),
        pairs // len(things),
        chosen,
        ratings[::-1][place],
        NO_ONE,
    )


def _numbered(column: Any, name: str) -> tuple[pa.Array, Array]:
    """Return each id once, and the number of each row's."""
    ids = id_array(column, name)
    if ids.null_count:
        raise BadInput(f"{name}: row {pc.index(ids.is_null(), True).as_py() + 1} has no id")
    known = ids.unique()
    known = known.take(pc.sort_indices(known))
    return known, pc.index_in(ids, value_set=known).to_numpy().astype(np.int64)


def _known(things: pa.Array, popularity: Array, items: Path | None) -> pa.Table:
    """Return what a file says of items, in their order; null where it says nothing."""
    known = pa.table({"id": things}) if items is None else read_attributes(items)
    if known["id"].type != things.type:
        raise BadInput(f"{items} has ids of {known['id'].type}, the ratings of {things.type}")
    place = pc.index_in(things, value_set=known["id"])
    if place.null_count == len(place):
        raise BadInput(f"{items} tells nothing of any item of the ratings: are the ids the same?")
    known = known.take(place).combine_chunks()

    def column(name: str, kind: pa.DataType) -> Any:
        if name not in known.schema.names:
            return pa.nulls(len(known), kind)
        return _as(known[name], kind, f"{items}, column {name}")

    title = pc.coalesce(column("title", pa.string()), things.cast(pa.string()))
    name = "tags" if "tags" in known.schema.names else "genres"
    tags = [] if name not in known.schema.names else known[name].to_pylist()
    # A text is tags with | between.
    lists = [each.split("|") if isinstance(each, str) else each or [] for each in tags]
    return catalogue(
        title,
        author=column("author", pa.string()),
        series=column("series", pa.string()),
        year=column("year", pa.int16()).to_pylist(),
        language=column("language", pa.string()),
        tags=lists or [[]] * len(known),
        popularity=popularity,
    )


def _as(column: Any, kind: pa.DataType, name: str) -> Any:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{name}: {error}") from error


def goodbooks(folder: Path) -> Data:
    """Read goodbooks-10k; the series is in the title, the first tag is one that says much."""
    books = pq.read_table(folder / "books.parquet").sort_by("book_id")
    tags = pq.read_table(folder / "book_tags.parquet")
    counts = pc.value_counts(tags["tag"])
    share = counts.field("counts")
    # What is on every book ("to-read") or on hardly any says nothing.
    rare = pc.or_(pc.less(share, 20), pc.greater(share, len(books) // 5))
    tags = tags.filter(pc.is_in(tags["tag"], counts.field("values").filter(pc.invert(rare))))
    best: dict[int, list[str]] = {}
    for book, tag in zip(tags["book_id"].to_pylist(), tags["tag"].to_pylist(), strict=True):
        best.setdefault(book, []).append(tag)  # they come by count, the highest first
    series = pc.extract_regex(books["title"], r"\((?P<name>[^()]+?),? #[\d.]+")
    table = catalogue(
        books["title"],
        author=pc.list_element(pc.split_pattern(books["authors"], ","), 0),
        series=pc.struct_field(series, "name"),
        year=books["year"].to_pylist(),
        language=books["language"],
        tags=[best.get(book, [])[:20] for book in books["book_id"].to_pylist()],
        popularity=books["ratings_count"],
    )
    ratings = pq.read_table(folder / "ratings.parquet")
    wanted = pq.read_table(folder / "to_read.parquet")
    return Data(
        "goodbooks-10k",
        table,
        _counted(ratings, "user_id"),
        _counted(ratings, "book_id"),
        ratings["rating"].to_numpy().astype(np.int64),
        (_counted(wanted, "user_id"), _counted(wanted, "book_id")),
    )


def _counted(table: pa.Table, name: str) -> Array:
    """Return ids that count from 0; theirs count from 1."""
    return np.asarray(table[name].to_numpy().astype(np.int64) - 1)
