"""Folders and globs: which files they stand for, and what Hive's folder names say of their rows."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from ..errors import BadInput, NotFound
from .base import EMBEDDING, ID, Opened
from .columns import as_integers
from .layout import listed
from .places import filesystem_of, reaching, scheme_of, shown
from .source import ending_of

_HIVE = re.compile(r"([^/=]+)=([^/]*)")
_NULL = "__HIVE_DEFAULT_PARTITION__"
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Part:
    """A file of a folder whose name tells attributes, as Hive partitions do.

    Attributes
    ----------
    place : str
        The path or URL.
    keys : mapping of str to pyarrow.Scalar
    """

    place: str
    keys: Mapping[str, Any]

    def of(self, opened: Opened) -> Opened:
        """Add the keys to what the file holds; a column of that name comes first."""
        keys = {each: key for each, key in self.keys.items() if each not in opened.schema.names}
        schema = opened.schema
        for each, key in keys.items():
            schema = schema.append(pa.field(each, key.type))

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in opened.batches:
                beside = [pa.repeat(key, len(batch)) for key in keys.values()]
                yield pa.RecordBatch.from_arrays([*batch.columns, *beside], schema=schema)

        return replace(opened, schema=schema, batches=batches())


def files_of(given: str | os.PathLike[str]) -> list[str | Part]:
    """Return the files that a path or URL stands for: itself, those of a folder or of a glob.

    Sorted by name. What begins with a dot or an underscore is left out of a folder.

    Raises
    ------
    NotFound, BadInput, ConnectionFailed
        When there are none, or a folder holds files of several kinds.
    """
    name = os.fsdecode(given)
    scheme = scheme_of(name)
    if scheme in {"http", "https"}:
        return [name]
    if scheme is None or scheme == "file":
        found = _local(name if scheme is None else unquote(urlsplit(name).path))
    else:
        found = _remote(name)
    if found is None:
        return [name]
    root, files = found
    return _parts(root, sorted(files))


def _local(name: str) -> tuple[str, list[str]] | None:
    path = os.path.expanduser(name)  # noqa: PTH111 (a Path would drop a leading ./)
    if Path(path).is_dir():
        return path, _checked(list(_walk(path)), name)
    if Path(path).exists() or not _MAGIC.search(path):
        return None
    matches = glob.glob(path, recursive=True)  # noqa: PTH207 (likewise)
    files = {
        each for match in matches for each in (_walk(match) if Path(match).is_dir() else [match])
    }
    return _root(path), _matching(files, _root(path), name)


def _walk(folder: str) -> Iterator[str]:
    for at, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not _hidden(each)]
        yield from (os.path.join(at, each) for each in names if not _hidden(each))  # noqa: PTH118
        if "_delta_log" in os.listdir(at):  # noqa: PTH208
            raise BadInput(
                f"{at} is a Delta table, whose log says which files count: read it with deltalake"
                " and load the Arrow table",
                source=at,
            )


def _remote(url: str) -> tuple[str, list[str]] | None:
    import pyarrow.fs as fs

    name = shown(url)
    bare, *options = url.split("?", 1)
    bare = bare.rstrip("/") if not bare.endswith("://") else bare
    filesystem, path = filesystem_of("?".join([bare, *options]))
    wild = _MAGIC.search(path) is not None
    base = _root(path) if wild else path
    with reaching(name):
        if not wild and filesystem.get_file_info(path).type != fs.FileType.Directory:
            return None
        deep = not wild or "/" in path[len(base) + 1 :]
        infos = filesystem.get_file_info(
            fs.FileSelector(base, allow_not_found=True, recursive=deep)
        )
    files = [each.path for each in infos if each.type == fs.FileType.File]
    if wild:
        files = [each for each in files if _matches(each.split("/"), path.split("/"))]
        files = _matching(files, base, name)
    else:
        files = _checked(_plain(files, base), name)
    if not bare.endswith(path):
        raise BadInput(f"{name}: no URLs can be made of its files; give them one by one")
    start = bare[: len(bare) - len(path)]
    return start + base, ["?".join([start + each, *options]) for each in files]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Match a path with a pattern, folder by folder; ``**`` stands for any of them."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return (
        bool(parts)
        and fnmatch.fnmatchcase(parts[0], pattern[0])
        and _matches(parts[1:], pattern[1:])
    )


def _root(pattern: str) -> str:
    """Return the folder above the first part of a pattern that is no plain name."""
    found = _MAGIC.search(pattern)
    return pattern[: found.start() if found else None].rpartition("/")[0]


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _plain(files: Iterable[str], root: str) -> list[str]:
    """Leave out what is hidden, or in a hidden folder, below the root."""
    below = len(root.rstrip("/")) + 1 if root else 0
    return [each for each in files if not any(map(_hidden, each[below:].split("/")))]


def _matching(files: Iterable[str], root: str, name: str) -> list[str]:
    """Leave out what is hidden, unless the glob asks for nothing else."""
    found = _plain(files, root) or list(files)
    if not found:
        raise NotFound(f"{name}: no file matches")
    return found


def _checked(files: list[str], name: str) -> list[str]:
    """Refuse a folder without files, or with files of several kinds."""
    if not files:
        raise BadInput(
            f"{name} holds no files to load (those that begin with . or _ do not count)",
            source=name,
        )
    kinds = {ending_of(each): each for each in sorted(files, reverse=True)}
    if len(kinds) > 1:
        raise BadInput(
            f"{name} holds files of several kinds ({listed(sorted(map(shown, kinds.values())))}):"
            f" name those to load with a glob, such as '{name.rstrip('/')}/*{min(kinds)}'",
            source=name,
        )
    return files


def _parts(root: str, files: Sequence[str]) -> list[str | Part]:
    """Add what Hive's folder names say: integers where all of a key are, else text."""
    told = [
        dict(_HIVE.findall("/".join(shown(each)[len(shown(root)) :].split("/")[:-1])))
        for each in files
    ]
    names = list(dict.fromkeys(key for each in told for key in each))
    if not names:
        return list(files)
    for taken in {ID, EMBEDDING} & set(names):
        raise BadInput(
            f"{shown(root)}: the folders called {taken}=... cannot become an attribute of that"
            " name; rename them",
            source=shown(root),
            column=taken,
        )
    columns = {}
    for key in names:
        texts = [None if each.get(key, _NULL) == _NULL else unquote(each[key]) for each in told]
        column = pa.array(texts, pa.string())
        whole = as_integers(column.drop_null()) if column.null_count < len(column) else None
        columns[key] = column if whole is None else column.cast(pa.int64())
    return [
        Part(each, {key: columns[key][i] for key in names if key in told[i]})
        for i, each in enumerate(files)
    ]
