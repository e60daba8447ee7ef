"""The arrays of an HDF5 file. Links that leave the file, and datasets that do, are not followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

with suppress(ImportError):  # who starts this has looked for it
    import h5py

_MAX_OBJECTS = 10_000
_MAX_DEPTH = 64
# What is decompressed at a time; a chunk larger than that is decompressed again for each block.
_CACHE = 64 << 20


def open_file(path: str, held: ExitStack, confine: Callable[..., None]) -> tuple[Any, Any]:
    """Return what the file holds, and a function that reads an array in blocks."""
    confine(files=1)
    source: Any = path
    if path.startswith("/dev/fd/"):  # HDF5 wants a path that leads to a folder
        source = held.enter_context(open(path, "rb"))  # noqa: PTH123, SIM115
    file = held.enter_context(h5py.File(source, "r", rdcc_nbytes=_CACHE))
    datasets: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    _walk(file, datasets, skipped)
    arrays = {}
    for name, each in sorted(datasets.items()):
        dtype = _dtype(each)
        if dtype is None:
            skipped[name] = f"it holds {each.dtype}, neither numbers nor text"
            del datasets[name]
        else:
            arrays[name] = [each.shape, dtype]
    settings = {name: _plain(value) for name, value in file.attrs.items()}
    about = {
        "arrays": arrays,
        "skipped": skipped,
        "attributes": {name: value for name, value in settings.items() if value is not None},
    }
    return about, lambda name, rows: _blocks(datasets[name], rows)


def _walk(root: Any, datasets: dict[str, Any], skipped: dict[str, str]) -> None:
    """Find all datasets by hard links; a group that is there twice is looked at once."""
    seen, groups, objects = set(), [("", root, 0)], 0
    while groups:
        prefix, group, depth = groups.pop()
        token = h5py.h5o.get_info(group.id).addr
        if token in seen or depth > _MAX_DEPTH:
            continue
        seen.add(token)
        for name in group:
            path = f"{prefix}{name}"
            objects += 1
            if objects > _MAX_OBJECTS:
                raise ValueError(f"it holds more than {_MAX_OBJECTS} objects")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                skipped[path] = "it is a link to another place or file"
                continue
            found = group.get(name)
            if isinstance(found, h5py.Group):
                groups.append((f"{path}/", found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                if (reason := _elsewhere(found)) is not None:
                    skipped[path] = reason
                else:
                    datasets[path] = found


def _elsewhere(dataset: Any) -> str | None:
    created = dataset.id.get_create_plist()
    if created.get_layout() == h5py.h5d.VIRTUAL:
        return "it is a virtual dataset, which takes its data from other files"
    if created.get_external_count():
        return "its data are in another file"
    if dataset.shape is None:
        return "it is empty"
    return None


def _dtype(dataset: Any) -> str | None:
    """Return numpy's name of the type, ``U1`` for texts, None for what is not read."""
    text = h5py.check_string_dtype(dataset.dtype)
    if text is not None and len(dataset.shape) == 1:
        return "U1"
    return dataset.dtype.str if dataset.dtype.kind in "biuf" else None


def _blocks(dataset: Any, rows: int) -> Iterator[Any]:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        for at in range(0, dataset.shape[0], rows):
            yield dataset.asstr()[at : at + rows].tolist()
        return
    if dataset.chunks and dataset.shape:
        # Whole rows of chunks, so that each is decompressed once.
        row = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
        tall = dataset.chunks[0] * max(1, rows // dataset.chunks[0])
        rows = tall if tall * row <= _CACHE else rows
    for at in range(0, dataset.shape[0] if dataset.shape else 0, rows):
        yield dataset[at : at + rows]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, np.generic | np.ndarray) and value.size <= 16:
        value = value.tolist()
    return value if isinstance(value, bool | int | float | str | list) else None
