"""The embedded Postgres: own cluster, own rules of entry, shared by the processes that use it."""

from .embedded import EmbeddedServer, Status, down, join, status, up
from .programs import binary, default_home

__all__ = ["EmbeddedServer", "Status", "binary", "default_home", "down", "join", "status", "up"]
