"""The manifest: what a replica is, and the size and checksum of each of its files.

It is the last file written. Opening a replica checks the manifest's own checksum and every size;
``verify`` reads every byte.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from ..catalog import VersionRow
from ..errors import NotFound, ReplicaDamaged

NAME = "manifest.json"
FORMAT = 1
_READ = 1 << 22


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds.

    Attributes
    ----------
    store : str
        Which store it is of: a digest, equal for a primary and its standbys.
    version : VersionRow
        As the server's catalog had it.
    ids : dict
        How ids are found: see ``replica.ids``.
    zeros : int
        Zero vectors under cosine, which have no neighbours.
    largest : float
        The largest norm.
    index : dict
        The ANN index: its kind and settings; ``why`` where there is none.
    files : dict
        File name to its bytes and sha256.
    """

    store: str
    version: VersionRow
    ids: dict[str, Any]
    zeros: int
    largest: float
    index: dict[str, Any]
    files: dict[str, dict[str, Any]]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(int(each["bytes"]) for each in self.files.values())

    def write(self, folder: Path) -> None:
        """Write it in place of the one that is there, if any, in one step."""
        content = _plain({"format": FORMAT, **asdict(self)})
        document = {"sha256": _digest(content), **content}
        aside = folder / f"{NAME}.partial"
        aside.write_text(json.dumps(document, indent=1, ensure_ascii=False), "utf-8")
        synced(aside)
        aside.rename(folder / NAME)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read it, and check the sizes of the files.

        Raises
        ------
        NotFound
            When there is no replica in the folder.
        ReplicaDamaged
        """
        try:
            document = json.loads((folder / NAME).read_bytes())
            claimed = document.pop("sha256")
            if claimed != _digest(document):
                raise ValueError("its checksum does not fit")
            if (written := document.pop("format")) != FORMAT:
                raise ReplicaDamaged(
                    f"the replica {folder} has format {written}, this embstore reads {FORMAT}:"
                    " write the replica again, or use the embstore that wrote it",
                    path=str(folder),
                )
            found = cls(**document | {"version": _version(document["version"])})
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{folder} holds no replica: there is no {NAME}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(folder / NAME, str(error)) from error
        for name, wanted in found.files.items():
            path = folder / name
            size = path.stat().st_size if path.is_file() else None
            if size != wanted["bytes"]:
                has = "is missing" if size is None else f"has {size:,} bytes"
                raise damaged(path, f"it {has}, and the manifest says {wanted['bytes']:,} bytes")
        return found

    def verify(self, folder: Path, only: Container[str] | None = None) -> None:
        """Read every file, or those named, and compare its checksum.

        Raises
        ------
        ReplicaDamaged
            Naming the first file that differs.
        """
        for name, wanted in self.files.items():
            if only is not None and name not in only:
                continue
            if described(folder / name)["sha256"] != wanted["sha256"]:
                raise damaged(folder / name, "its checksum is not the manifest's")


def damaged(path: Path, problem: str) -> ReplicaDamaged:
    """Build the error for a file of a replica."""
    return ReplicaDamaged(
        f"{path} is damaged: {problem}; remove the folder {path.parent} and write the replica"
        " again",
        path=str(path),
    )


def described(path: Path) -> dict[str, Any]:
    """Return the bytes and the sha256 of a file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(_READ):
                digest.update(data)
            return {"bytes": file.tell(), "sha256": digest.hexdigest()}
    except OSError as error:
        raise damaged(path, f"it cannot be read ({error.strerror})") from error


def synced(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    def said(value: object) -> str:
        return value.isoformat() if isinstance(value, datetime) else str(value)

    plain: dict[str, Any] = json.loads(json.dumps(content, default=said))
    return plain


def _version(stored: dict[str, Any]) -> VersionRow:
    """Return the catalog row; the server's indexes are not the replica's."""
    row = {each.name: stored.get(each.name) for each in fields(VersionRow)}
    for name, value in row.items():
        if name.endswith("_at") and value is not None:
            row[name] = datetime.fromisoformat(value)
        if name == "indexes":
            row[name] = []
    row["appended"] = row["appended"] or 0  # of a replica that an older embstore wrote
    return VersionRow.make(**row)
