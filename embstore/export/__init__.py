"""Export: a version into files that load again to the same ids and the same bits.

A module per format under ``files``, each the mirror of the reader of its name. The rows are
streamed from one snapshot, compared with the version's checksum on the way, and go into files
aside that are renamed when they are whole.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import written
from ..catalog import VersionRow, resolve
from ..connection import snapshot
from ..errors import InvalidQuery
from ..types import Progress
from .registry import Format, format_of, formats
from .rows import Rows

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Exported", "Format", "export", "format_of", "formats"]


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes
    ----------
    ref : str
    format : str
        As ``load(format=...)`` takes it, which finds it out by itself too.
    files : tuple of Path
        The vectors', then that of the ids where they have one of their own.
    ids : Path or None
        What ``load(ids=...)`` must be told; None where the ids are in the first file.
    rows, bytes : int
    checksum : str
        The version's, which a load of the files has again.
    attributes, left_out : tuple of str
        Those that are in the files, and those that are not.
    """

    ref: str
    format: str
    files: tuple[Path, ...]
    ids: Path | None
    rows: int
    bytes: int
    checksum: str
    attributes: tuple[str, ...]
    left_out: tuple[str, ...]


def export(
    store: Store,
    ref: str,
    path: str | os.PathLike[str],
    format: str | None,
    *,
    attributes: Sequence[str] | None,
    overwrite: bool,
    progress: Callable[[Progress], None] | None,
) -> Exported:
    """Write a version to files; parameters and errors as of ``Version.export``."""
    chosen = format_of(path, format)
    # Rows may join a version: what is promised and what comes must be of one moment.
    with store.reading() as connection, snapshot(connection):
        whole = resolve(connection, ref)
        version = _with_attributes(whole, chosen, attributes)
        chosen.check(connection, version)
        files = [Path(path)]
        if (ending := chosen.beside(version)) is not None:
            files.append(files[0].parent / f"{files[0].stem}{ending}")
        with written(*files, overwrite=overwrite) as aside:
            chosen.write(aside, Rows(connection, version, progress))
            size = sum(each.stat().st_size for each in aside)
    names = tuple(each.name for each in version.attributes)
    return Exported(
        version.ref,
        chosen.name,
        tuple(files),
        files[1] if len(files) > 1 else None,
        version.rows or 0,
        size,
        version.checksum or "",
        names,
        tuple(each.name for each in whole.attributes if each.name not in names),
    )


def _with_attributes(
    version: VersionRow, chosen: Format, asked: Sequence[str] | None
) -> VersionRow:
    """Keep the attributes that are asked for, by default all that the format can hold."""
    known = [each.name for each in version.attributes]
    if unknown := [each for each in asked or () if each not in known]:
        raise InvalidQuery(
            f"{version.ref} has no attribute {unknown[0]!r}: it has {', '.join(known) or 'none'}"
        )
    if asked and not chosen.attributes:
        able = ", ".join(each.name for each in formats() if each.attributes)
        raise InvalidQuery(f"{chosen.name} holds no attributes: {able} do")
    wanted = known if asked is None else asked
    kept = [each for each in version.attributes if chosen.attributes and each.name in wanted]
    return dataclasses.replace(version, attributes=tuple(kept))
