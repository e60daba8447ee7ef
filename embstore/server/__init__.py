"""The embedded Postgres: own cluster, own rules of entry, shared by the processes that use it."""

from .account import binary, default_home
from .embedded import EmbeddedServer, Status, down, join, status, up

__all__ = ["EmbeddedServer", "Status", "binary", "default_home", "down", "join", "status", "up"]
