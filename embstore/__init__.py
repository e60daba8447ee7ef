"""An embedding store with SQL-accessible vector search, on Postgres and pgvector.

>>> import embstore
>>> store = embstore.connect()
"""

from .append import Appended
from .compare.result import Comparison
from .errors import (
    AlreadyExists,
    BadInput,
    ConnectionFailed,
    DatabaseFailed,
    DimensionMismatch,
    DuplicateId,
    EmbstoreError,
    GateFailed,
    InvalidName,
    InvalidQuery,
    LoadFailed,
    MissingPackage,
    NotFound,
    ReplicaDamaged,
    SchemaMismatch,
    ServerFailed,
    SpaceMismatch,
)
from .evaluate.result import Evaluation
from .readers.query import Query
from .release.releases import Release
from .replica.follow import Follower, follow
from .replica.replica import Replica, open_replica
from .store import Store, connect
from .table import Table
from .types import Features, Index, Neighbors
from .version import Version

__all__ = [
    "AlreadyExists",
    "Appended",
    "BadInput",
    "Comparison",
    "ConnectionFailed",
    "DatabaseFailed",
    "DimensionMismatch",
    "DuplicateId",
    "EmbstoreError",
    "Evaluation",
    "Features",
    "Follower",
    "GateFailed",
    "Index",
    "InvalidName",
    "InvalidQuery",
    "LoadFailed",
    "MissingPackage",
    "Neighbors",
    "NotFound",
    "Query",
    "Release",
    "Replica",
    "ReplicaDamaged",
    "SchemaMismatch",
    "ServerFailed",
    "SpaceMismatch",
    "Store",
    "Table",
    "Version",
    "connect",
    "follow",
    "open_replica",
]
