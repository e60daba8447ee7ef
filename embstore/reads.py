"""What a version and a table both answer: nearest, similar, lookup and the matrices made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from .errors import InvalidQuery
from .io import complete
from .query.ask import Ask, How
from .query.filter import columns_of
from .query.lookup import lookup
from .query.nearest import nearest, similar
from .query.target import Target, pinned
from .query.where import Condition, parse
from .types import Features, IdType, Neighbors, Vectors

if TYPE_CHECKING:
    from .store import Store


class Reads(ABC):
    """Recall and lookup on whatever ``_target`` names."""

    _store: Store

    @abstractmethod
    def _target(self) -> Target:
        """Return what to read."""

    @property
    @abstractmethod
    def id_type(self) -> IdType:
        """``bigint`` or ``text``."""

    def nearest(
        self,
        queries: object,
        k: int = 10,
        *,
        where: object = None,
        unsafe_where: object = None,
        max_distance: float | None = None,
        per_group: str | None = None,
        group_limit: int = 1,
        offset: int = 0,
        exclude: object = None,
        exact: bool = False,
        search: Mapping[str, int] | None = None,
        show: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Neighbors:
        """Return the k nearest ids to each query vector (recall).

        Parameters
        ----------
        queries : array of shape (q, dim) or (dim,)
            Converted to float32; from one to a million. Under cosine and jaccard no row may be
            all zero; hamming and jaccard take 0 and 1.
        k : int
            Fewer come back only when fewer rows may be answers; ``Neighbors.short`` says so.
        where : mapping or SQLAlchemy expression
            Which rows may be answers, by their id and attributes:
            ``{"year": {">=": 2000}, "language": ["en", "fr"]}``, or an expression over
            ``columns``. The operators are = != < <= > >= in and "not in"; None means missing.
        unsafe_where : str, or a pair of a str and a mapping
            A condition in SQL, ``("year > %(since)s", {"since": 2000})``: text that must not come
            from anybody else. It runs in a read-only transaction.
        max_distance : float
            Leave out what is farther, by pgvector's operator.
        per_group, group_limit : str, int
            At most ``group_limit`` neighbours may have one value in the attribute ``per_group``;
            a missing value is no group.
        offset : int
            Leave out that many of the nearest: the next page of the same list.
        exclude : sequence of q sequences of ids
            What each query leaves out, such as items that a user has seen; k is still filled.
        exact : bool
            Compare with every row instead of using the ANN index. So is every k above 1000, and
            what a filter lets through when that is little.
        search : mapping
            Settings of the index for this call: ``{"ef_search": 200}``, ``{"probes": 20}``.
        show : sequence of str
            Attributes to return with each neighbour.
        progress : callable
            Called with the queries done and their number, from time to time, by any thread.

        Returns
        -------
        Neighbors
            ``ids``, ``scores``, ``distances``, each (q, k), best first; ties in order of the id.

        Raises
        ------
        DimensionMismatch, InvalidQuery, NotFound
        """
        ask = Ask.of(
            k,
            where=where,
            unsafe_where=unsafe_where,
            max_distance=max_distance,
            per_group=per_group,
            group_limit=group_limit,
            offset=offset,
            exclude=exclude,
            exact=exact,
            search=search,
            show=show,
            progress=progress,
        )
        return complete(nearest(self._store.lender, self._target(), queries, ask))

    def similar(self, ids: object, k: int = 10, **how: Unpack[How]) -> Neighbors:
        """Return the k nearest neighbours of each stored id, the id itself left out.

        Parameters
        ----------
        ids : sequence of q ids
        k, where, exact, show, ...
            As in ``nearest``.

        Raises
        ------
        NotFound
            When an id is not there.
        InvalidQuery
            Under cosine, when its vector is zero.
        """
        return complete(similar(self._store.lender, self._target(), ids, Ask.of(k, **how)))

    def lookup(self, ids: object, missing: str = "raise", *, show: Sequence[str] = ()) -> Features:
        """Return the vectors of ids, in the order of the ids; an id may come more than once.

        Parameters
        ----------
        ids : sequence of n ids
        missing : {"raise", "zero", "mean", "nan", "skip"}
            What an id that is not there gets: an error, zeros, the mean of all vectors (bits have
            none), NaN, or no row at all.
        show : sequence of str
            Attributes to return; None for an id that is not there.

        Returns
        -------
        Features
            ``vectors`` (n, dim) float32, of bits 0 and 1, and ``found`` (n,) bool.

        Raises
        ------
        NotFound, InvalidQuery
        """
        return complete(lookup(self._store.lender, self._target(), ids, missing, show=show))

    @property
    def columns(self) -> Any:
        """The id and the attributes as columns of SQLAlchemy, for ``where=``.

        ``v.nearest(query, where=(v.columns.year >= 2000) & v.columns.title.like("A%"))``
        """
        return columns_of(complete(self._pinned()))

    def conditions(self, typed: Sequence[str]) -> tuple[Condition, ...]:
        """Read conditions as they are typed in a shell, for ``where=``.

        ``year>=2000``, ``language in en,fr``, ``author is null``; all of them must hold.

        Raises
        ------
        InvalidQuery
            Naming the attribute, operator or value that cannot be.
        """
        target = complete(self._pinned())
        return parse(typed, target.columns, target.ref)

    async def _pinned(self) -> Target:
        target = self._target()
        if target.row is not None:
            return target
        async with self._store.lender.io() as io:
            return await pinned(io, target)

    def embedding_matrix(
        self, vocabulary: Sequence[Any], missing: str = "zero", *, scale: float = 0.0, seed: int = 0
    ) -> Vectors:
        """Return the first weights of an embedding layer: row i is the vector of vocabulary[i].

        Parameters
        ----------
        vocabulary : sequence of n ids
        missing : str
            As in ``lookup``, but for ``skip``, which would shift the rows.
        scale : float
            With ``missing="zero"``: draw the missing rows from a normal distribution of this
            standard deviation instead.
        seed : int
            Of those draws.

        Returns
        -------
        array (n, dim), float32
        """
        check_matrix(missing)
        return as_matrix(self.lookup(vocabulary, missing), missing, scale, seed)

    def to_torch(self, vocabulary: Sequence[Any], missing: str = "zero") -> Any:
        """Return ``embedding_matrix`` as a torch tensor (n, dim), float32.

        Raises
        ------
        MissingPackage
            Without torch.
        """
        from .optional import require

        torch = require("torch", "torch")
        return torch.from_numpy(self.embedding_matrix(vocabulary, missing))


def check_matrix(missing: str) -> None:
    """Refuse a policy that an embedding matrix cannot have.

    Raises
    ------
    InvalidQuery
    """
    if missing == "skip":
        raise InvalidQuery("missing='skip' would shift the rows of an embedding matrix")


def as_matrix(features: Features, missing: str, scale: float, seed: int) -> Vectors:
    """Return the weights; with a scale, the rows that are missing are drawn instead of zero."""
    if scale and missing == "zero":
        absent = ~features.found
        shape = (int(absent.sum()), features.vectors.shape[1])
        features.vectors[absent] = np.random.default_rng(seed).normal(0, scale, shape)
    return features.vectors
