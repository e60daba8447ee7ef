"""Alignments as the catalog holds them: which rotation a version was loaded through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..catalog import VersionRow
from ..connection import Connection, translated
from ..errors import DimensionMismatch, InvalidQuery
from ..types import Precision
from .rotation import Array64, Rotation


@dataclass(frozen=True, eq=False)
class Alignment:
    """A rotation, and where it comes from.

    Attributes
    ----------
    to_table, to_version : str, int
        The version whose axes the vectors are brought to.
    matrix : array (dim, dim), float64
        ``aligned = vectors @ matrix``, of the vectors that the training gave.
    step : array (dim, dim), float64
        What is applied to the vectors at hand. Another one where they were rotated before.
    ids : int
        The common ids that it was fitted on.
    residual : float
        What the rotation leaves on these; see ``Rotation``.
    before : float or None
        The same without the rotation; None where it was not measured here.
    source : mapping
        Which version was rotated (``from``), or whose rotation it is (``by``).
    """

    to_table: str
    to_version: int
    matrix: Array64
    step: Array64
    ids: int
    residual: float
    before: float | None
    source: dict[str, str]

    @classmethod
    def fitted(
        cls,
        old: VersionRow,
        rotation: Rotation,
        source: dict[str, str] | None = None,
        earlier: Alignment | None = None,
    ) -> Self:
        """Return the alignment to ``old`` of vectors that went through an ``earlier`` one maybe."""
        return cls(
            old.table_name,
            old.version,
            rotation.matrix if earlier is None else earlier.matrix @ rotation.matrix,
            rotation.matrix,
            rotation.ids,
            rotation.residual,
            rotation.before,
            source or {},
        )

    def as_json(self) -> dict[str, Any]:
        """Return what a version's ``source`` says of it."""
        before = {} if self.before is None else {"before": self.before}
        return {
            **self.source,
            "to": f"{self.to_table}@{self.to_version}",
            "ids": self.ids,
            "residual": self.residual,
            **before,
        }


def stored(connection: Connection, version: VersionRow) -> Alignment | None:
    """Return the alignment that a version was loaded through; None where there was none."""
    with translated(f"reading the alignment of {version.ref}"):
        row = connection.execute(
            "SELECT to_table, to_version, rotation, ids, residual FROM embstore.alignments"
            " WHERE table_name = %s AND version = %s",
            (version.table_name, version.version),
        ).fetchone()
    if row is None:
        return None
    table, number, packed, ids, residual = row
    matrix = np.frombuffer(packed, "<f8").reshape(version.dim, version.dim).astype(np.float64)
    return Alignment(table, number, matrix, matrix, ids, residual, None, {"by": version.ref})


def store(connection: Connection, version: VersionRow, alignment: Alignment) -> None:
    """Write down which alignment a version was loaded through, in the caller's transaction."""
    connection.execute(
        "INSERT INTO embstore.alignments (table_name, version, to_table, to_version, ids, residual,"
        " rotation) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (
            version.table_name,
            version.version,
            alignment.to_table,
            alignment.to_version,
            alignment.ids,
            alignment.residual,
            alignment.matrix.astype("<f8").tobytes(),
        ),
    )


def check_rotatable(dim: int, precision: Precision, name: str, to: str, to_dim: int) -> None:
    """Refuse vectors that no rotation maps onto others.

    Raises
    ------
    InvalidQuery, DimensionMismatch
    """
    if precision is Precision.BIT:
        raise InvalidQuery(f"{name} holds bits, which are not rotated: leave the alignment out")
    if dim != to_dim:
        raise DimensionMismatch(
            f"{name} has {dim} dimensions and {to} {to_dim}: a rotation keeps their number, so one"
            " cannot be aligned to the other"
        )
