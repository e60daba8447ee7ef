"""Which ANN index a version gets: what was asked for, what pgvector takes, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ..errors import InvalidQuery
from ..types import INDEX_KINDS, Index, Metric, Precision

# Up to here one query compares all rows as fast as it walks a graph, and never misses one: measured
# at 16 to 1536 dims, HNSW is ahead from 2,000 to 5,000 rows of short vectors on, of long ones
# from some 700, each time with 4 to 6 MB of vectors to read.
EXACT_ROWS = 3000
EXACT_BYTES = 4 << 20
# pgvector's own defaults and limits.
M, MIN_M, MAX_M = 16, 2, 100
EF_CONSTRUCTION, MIN_EF_CONSTRUCTION, MAX_EF_CONSTRUCTION = 64, 4, 1000
MAX_LISTS = 32_768
# Recall@10 of 0.95 and more on every set measured so far, for a tenth of a millisecond over
# pgvector's own default of 40.
EF_SEARCH = 100
# The lists of an IVFFlat index and how many of them a query reads.
ROWS_PER_LIST = 1000
MIN_LISTS = 10


@dataclass(frozen=True)
class Wanted:
    """What an index is asked to be; what is None is chosen.

    Attributes
    ----------
    kind : {"auto", "hnsw", "ivfflat", "none"}
    precision : Precision or None
        Of what is indexed: the vectors as stored, as float16, or one bit of each component.
    m, ef_construction : int or None
        Of HNSW: links of a row, and how many candidates a row's links are picked from. Higher is
        a better graph, and a slower build; m also makes it larger.
    lists : int or None
        Of IVFFlat: into how many the rows are parted.
    """

    kind: str = "auto"
    precision: Precision | None = None
    m: int | None = None
    ef_construction: int | None = None
    lists: int | None = None

    @classmethod
    def of(cls, given: object) -> Self:
        """Read a kind, or a mapping with ``kind`` and its options.

        Raises
        ------
        InvalidQuery
            Naming what cannot be.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            given = {"kind": given}
        if not isinstance(given, Mapping):
            raise InvalidQuery(
                f"index is {given!r}: give a kind, or a mapping with kind and options"
            )
        names = [each.name for each in fields(cls)]
        if unknown := [each for each in given if each not in names]:
            raise InvalidQuery(f"an index has no option {unknown[0]!r}: use {', '.join(names)}")
        wanted = cls(**{name: value for name, value in given.items() if value is not None})
        if wanted.kind not in {"auto", *INDEX_KINDS, "none"}:
            raise InvalidQuery(
                f"there is no index kind {wanted.kind!r}: use auto, hnsw, ivfflat or none"
            )
        return wanted._checked()

    def _checked(self) -> Self:
        own = self.given()
        for name, low, high in (
            ("m", MIN_M, MAX_M),
            ("ef_construction", MIN_EF_CONSTRUCTION, MAX_EF_CONSTRUCTION),
            ("lists", 1, MAX_LISTS),
        ):
            value = own.get(name)
            if value is None:
                continue
            if type(value) is not int or not low <= value <= high:
                raise InvalidQuery(f"{name} is {value!r}: it must be {low} to {high}")
        precision = own.get("precision")
        if precision is not None and precision not in list(Precision):
            raise InvalidQuery(
                f"{precision!r} is no precision of an index: use {' or '.join(Precision)}"
            )
        kind = self.kind
        if kind == "auto" and own:
            # An option says which kind is meant.
            kind = "ivfflat" if "lists" in own else "hnsw"
        for name in own:
            if name not in _OPTIONS[kind]:
                raise InvalidQuery(f"an index of kind {kind} has no {name}")
        m = self.m or M
        if self.ef_construction is not None and self.ef_construction < 2 * m:
            raise InvalidQuery(
                f"ef_construction is {self.ef_construction}: it must be at least {2 * m}, twice m"
            )
        return type(self)(**{**own, "kind": kind, **_as_precision(precision)})

    def given(self) -> dict[str, Any]:
        """Return the options that were asked for."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name != "kind" and value is not None
        }


_OPTIONS = {
    "auto": (),
    "none": (),
    "hnsw": ("precision", "m", "ef_construction"),
    "ivfflat": ("precision", "lists"),
}


def _as_precision(given: Any) -> dict[str, Precision]:
    return {} if given is None else {"precision": Precision(given)}


def check(wanted: Wanted, dim: int, metric: Metric, stored: Precision, name: str) -> None:
    """Refuse, before any work, an index that Postgres could not build.

    Raises
    ------
    InvalidQuery
        With the ways out.
    """
    if wanted.kind in {"auto", "none"}:
        return
    label = _LABEL[wanted.kind]
    if wanted.kind == "ivfflat" and metric is Metric.JACCARD:
        raise InvalidQuery(
            f"{name}: an IVFFlat index does not compare by jaccard: use hnsw or none"
        )
    precision = wanted.precision
    if precision is not None and precision not in _FORMS[stored]:
        raise InvalidQuery(
            f"{name}: vectors of {stored} cannot be indexed as {precision}: use"
            f" {' or '.join(_FORMS[stored])}"
        )
    if (precision or form(dim, stored)) is None or (precision and dim > precision.max_indexed_dim):
        raise InvalidQuery(f"{name}: {_limit(label, dim, precision or stored)}")


def _limit(label: str, dim: int, precision: Precision) -> str:
    """Say that it is too many dims, with the ways out."""
    most = precision.max_indexed_dim
    if precision is Precision.BIT:
        return (
            f"{dim} bits are more than {label} takes ({most}): use index none for exact search, or"
            " fewer trees or leaves"
        )
    narrower = [each for each in _FORMS[precision] if dim <= each.max_indexed_dim]
    return (
        f"{dim} dimensions are more than {label} takes of {precision} vectors ({most}): use index"
        f" precision {' or '.join(narrower)}, index none for exact search, or reduce them first,"
        " say with PCA"
    )


# What can be indexed of each stored precision, the nearest to it first.
_FORMS = {
    Precision.FLOAT32: (Precision.FLOAT32, Precision.FLOAT16, Precision.BIT),
    Precision.FLOAT16: (Precision.FLOAT16, Precision.BIT),
    Precision.BIT: (Precision.BIT,),
}
_LABEL = {"hnsw": "HNSW", "ivfflat": "IVFFlat"}


_NONE: Mapping[Precision, str] = {}


def form(dim: int, stored: Precision, unfit: Mapping[Precision, str] = _NONE) -> Precision | None:
    """Return the nearest form of the vectors that pgvector can index."""
    return next(
        (each for each in _FORMS[stored] if dim <= each.max_indexed_dim and each not in unfit), None
    )


def choose(
    wanted: Wanted,
    rows: int,
    dim: int,
    metric: Metric,
    stored: Precision,
    *,
    unfit: Mapping[Precision, str] = _NONE,
) -> Index | str:
    """Decide on the index of a version of ``rows`` x ``dim``.

    Parameters
    ----------
    unfit : mapping
        Forms that the vectors were found not to fit, with the reasons.

    Returns
    -------
    Index or str
        An index that has no name yet, or why there is none.
    """
    units = "bits" if stored is Precision.BIT else "dims"
    if wanted.kind == "none":
        return "as asked"
    why = "as asked"
    if wanted.kind == "auto":
        if rows <= EXACT_ROWS and rows * stored.nbytes(dim) <= EXACT_BYTES:
            return f"{rows:,} rows are compared as fast one by one"
        why = f"{rows:,} rows are too many to compare one by one"
    label = _LABEL.get(wanted.kind, "HNSW")
    precision = wanted.precision or form(dim, stored, unfit)
    beyond = f"{dim} {units} are more than {label} takes"
    if precision is None:
        return "; ".join([beyond, *unfit.values()])
    if wanted.precision is None and precision is not stored:
        passed = [each for each in _FORMS[stored] if dim > each.max_indexed_dim]
        why = "; ".join([f"{beyond} of {passed[-1]}", *unfit.values()])
    if wanted.kind == "ivfflat":
        lists = wanted.lists or default_lists(rows)
        return _index("ivfflat", precision, {"lists": lists}, why, stored)
    m = wanted.m or M
    options = {"m": m, "ef_construction": wanted.ef_construction or max(EF_CONSTRUCTION, 2 * m)}
    return _index("hnsw", precision, options, why, stored)


def default_lists(rows: int) -> int:
    """Return the number of lists that pgvector advises: a thousandth, of many rows the root."""
    return min(
        MAX_LISTS, max(MIN_LISTS, rows // ROWS_PER_LIST if rows <= 10**6 else math.isqrt(rows))
    )


def _index(
    kind: str, precision: Precision, options: dict[str, int], why: str, stored: Precision
) -> Index:
    oversample = 1 if precision is stored else OVERSAMPLE[precision]
    if kind == "ivfflat":
        search = {"probes": probes(options["lists"]), "oversample": oversample}
    else:
        search = {"ef_search": EF_SEARCH, "oversample": oversample}
    return Index("", kind, precision, options, search, None, None, why)


# How many candidates for each row asked for, to be compared by the full vectors. Measured on SVD
# factors of 64 dims, where bits are at their worst: recall@10 of 0.97 to 0.99 by cosine and l2.
OVERSAMPLE = {Precision.FLOAT16: 2, Precision.BIT: 20}


def probes(lists: int) -> int:
    """Return how many of the lists a query reads: recall@10 of 0.95 and more, as measured."""
    return max(1, min(lists, round(2 * math.sqrt(lists))))
