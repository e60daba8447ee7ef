"""Every error that embstore raises on purpose.

Each message is one sentence: what is wrong, where, and what to do. Each class also derives from
the standard class that a caller would catch, and keeps its data as attributes.

::

    EmbstoreError
      ConnectionFailed      (ConnectionError)  no way to the server, or not let in
      ServerFailed          (RuntimeError)     the embedded server did not start, listen or stop
      SchemaMismatch        (RuntimeError)     the store is behind or ahead of this embstore
      NotFound              (LookupError)      table, version, alias, id, file
      AlreadyExists         (ValueError)
      InvalidName           (ValueError)       a name or reference that breaks the naming rule
      InvalidQuery          (ValueError)       k, a query vector, a column that cannot be used
        DimensionMismatch                      vectors of another dim than the version's
        SpaceMismatch                          vectors of two trainings, which cannot be compared
      BadInput              (ValueError)       a source that cannot be loaded: file, row, id
        DuplicateId
      LoadFailed            (RuntimeError)     the server refused or lost a load; nothing is visible
      MissingPackage        (ImportError)      an optional package, with the extra that brings it
      GateFailed            (RuntimeError)     a gate before a promote; live is as it was
      ReplicaDamaged        (RuntimeError)     a replica's folder that is not whole
      DatabaseFailed        (RuntimeError)     any other refusal of the database
        InUse                                  somebody reads what was to go, or is changing it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .release.gates import GateResult


class EmbstoreError(Exception):
    """Base of all errors that embstore raises on purpose."""

    def __init__(self, message: str = "") -> None:
        # It may quote a file, whose bytes must not reach a terminal as they are.
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


class ConnectionFailed(EmbstoreError, ConnectionError):
    """The server cannot be reached, or does not let this user in."""


class ServerFailed(EmbstoreError, RuntimeError):
    """The embedded server could not be started, reached or stopped."""


class SchemaMismatch(EmbstoreError, RuntimeError):
    """The store's schema is older or newer than this embstore needs."""


class NotFound(EmbstoreError, LookupError):
    """A table, version, alias, id or file that is not there."""


class AlreadyExists(EmbstoreError, ValueError):
    """A name that is taken."""


class InvalidName(EmbstoreError, ValueError):
    """A name or reference that breaks the naming rule."""


class InvalidQuery(EmbstoreError, ValueError):
    """A query that cannot be answered: its k, its vector or its columns."""


class DimensionMismatch(InvalidQuery):
    """Vectors of another dim than the version's."""


class SpaceMismatch(InvalidQuery):
    """Vectors of two trainings, which cannot be compared."""


class BadInput(EmbstoreError, ValueError):
    """A source that cannot be loaded, with the place at fault.

    Attributes
    ----------
    source : str or None
        The file or object, as the user named it.
    row : int or None
        The row or line at fault, counted from 1.
    id : str or int or None
        The id of that row.
    column : str or None
        The column, array or field at fault.
    """

    def __init__(
        self,
        message: str,
        *,
        source: str | None = None,
        row: int | None = None,
        id: str | int | None = None,
        column: str | None = None,
    ) -> None:
        super().__init__(message)
        self.source = source
        self.row = row
        self.id = id
        self.column = column


class DuplicateId(BadInput):
    """An id that stands in a source twice."""


class LoadFailed(EmbstoreError, RuntimeError):
    """The server refused or lost a load; no part of it is visible."""


class MissingPackage(EmbstoreError, ImportError):
    """An optional package is not installed."""


class GateFailed(EmbstoreError, RuntimeError):
    """A gate that a version does not pass, or that could not be measured; live is as it was.

    Attributes
    ----------
    results : tuple of GateResult
        Of all gates, those that passed too.
    """

    def __init__(self, message: str = "", *, results: tuple[GateResult, ...] = ()) -> None:
        super().__init__(message)
        self.results = results


class ReplicaDamaged(EmbstoreError, RuntimeError):
    """A replica's folder that is not whole: a file is missing, cut short or altered.

    Attributes
    ----------
    path : str or None
        The folder or the file at fault.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class DatabaseFailed(EmbstoreError, RuntimeError):
    """The database refused a statement for a reason that no other class covers."""


class InUse(DatabaseFailed):
    """Somebody reads or changes what this needs for itself; nothing has changed."""
