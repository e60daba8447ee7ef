"""What a version and a table both answer: nearest, similar, lookup and the matrices made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .query.lookup import lookup
from .query.nearest import nearest, similar
from .query.target import Target
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
        self, queries: object, k: int = 10, *, exact: bool = False, show: Sequence[str] = ()
    ) -> Neighbors:
        """Return the k nearest ids to each query vector (recall).

        Parameters
        ----------
        queries : array of shape (q, dim) or (dim,)
            Converted to float32. Under cosine and jaccard no row may be all zero; hamming and
            jaccard take 0 and 1.
        k : int
            Fewer come back only when there are fewer rows (under cosine, fewer that are no zero
            vectors).
        exact : bool
            Compare with every row instead of using the ANN index. So is every k above 1000.
        show : sequence of str
            Attributes to return with each neighbour.

        Returns
        -------
        Neighbors
            ``ids``, ``scores``, ``distances``, each (q, k), best first; ties in order of the id.

        Raises
        ------
        DimensionMismatch, InvalidQuery, NotFound
        """
        with self._store.reading() as connection:
            return nearest(
                connection,
                self._store.read_engine,
                self._target(),
                queries,
                k,
                exact=exact,
                show=show,
            )

    def similar(
        self, ids: object, k: int = 10, *, exact: bool = False, show: Sequence[str] = ()
    ) -> Neighbors:
        """Return the k nearest neighbours of each stored id, the id itself left out.

        Parameters
        ----------
        ids : sequence of q ids
        k, exact, show
            As in ``nearest``.

        Raises
        ------
        NotFound
            When an id is not there.
        InvalidQuery
            Under cosine, when its vector is zero.
        """
        with self._store.reading() as connection:
            return similar(
                connection, self._store.read_engine, self._target(), ids, k, exact=exact, show=show
            )

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
        with self._store.reading() as connection:
            return lookup(
                connection, self._store.read_engine, self._target(), ids, missing, show=show
            )

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
        if missing == "skip":
            from .errors import InvalidQuery

            raise InvalidQuery("missing='skip' would shift the rows of an embedding matrix")
        features = self.lookup(vocabulary, missing)
        if scale and missing == "zero":
            absent = ~features.found
            shape = (int(absent.sum()), features.vectors.shape[1])
            features.vectors[absent] = np.random.default_rng(seed).normal(0, scale, shape)
        return features.vectors

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
