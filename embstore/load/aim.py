"""The recall that a load is to reach: measured, and reached, before anybody can ask the version."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..catalog import VersionRow
from ..connection import Connection, Engine
from ..evaluate.result import METRIC
from ..evaluate.target import Goal, reach
from ..relations import version_name
from ..release.live import act_as_loader
from .options import Options


def aim(
    connection: Connection,
    connect: Callable[[], Connection],
    engine: Engine,
    version: VersionRow,
    goal: Goal,
    options: Options,
) -> VersionRow:
    """Choose the index of a filled version by what it finds; the figures go to the metrics."""
    with connection.transaction():
        act_as_loader(connection, engine)
        reached = reach(
            connection,
            connect,
            engine,
            version,
            options.index,
            goal,
            options.progress,
            options.warn,
        )
        size = connection.execute(
            "SELECT pg_total_relation_size(%s::regclass)",
            (f"emb.{version_name(version.table_name, version.version)}",),
        ).fetchone()
    index = reached.index
    if index is None:
        options.warn(f"{version.ref} has no index: {reached.why}")
    return dataclasses.replace(
        version,
        indexes=(index,) if index else (),
        index_kind=index.kind if index else "none",
        bytes=size[0] if size else None,
        metrics={**version.metrics, METRIC: reached.evaluation.as_json()},
        source={
            **version.source,
            "index": str(index) if index else f"none ({reached.why})",
            "index_seconds": index.seconds if index else 0.0,
        },
    )
