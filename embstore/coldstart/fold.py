"""Fold-in: a new row's factors from a few interactions, the other side's factors held fixed.

It is one half-step of alternating least squares: Y. Hu, Y. Koren and C. Volinsky, "Collaborative
Filtering for Implicit Feedback Datasets", ICDM 2008, for implicit feedback; Y. Zhou, D. Wilkinson,
R. Schreiber and R. Pan, "Large-scale Parallel Collaborative Filtering for the Netflix Prize", AAIM
2008, for ratings. Of a factorization machine (S. Rendle, "Factorization Machines", ICDM 2010) over
users and items the model is the same: biases, and an inner product.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import BadInput, InvalidQuery
from ..query.stream import blocks
from ..query.target import check_ids
from ..readers import read_attributes
from ..types import Origin
from .made import Made, beside, column_of, empty

if TYPE_CHECKING:
    from ..version import Version

Array = NDArray[np.float64]
# New ids whose systems are solved in one call.
_BLOCK = 1024


def fold_in(
    version: Version,
    new: pa.Table,
    *,
    interactions: Any,
    other: str,
    columns: Sequence[str] | None = None,
    reg: float = 0.1,
    alpha: float | None = None,
    bias: str | None = None,
    global_bias: float = 0.0,
    minimum: int = 1,
    force: bool = False,
) -> Made:
    """Solve for the vector of each new row, given the vectors of whom it has met.

    With ``u`` the known vectors and ``r`` the values, ``v = (U'U + reg I)^-1 U'r``: regularised
    least squares. Implicit feedback counts every pair that was not seen as a 0 of confidence 1,
    and those seen as a 1 of confidence ``1 + alpha r``.

    Parameters
    ----------
    version : Version
        What the new rows join: the items, or the users.
    new : pyarrow.Table
        n new rows.
    interactions : frame, Arrow table, path or Query
        Triples of a new id, a known id and a value; without a value 1.
    other : str
        Where the known ids' vectors are: ``"users"`` or ``"users@8"``, of the same training.
    columns : sequence of str
        The names of those two or three columns; by default the first ones.
    reg : float
        The regularisation; the trainer's own is a good one.
    alpha : float
        The confidence of implicit feedback; None takes the values as ratings.
    bias : str
        The attribute that holds the biases on both sides: the known ones are taken from the
        ratings first, and the new row gets its own. Folded biases need nothing: they are part of
        the vectors.
    global_bias : float
        The mean that the trainer took from the ratings first.
    minimum : int
        With fewer interactions with known ids a new row gets no vector.
    force : bool
        Use a table of which nothing says that it is of the version's training.

    Returns
    -------
    Made
        ``vectors`` (n, dim), and the biases among ``columns``.

    Raises
    ------
    InvalidQuery, BadInput, NotFound, DimensionMismatch, SpaceMismatch

    Notes
    -----
    The half-step of Hu, Koren and Volinsky, ICDM 2008 (equation 4), and of Zhou et al., AAIM 2008.
    """
    vectors = empty(version, len(new))
    if reg <= 0 or minimum < 1 or (alpha is not None and alpha < 0):
        raise InvalidQuery(
            f"reg={reg}, alpha={alpha}, minimum={minimum}: above 0, not below 0, 1 or more"
        )
    if bias is not None:
        if alpha is not None:
            raise InvalidQuery("biases are of ratings: leave bias or alpha out")
        if bias not in {each.name for each in version.attributes}:
            raise InvalidQuery(f"bias={bias!r}: {version.ref} has no such attribute to keep it in")
    known, notes = beside(version, other, force)
    place, keys, values = _triples(version, known, new, interactions, columns)
    order = np.argsort(place, kind="stable")
    place, keys, values = place[order], keys.take(pa.array(order)), values[order]
    starts = np.searchsorted(place, np.arange(len(new) + 1))
    base: Array = reg * np.eye(version.dim + (bias is not None))
    if alpha is not None:
        base = base + _gram(known)
    biases = np.full(len(new), np.nan)
    for at in range(0, len(new), _BLOCK):
        ends = starts[at : at + _BLOCK + 1]
        asked = keys.slice(ends[0], ends[-1] - ends[0]).dictionary_encode()
        features = known.lookup(asked.dictionary, "zero", show=_shown(known, bias))
        rows = np.asarray(asked.indices)
        kept = features.found[rows]
        factors = features.vectors[rows[kept]].astype(np.float64)
        targets = values[ends[0] : ends[-1]][kept] - global_bias
        ends = np.concatenate([[0], np.cumsum(kept)])[ends - ends[0]]
        if bias is not None:
            if bias in features.attributes:
                theirs = np.asarray(features.attributes[bias][rows[kept]], np.float64)
                targets = targets - np.nan_to_num(theirs)
            factors = np.column_stack([factors, np.ones(len(factors))])
        made = solve(factors, targets, ends, base, alpha)
        made[np.diff(ends) < minimum] = np.nan
        vectors[at : at + _BLOCK] = made[:, : version.dim]
        if bias is not None:
            biases[at : at + _BLOCK] = made[:, -1]
    return Made(vectors, Origin.FOLD_IN, {} if bias is None else {bias: biases}, notes)


def solve(
    factors: Array, values: Array, starts: NDArray[Any], base: Array, alpha: float | None = None
) -> Array:
    """Solve the regularised least squares of several new rows at once.

    Parameters
    ----------
    factors : array (m, d)
        The known vector of each interaction, those of one new row behind each other.
    values : array (m,)
    starts : array (n + 1,)
        Where each new row's interactions begin and end.
    base : array (d, d)
        What is the same for all: ``reg I``, of implicit feedback ``U'U + reg I`` over all known.
    alpha : float
        Of implicit feedback.

    Returns
    -------
    array (n, d)
    """
    confidence = np.ones(len(values)) if alpha is None else 1 + alpha * values
    right = factors * (values if alpha is None else confidence)[:, None]
    # What base holds of an interaction already is not added again.
    weights = confidence if alpha is None else confidence - 1
    left = np.repeat(base[None], len(starts) - 1, axis=0)
    sums = np.zeros((len(starts) - 1, factors.shape[1]))
    for row, (start, end) in enumerate(pairwise(starts)):
        own = factors[start:end]
        left[row] += own.T @ (own * weights[start:end, None])
        sums[row] = right[start:end].sum(axis=0)
    return np.asarray(np.linalg.solve(left, sums[:, :, None])[:, :, 0], np.float64)


def _triples(
    version: Version,
    known: Version,
    new: pa.Table,
    interactions: Any,
    columns: Sequence[str] | None,
) -> tuple[NDArray[np.int64], pa.Array, Array]:
    """Return the interactions of new rows: which row, with whom, and the value."""
    table = read_attributes(interactions, ids=columns[0] if columns else None)
    names = ["id", *(columns[1:] if columns else table.column_names[1:3])]
    if len(names) not in {2, 3}:
        raise BadInput(
            "interactions are pairs of a new id and a known id, with a value or without: name the"
            " columns with columns= (--columns)"
        )
    ids, *rest = (column_of(table, name, version.ref) for name in names)
    ids, keys = check_ids(ids, version._target()), check_ids(rest[0], known._target())
    try:
        values = rest[1].cast(pa.float64()).to_numpy(zero_copy_only=False) if rest[1:] else None
    except pa.ArrowInvalid as error:
        raise BadInput(f"interactions: column {names[2]!r} holds no numbers ({error})") from error
    values = np.ones(len(ids)) if values is None else values
    if not np.isfinite(values).all():
        raise BadInput(f"interactions: column {names[2]!r} holds values that are no number")
    place = pc.index_in(ids, value_set=column_of(new, "id", version.ref))
    ours = pc.is_valid(place)
    where = ours.to_numpy(zero_copy_only=False)
    return place.filter(ours).to_numpy(), keys.filter(ours), values[where]


def _shown(known: Version, bias: str | None) -> list[str]:
    return [bias] if bias in {each.name for each in known.attributes} and bias else []


def _gram(known: Version) -> Array:
    """Return U'U over all known rows."""
    total = np.zeros((known.dim, known.dim))
    with known._store.reading() as connection:
        for block in blocks(connection, known._row):
            rows = block.vectors.astype(np.float64)
            total += rows.T @ rows
    return total
