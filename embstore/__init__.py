"""An embedding store with SQL-accessible vector search, on Postgres and pgvector.

>>> import embstore
>>> store = embstore.connect()
"""

from .errors import (
    AlreadyExists,
    BadInput,
    ConnectionFailed,
    DatabaseFailed,
    DimensionMismatch,
    DuplicateId,
    EmbstoreError,
    InvalidName,
    InvalidQuery,
    LoadFailed,
    MissingPackage,
    NotFound,
    SchemaMismatch,
    ServerFailed,
)
from .readers.query import Query
from .store import Store, connect
from .table import Table
from .types import Features, Index, Neighbors
from .version import Version

__all__ = [
    "AlreadyExists",
    "BadInput",
    "ConnectionFailed",
    "DatabaseFailed",
    "DimensionMismatch",
    "DuplicateId",
    "EmbstoreError",
    "Features",
    "Index",
    "InvalidName",
    "InvalidQuery",
    "LoadFailed",
    "MissingPackage",
    "Neighbors",
    "NotFound",
    "Query",
    "SchemaMismatch",
    "ServerFailed",
    "Store",
    "Table",
    "Version",
    "connect",
]
