"""A load on one screen: source -> reader -> batches -> checks -> COPY -> index -> ready -> alias.

Where the vectors are to be aligned to another version's, they are rotated before the checks.

1. The version is registered as ``loading`` and committed, under a lock that dies with the session.
2. One transaction creates its table, copies the rows, proves that they arrived, and adds the
   primary key and the index. Where a recall is to be reached, another tries the index.
3. A short one makes it ``ready``, shows it in the live view and, if asked, promotes it.

Whatever ends a load before the third has committed, no query ever sees a part of it; what is left
is removed at once, or by the next command if this process is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import chain

import psycopg

from .. import catalog
from ..catalog import VersionRow
from ..connection import Connection, Engine, translate, working
from ..errors import EmbstoreError, LoadFailed
from ..refs import check_name
from ..types import Progress
from . import align, leftovers, rejects
from .fill import fill
from .options import Options
from .plan import plan, register
from .publish import not_live, publish
from .sources import Repeated, duplicate, opened, several

__all__ = ["Options", "Progress", "load", "not_live"]


def load(
    connect: Callable[[], Connection], engine: Engine, name: str, source: object, options: Options
) -> VersionRow:
    """Load ``source`` as the next version of table ``name``; returns its catalog row."""
    with working(connect, f"loading into {name}") as connection:
        if options.alias is not None:
            check_name(options.alias, "alias")
        sources = several(source)
        with (
            rejects.opened(options, sources) as bad,
            closing(opened(sources, options, bad)) as more,
        ):
            first = next(more)
            version, side = plan(connection, name, first, options)
            to = align.wanted(connection, version, first.name, options)
            version = register(connection, version)
            read = chain([first], more)
            with (
                _abandoned_on_error(connection, connect, version),
                align.aligned(connection, engine, version, to, read, options) as (parts, alignment),
            ):
                try:
                    total = first.rows if len(sources) == 1 else None
                    done = fill(
                        connection, connect, engine, version, parts, total, side, options, bad
                    )
                except Repeated as found:
                    raise duplicate(sources, version, options, found) from None
                if options.goal is not None and done.indexes:
                    from .aim import aim  # it asks queries, which know of loads

                    done = aim(connection, connect, engine, done, options.goal, options)
                refused = publish(connection, engine, done, options, alignment)
        if refused is not None:
            raise not_live(done, refused) from refused
        return catalog.resolve(connection, done.ref)


@contextmanager
def _abandoned_on_error(
    connection: Connection, connect: Callable[[], Connection], version: VersionRow
) -> Iterator[None]:
    """Remove what there is of a version when its load fails, and say it plainly."""
    try:
        yield
    except BaseException as error:
        try:
            if connection.closed or connection.broken:
                with connect() as other:
                    leftovers.sweep(other)
            else:
                leftovers.discard(connection, version.table_name, version.version)
        except (psycopg.Error, EmbstoreError):
            pass  # the next command sweeps it
        if isinstance(error, psycopg.Error):
            reason = translate(error, f"loading {version.ref}")
            raise LoadFailed(
                f"{reason}; nothing of {version.ref} is visible, run the load again"
            ) from error
        raise
