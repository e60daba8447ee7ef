"""The vectors of a Faiss index, as its codes give them back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any

import numpy as np

faiss: Any = None
with suppress(ImportError):  # who starts this has looked for it
    faiss = import_module("faiss")

_METRICS = {0: "ip", 1: "l2", 2: "l1"}
_SETTINGS = ("nlist", "nprobe", "code_size")


def open_file(path: str, held: ExitStack, confine: Callable[..., None]) -> tuple[Any, Any]:
    """Return what the index holds, and a function that reconstructs its vectors in blocks."""
    file = held.enter_context(open(path, "rb"))  # noqa: PTH123, SIM115
    confine()
    if hasattr(faiss, "set_deserialization_vector_byte_limit"):
        faiss.set_deserialization_vector_byte_limit(os.fstat(file.fileno()).st_size)
    flags = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE | faiss.IO_FLAG_PQ_SKIP_SDC_TABLE
    index = faiss.read_index(faiss.PyCallbackIOReader(file.read, 1 << 20), flags)
    if file.read(1):
        raise ValueError("it goes on behind the index")
    held.callback(id, index)  # its parts live as long as it does
    settings: dict[str, Any] = {"metric": _METRICS.get(index.metric_type, index.metric_type)}
    kinds: list[str] = []
    ids, rebuild = _open(index, kinds, settings)
    rows = int(index.ntotal)
    arrays: dict[str, Any] = {"vectors": [[rows, index.d], "<f4"]}
    if ids is not None:
        arrays["ids"] = [[len(ids)], "<i8"]

    def blocks(name: str, count: int) -> Iterator[Any]:
        if name == "ids":
            yield np.asarray(ids, "<i8")
            return
        for at in range(0, rows, count):
            try:
                yield rebuild(at, min(count, rows - at))
            except RuntimeError as error:
                raise (_cannot(index) if "not implemented" in str(error) else error) from error

    about = {
        "arrays": arrays,
        "skipped": {},
        "params": {"index": "(".join(kinds) + ")" * (len(kinds) - 1), **settings},
    }
    return about, blocks


def _open(index: Any, kinds: list[str], settings: dict[str, Any]) -> tuple[Any, Any]:
    """Return the ids, None for row numbers, and a function (at, count) to the vectors."""
    kinds.append(type(index).__name__)
    settings.update({name: getattr(index, name) for name in _SETTINGS if hasattr(index, name)})
    if hasattr(index, "hnsw"):
        settings["ef_construction"] = index.hnsw.efConstruction
        settings["m"] = index.hnsw.nb_neighbors(1)
    if isinstance(index, faiss.IndexIDMap):
        ids, rebuild = _open(_inner(index, index.index), kinds, settings)
        labels = faiss.vector_to_array(index.id_map)
        return labels if ids is None else labels[ids], rebuild
    if isinstance(index, faiss.IndexRefine):
        # What refines holds the vectors as they were, or closer to it.
        return _open(_inner(index, index.refine_index), kinds, settings)
    if isinstance(index, faiss.IndexPreTransform):
        return _transformed(index, *_open(_inner(index, index.index), kinds, settings))
    if isinstance(index, faiss.IndexIVF):
        return _inverted(index)
    return None, index.reconstruct_n


def _cannot(index: Any) -> NotImplementedError:
    return NotImplementedError(
        f"Faiss cannot reconstruct the vectors of an {type(index).__name__}; load them from where"
        " it was built"
    )


def _inner(index: Any, inner: Any) -> Any:
    found = faiss.downcast_index(inner)
    if found.ntotal != index.ntotal:
        raise ValueError(f"it declares {index.ntotal} vectors and holds {found.ntotal}")
    return found


def _transformed(index: Any, ids: Any, rebuild: Any) -> tuple[Any, Any]:
    def back(at: int, count: int) -> Any:
        inner = np.ascontiguousarray(rebuild(at, count))
        found = np.empty((count, index.d), np.float32)
        index.reverse_chain(count, faiss.swig_ptr(inner), faiss.swig_ptr(found))
        return found

    return ids, back


def _inverted(index: Any) -> tuple[Any, Any]:
    """Put the lists' vectors in the order of their ids, which is that in which they were added."""
    # Packed for SIMD; reconstructing from them crashes Faiss 1.15 once they were in a file.
    if hasattr(faiss, "IndexIVFFastScan") and isinstance(index, faiss.IndexIVFFastScan):
        raise _cannot(index)
    lists = index.invlists
    sizes = [lists.list_size(i) for i in range(index.nlist)]
    ids = np.concatenate(
        [
            faiss.rev_swig_ptr(lists.get_ids(i), size).copy() if size else np.empty(0, np.int64)
            for i, size in enumerate(sizes)
        ]
    )
    if len(ids) != index.ntotal:
        raise ValueError(f"it declares {index.ntotal} vectors and holds {len(ids)}")
    ids.sort()
    in_order = np.array_equal(ids, np.arange(len(ids)))
    maps = faiss.DirectMap
    index.set_direct_map_type(maps.Array if in_order else maps.Hashtable)

    def rebuild(at: int, count: int) -> Any:
        return index.reconstruct_batch(ids[at : at + count])

    return None if in_order else ids, rebuild
