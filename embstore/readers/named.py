"""Named arrays that belong together: the vectors, their ids, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from .arrays import Kind, choose, value_array
from .base import Opened, RowNumbers, Wanted
from .ids import id_array, outside_ids
from .matrices import open_blocks


def open_named(
    name: str,
    kinds: Mapping[str, Kind],
    wanted: Wanted,
    whole: Callable[[str], NDArray[Any]],
    blocks: Callable[[str], Iterator[NDArray[Any]]],
    provenance: Mapping[str, object],
    *,
    vectors: str | None = None,
    numbered: bool = False,
) -> Opened:
    """Open the array that holds the vectors, with the ids and biases that belong to it.

    Parameters
    ----------
    name : str
        What messages call the source.
    kinds : mapping of name to Kind
        All arrays that there are.
    whole, blocks : callables
        Read an array at once, and a matrix in blocks (n, dim); called only for what is chosen.
    vectors : str or None
        The array that is meant where the user names none.
    numbered : bool
        The row numbers are the ids where the user names none.

    Raises
    ------
    BadInput, NotFound
        When the choice is not plain, or there are not as many ids as vectors.
    """
    outside = outside_ids(wanted.ids, list(kinds), name)
    if outside is None and wanted.ids is None and numbered:
        outside = RowNumbers()
    inside = wanted.ids if isinstance(wanted.ids, str) and outside is None else None
    chosen = choose(kinds, name, inside, wanted.vectors or vectors, outside is not None)
    keys = outside
    if chosen.ids is not None:
        keys = id_array(whole(chosen.ids), f"{name} ({chosen.ids})")
    assert keys is not None
    return open_blocks(
        name,
        blocks(chosen.vectors),
        kinds[chosen.vectors],
        keys,
        {each: value_array(whole(each)) for each in chosen.attributes},
        {**provenance, "array": chosen.vectors},
    )
