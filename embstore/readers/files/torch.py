""".pt and .pth: what torch.save writes, read by PyTorch's weights-only unpickler and no other way.

Of an archive PyTorch reads only the pickle that says which tensor lies where. The bytes of the
chosen ones are then read from the file a batch at a time, without mapping it into memory, where a
file that shrinks would end the process. A transposed or sliced tensor, and all of a file from
before PyTorch 1.6, are read whole.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput, MissingPackage
from ...optional import require
from ..arrays import Rows
from ..base import Opened, Wanted
from ..facts import plain
from ..matrices import open_parameters
from ..registry import Format, Needs
from ..source import File, read_exactly
from ..tensors import as_numpy, by_layer, is_tensor, tensor_rows
from ..zipped import data_offset, first_member, open_zip

# The pickled magic number of the form before PyTorch 1.6.
_LEGACY = re.compile(rb"\x80[\x02-\x05]\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.")
_FIRST_MEMBER = re.compile(r"[^/]+/(data\.pkl|data/.*|constants\.pkl|code/.*|version|byteorder)")
# Before, even the weights-only unpickler can be made to run code: CVE-2025-32434, CVE-2026-24747.
_FLOOR = (2, 10)
# A nest of lists that name each other can have more entries than atoms are in the universe.
_MAX_ENTRIES = 100_000
_MAX_PARAMS = 64
_UNSAFE = re.compile(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)")


def open_torch(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a state dict, a checkpoint that holds one, or tensors; ``vectors=`` names one.

    The keys of nested mappings are joined by dots; an optimizer's state is left out. ``ids=`` may
    name a tensor, a list or a vocabulary inside.

    Raises
    ------
    BadInput
        When it holds anything but tensors and plain values, or the choice is not plain.
    MissingPackage
        When PyTorch is older than the first that reads such files safely.
    """
    torch = require("torch", "torch")
    if torch.__version__ < _FLOOR:
        floor = ".".join(map(str, _FLOOR))
        raise MissingPackage(
            f"this needs torch {floor} or later, because a file can run code in older ones such as"
            f" {torch.__version__}: run pip install --upgrade 'torch>={floor}'"
        )
    # PyTorch's unpickler reads lines, which Arrow's files cannot.
    stream = held.enter_context(_Stream(file.seekable(held)))
    found = _Contents(file.name)
    if _LEGACY.match(file.head(16)):
        found.add("", _load(stream, file.name, "cpu"))
    else:
        archive = open_zip(file.name, stream, held)
        _check_members(archive, stream, file.name)
        found.source = _Source(stream, archive, file.name)
        # Tensors without data, which know where theirs begins.
        given = _load(stream, file.name, "meta")
        found.add("", given)
        if not found.located:  # by a PyTorch that does not tell
            found = _Contents(file.name)
            found.add("", _load(stream, file.name, "cpu"))
    if isinstance(wanted.ids, str) and wanted.ids in found.vocabularies:
        wanted = replace(wanted, ids=found.vocabularies[wanted.ids])
    opened = open_parameters(file.name, by_layer(found.arrays), wanted, file.provenance("torch"))
    return replace(opened, trainer="torch", params=found.params, metrics=found.metrics)


class _Stream(io.BufferedReader):
    """Reads no more than there is: what a damaged pickle asks for would be allocated first."""

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self._end = self.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return as many bytes as are asked for and there."""
        left = max(0, self._end - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _load(stream: Any, name: str, device: str) -> Any:
    torch = require("torch", "torch")
    stream.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it may not be able to read
            return torch.load(stream, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = _UNSAFE.search(str(error))
        what = f"an object of {unsafe[1]}" if unsafe else "something else than tensors"
        raise BadInput(
            f"{name} holds {what}, which cannot be read without running code from the file"
            " (--allow-pickle changes nothing here): save model.state_dict() alone, or safetensors",
            source=name,
        ) from error


def _check_members(archive: zipfile.ZipFile, stream: Any, name: str) -> None:
    """Refuse what torch.save does not write, before PyTorch opens it."""
    members = {each.filename.partition("/")[2]: each for each in archive.infolist()}
    problem = None
    if "constants.pkl" in members:
        problem = (
            "is a TorchScript program: save its weights, with"
            " torch.save(torch.jit.load(path).state_dict(), 'weights.pt')"
        )
    elif "data.pkl" not in members:
        problem = "is no archive that torch.save writes: it has no data.pkl"
    elif any(each.compress_type != zipfile.ZIP_STORED for each in members.values()):
        problem = "is compressed inside, which torch.save never does: unpack it and save it again"
    elif "byteorder" in members and archive.read(members["byteorder"]) != b"little":
        problem = "was written on a big-endian machine: save it again on another"
    else:
        size = stream.seek(0, io.SEEK_END)
        if sum(each.file_size for each in members.values()) > size:
            problem = f"declares more than its {size} bytes: it is truncated or damaged"
    if problem:
        raise BadInput(f"{name} {problem}", source=name)


@dataclass(frozen=True)
class _Source:
    """Where the bytes of tensors without data are."""

    stream: Any
    archive: zipfile.ZipFile
    name: str

    def rows(self, tensor: Any) -> Rows:
        """Return a tensor whose rows are read from the archive."""
        torch = require("torch", "torch")
        width, storage = tensor.element_size(), tensor.untyped_storage()
        size = tensor[:1].numel()

        @cache
        def start() -> int:
            return self._checked(storage._checkpoint_offset, storage.nbytes())

        @cache
        def whole() -> NDArray[Any]:
            self.stream.seek(start())
            data = bytearray(read_exactly(self.stream, storage.nbytes(), self.name))
            there = torch.frombuffer(data, dtype=tensor.dtype)
            return as_numpy(
                there.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
            )

        def read(at: int, count: int) -> NDArray[Any]:
            if not tensor.is_contiguous():
                return whole()[at : at + count]
            self.stream.seek(start() + (tensor.storage_offset() + at * size) * width)
            data = bytearray(read_exactly(self.stream, count * size * width, self.name))
            return as_numpy(torch.frombuffer(data, dtype=tensor.dtype).view(-1, *tensor.shape[1:]))

        return replace(tensor_rows(tensor), read=read)

    def _checked(self, offset: int, size: int) -> int:
        """Compare what the pickle says with the archive's directory."""
        before = [each for each in self.archive.infolist() if each.header_offset < offset]
        member = max(before, key=lambda each: each.header_offset, default=None)
        if member is None or data_offset(self.stream, member) != offset or member.file_size != size:
            raise BadInput(
                f"{self.name}: a tensor's data are not where its pickle says: it is damaged",
                source=self.name,
            )
        return offset


@dataclass
class _Contents:
    """What a file holds, by dotted names."""

    name: str
    source: _Source | None = None
    located: bool = True
    arrays: dict[str, Rows] = field(default_factory=dict)
    vocabularies: dict[str, Mapping[Any, int]] = field(default_factory=dict)
    params: dict[str, object] = field(default_factory=dict)
    metrics: dict[str, object] = field(default_factory=dict)
    _entries: int = 0

    def add(self, name: str, value: Any) -> None:
        """Take in a value and what is inside."""
        self._entries += 1
        if self._entries > _MAX_ENTRIES:
            raise BadInput(
                f"{self.name} holds more than {_MAX_ENTRIES} values: save the state dict alone",
                source=self.name,
            )
        if is_tensor(value):
            self.arrays[name or "tensor"] = self._rows(name, value)
        elif isinstance(value, Mapping):
            self._add_mapping(name, value)
        elif isinstance(value, list | tuple):
            if value and all(type(each) is type(value[0]) in {int, str} for each in value):
                self.arrays[name or "list"] = _listed(value)
            else:
                self._add_all(name, enumerate(value))
        elif (shown := plain(value)) is not None and len(self.params) < _MAX_PARAMS:
            is_metric = name.lower().endswith("loss") or "metrics" in name.split(".")[:-1]
            (self.metrics if is_metric else self.params)[name] = shown

    def _add_mapping(self, name: str, value: Mapping[Any, Any]) -> None:
        if {"state", "param_groups"} <= value.keys():
            return  # an optimizer's, with matrices as large as the model's
        if value and all(type(each) is int for each in value.values()):
            self.vocabularies[name] = value
            if len(value) > _MAX_PARAMS:
                return
        self._add_all(name, value.items())

    def _add_all(self, name: str, items: Any) -> None:
        for key, each in items:
            self.add(f"{name}.{key}" if name else str(key), each)

    def _rows(self, name: str, tensor: Any) -> Rows:
        if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
            return tensor_rows(tensor)
        storage = tensor.untyped_storage()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise BadInput(
                f"{self.name}: the rows of {name!r} overlap: save its .contiguous()",
                source=self.name,
                column=name,
            )
        if self.source is None or not tensor.dim():
            return tensor_rows(tensor)
        self.located &= getattr(storage, "_checkpoint_offset", None) is not None
        return self.source.rows(tensor)


def _listed(values: Any) -> Rows:
    """Return a list of integers or texts; numpy would make all texts as long as the longest."""
    dtype = np.dtype(np.int64 if type(values[0]) is int else np.str_)
    return Rows((len(values),), dtype, lambda at, count: np.array(values[at : at + count], object))


def _looks(head: bytes, _: File) -> bool:
    return bool(_LEGACY.match(head) or _FIRST_MEMBER.fullmatch(first_member(head)))


FORMATS = (
    Format(
        "torch",
        "a PyTorch file",
        (".pt", ".pth"),
        "tensors by torch.save: vectors= a parameter's or its layer's name; nothing is unpickled"
        " but tensors and plain values",
        open_torch,
        _looks,
        needs=Needs(("torch",), "torch"),
    ),
)
