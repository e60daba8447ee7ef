"""The manifest: what a replica is, and the size and checksum of each of its files.

It is the last file written. Opening a replica checks the manifest's own checksum and every size;
``verify`` reads every byte.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import NotFound, ReplicaDamaged
from ..query.target import Target
from ..types import Attribute, IdType, Metric, Precision

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
    checksum : str
        The version's own, of ids and vectors, as the server's catalog has it.
    trainer, created_at
        Of the version.
    ids : dict
        How ids are found: see ``replica.ids``.
    zeros : int
        Zero vectors under cosine, which have no neighbours.
    largest : float
        The largest norm.
    index : dict
        The ANN index: its kind and settings; ``why`` when there is none.
    files : dict
        File name to its bytes and sha256.
    """

    store: str
    table: str
    version: int
    dim: int
    rows: int
    id_type: IdType
    metric: Metric
    precision: Precision
    checksum: str
    attributes: tuple[Attribute, ...]
    trainer: str | None
    created_at: str
    ids: dict[str, Any]
    zeros: int
    largest: float
    index: dict[str, Any]
    files: dict[str, dict[str, Any]]

    @property
    def ref(self) -> str:
        """``items@7``."""
        return f"{self.table}@{self.version}"

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(int(each["bytes"]) for each in self.files.values())

    def target(self) -> Target:
        """Return what queries are checked against."""
        return Target(
            self.ref,
            "",
            self.id_type,
            self.metric,
            self.precision,
            self.version,
            self.dim,
            self.rows,
        )

    def write(self, folder: Path) -> None:
        """Write it in place of the one that is there, if any, in one step."""
        content = {"format": FORMAT, **asdict(self)}
        document = {"sha256": _digest(content), **content}
        aside = folder / f"{NAME}.partial"
        with aside.open("w") as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
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
            claimed, version = document.pop("sha256"), document.pop("format")
            if version != FORMAT:
                raise ReplicaDamaged(
                    f"the replica {folder} has format {version}, this embstore reads {FORMAT}:"
                    " upgrade embstore, or remove the folder and write it again",
                    path=str(folder),
                )
            if claimed != _digest({"format": version, **document}):
                raise ValueError("its checksum does not fit")
            document["attributes"] = tuple(Attribute(**each) for each in document["attributes"])
            for name, kind in ("id_type", IdType), ("metric", Metric), ("precision", Precision):
                document[name] = kind(document[name])
            found = cls(**document)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"{folder} holds no replica: there is no {NAME}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(folder / NAME, str(error)) from error
        for name, wanted in found.files.items():
            path = folder / name
            size = path.stat().st_size if path.is_file() else None
            if size != wanted["bytes"]:
                has = "is missing" if size is None else f"has {size:,} bytes"
                raise damaged(path, f"it {has}, the manifest says {wanted['bytes']:,}")
        return found

    def verify(self, folder: Path) -> None:
        """Read every file and compare its checksum.

        Raises
        ------
        ReplicaDamaged
            Naming the first file that differs.
        """
        for name, wanted in self.files.items():
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
