"""The names of relations, composed here and nowhere else."""

from __future__ import annotations

import re

from psycopg import sql

from .errors import InvalidName
from .refs import check_name

SCHEMA = "emb"
# Postgres cuts identifiers here without an error.
MAX_IDENTIFIER_BYTES = 63


def check_table_name(name: str) -> str:
    """Return ``name`` if a table may be called so.

    Raises
    ------
    InvalidName
        Also for a name such as ``items_v7``, which is what version 7 of items is called.
    """
    check_name(name)
    if re.search(r"_v[0-9]+$", name):
        raise InvalidName(
            f"{name!r} is no table name: an ending like {name[name.rindex('_v') :]} is kept for"
            " the versions of a table"
        )
    return name


def live_view(table: str) -> sql.Identifier:
    """``emb.items``: the live version."""
    return sql.Identifier(SCHEMA, table)


def version_name(table: str, version: int) -> str:
    """``items_v7``, without the schema."""
    return f"{check_name(table)}_v{int(version)}"


def version_table(table: str, version: int) -> sql.Identifier:
    """``emb.items_v7``: one version."""
    return sql.Identifier(SCHEMA, version_name(table, version))


def staged_table(table: str, version: int) -> sql.Identifier:
    """``emb."items_v7~loading"``: what becomes a version, while several sessions fill it."""
    return sql.Identifier(SCHEMA, f"{version_name(table, version)}~loading")


def index_name(table: str, version: int, kind: str, number: int = 1) -> str:
    """``items_v7_hnsw``, the next ``items_v7_hnsw2``; IVFFlat's are ``items_v7_ivf``."""
    suffix = {"hnsw": "hnsw", "ivfflat": "ivf"}[kind]
    return f"{version_name(table, version)}_{suffix}{number if number > 1 else ''}"
