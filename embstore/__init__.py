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
    InUse,
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
from .ranking.result import Ranking
from .readers.query import Query
from .release.pins import Pin
from .release.releases import Release
from .replica.follow import Follower, follow
from .replica.replica import Replica, open_replica
from .retention import Collected, Fate
from .store import Store, connect
from .table import Table
from .types import Features, HistoricalFeatures, Index, Neighbors
from .version import Version

__all__ = [
    "AlreadyExists",
    "Appended",
    "BadInput",
    "Collected",
    "Comparison",
    "ConnectionFailed",
    "DatabaseFailed",
    "DimensionMismatch",
    "DuplicateId",
    "EmbstoreError",
    "Evaluation",
    "Fate",
    "Features",
    "Follower",
    "GateFailed",
    "HistoricalFeatures",
    "InUse",
    "Index",
    "InvalidName",
    "InvalidQuery",
    "LoadFailed",
    "MissingPackage",
    "Neighbors",
    "NotFound",
    "Pin",
    "Query",
    "Ranking",
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
