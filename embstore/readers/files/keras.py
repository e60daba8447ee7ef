"""Keras: .keras archives, .weights.h5 and the older .h5, without Keras and without running code.

The HDF5 library tells where each variable lies; its bytes are then read from the file itself, so
that no chunks, filters or links of a strange file come into play.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ...optional import require
from ..arrays import Rows
from ..base import Opened, Wanted
from ..facts import public
from ..hdf5 import text_attribute
from ..matrices import open_parameters
from ..registry import Format, Needs
from ..source import FREE_BYTES, MAX_RATIO, File, aside, read_exactly
from ..zipped import first_member, open_zip

_HDF5 = b"\x89HDF\r\n\x1a\n"
_WEIGHTS = "model.weights.h5"
_MEMBERS = {"metadata.json", "config.json", _WEIGHTS}
# What the root of Keras' files holds, as it stands in their first bytes.
_MARKS = (b"_layer_checkpoint_dependencies", b"model_weights\0", b"layer_names\0")
_CONTAINERS = {"layers", "_layers", "_layer_checkpoint_dependencies"}
_OPTIMIZERS = {"optimizer", "optimizer_weights"}
_OWN = {"Functional", "Sequential", "Model"}
_MAX_TEXT = 64 << 20
# No model has so many variables, nor layers inside layers.
_MAX_OBJECTS, _MAX_DEPTH = 20_000, 64


@dataclass(frozen=True)
class _Variable:
    """A variable of a layer.

    Attributes
    ----------
    path : str
        In the file: ``layers/embedding_1/vars/0``.
    group : str
        Of the layer in the file: ``embedding_1``, or the model's attribute.
    layer : str
        What the layer calls itself: ``item_embedding``.
    """

    path: str
    group: str
    layer: str
    rows: Rows

    @property
    def name(self) -> str:
        """What the model calls the layer: in a list its own name, else that of the attribute."""
        parts = self.path.split("/")
        listed = len(parts) > 3 and parts[-4] in _CONTAINERS
        return self.layer if listed else self.group

    def is_called(self, given: str) -> bool:
        """Tell whether a user means this variable."""
        return given in {self.path, self.path.rpartition("/vars/")[0], self.group, self.layer}

    def is_embedding(self, layers: Mapping[str, Mapping[str, Any]]) -> bool:
        """Tell whether this is the matrix of an embedding layer."""
        if len(self.rows.shape) != 2 or self.rows.shape[1] < 2:
            return False
        if self.layer in layers:
            return layers[self.layer].get("class_name") == "Embedding"
        return "embedding" in f"{self.group} {self.layer} {self.path.split('/')[-1]}".lower()


def open_keras(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a model's weights; ``vectors=`` names a layer, by default the only embedding layer.

    Raises
    ------
    BadInput
        When the file is damaged or unlike what Keras writes, or the choice is not plain.
    """
    h5py = require("h5py", "keras")
    config: Any = {}
    version = None
    weights = file.seekable(held)
    if first_member(file.head()):
        weights, config, version = _unpacked(file.name, weights, held)
    root = held.enter_context(h5py.File(weights, "r"))
    tree = _Tree(h5py, weights, file.name)
    if text := tree.text(root, "model_config"):
        config, version = _parsed(text, file.name), tree.text(root, "keras_version")
    layers = dict(_layers(config))
    tree.older = _older_names(config)
    variables = list(tree.variables(root))
    names = _named(variables)
    arrays = {name: each.rows for name, each in names.items()}
    embeddings = [name for name, each in names.items() if each.is_embedding(layers)]
    meant = [name for name, each in names.items() if each.is_called(wanted.vectors or "")]
    if wanted.vectors not in names and len(meant) == 1:
        wanted = replace(wanted, vectors=meant[0])
    default = embeddings[0] if len(embeddings) == 1 else None
    opened = open_parameters(file.name, arrays, wanted, file.provenance("keras"), default)
    layer = layers.get(names[str(opened.provenance["vectors"])].layer, {})
    kind = str(config.get("class_name") or "") if isinstance(config, dict) else ""
    return replace(
        opened,
        trainer=f"keras.{kind}" if kind in _OWN else kind or "keras",
        params={
            **public({"model": kind or None, "keras_version": version}),
            **public({**layer.get("config", {}), "class_name": layer.get("class_name")}),
        },
    )


def _unpacked(name: str, stream: Any, held: ExitStack) -> tuple[Any, Any, str | None]:
    """Copy the weights of an archive aside, and read what describes the model."""
    archive = open_zip(name, stream, held)
    members = {each.filename: each for each in archive.infolist()}
    if _WEIGHTS not in members:
        raise BadInput(
            f"{name} has no {_WEIGHTS}: it is no Keras archive, or saved with max_shard_size; save"
            " it in one file",
            source=name,
        )
    texts = {}
    for each in ("config.json", "metadata.json"):
        if each in members and members[each].file_size <= _MAX_TEXT:
            texts[each] = _parsed(archive.read(members[each]), name)
    limit = max(FREE_BYTES, MAX_RATIO * members[_WEIGHTS].compress_size)
    weights = aside(held.enter_context(archive.open(_WEIGHTS)), name, limit, held)
    about = texts.get("metadata.json", {})
    version = about.get("keras_version") if isinstance(about, dict) else None
    return weights, texts.get("config.json", {}), version


def _parsed(text: str | bytes, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name}: the model's configuration is damaged", source=name) from error


def _layers(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give name and description of each layer, also of those in models inside."""
    inner = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inner, dict):
        return
    yield str(config.get("name") or inner.get("name")), config
    given = inner.get("layers")
    for each in given if isinstance(given, list) else []:
        yield from _layers(each)


def _older_names(config: Any) -> dict[str, str]:
    """Return which layer is which, for files that say so by class and number only."""
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    direct = config.get("config") if isinstance(config, dict) else None
    given = direct.get("layers") if isinstance(direct, dict) else None
    for each in given if isinstance(given, list) else []:
        for name, layer in list(_layers(each))[:1]:
            kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(layer.get("class_name"))).lower()
            names[f"layers/{kind}_{seen[kind]}" if seen[kind] else f"layers/{kind}"] = name
            seen[kind] += 1
    return names


@dataclass
class _Tree:
    """The groups and datasets of a file, as far as Keras writes such."""

    h5py: Any
    stream: Any
    name: str
    older: Mapping[str, str] = field(default_factory=dict)
    left: int = _MAX_OBJECTS

    def text(self, item: Any, attribute: str) -> str | None:
        """Return an attribute that is a text."""
        return text_attribute(self.stream, self.h5py.h5o.get_info(item.id).addr, attribute)

    def variables(self, root: Any) -> Iterator[_Variable]:
        """Give the variables of all layers, without those of the optimizer."""
        for path, dataset in self._datasets(root, ()):
            inside = path[path[0] == "model_weights" :]
            *above, _ = inside
            if not above:
                continue
            group = layer = above[-1]
            if group == "vars" and len(above) > 1:
                group = above[-2]
                older = self.older.get("/".join(above[:-1]), group)
                layer = self.text(dataset.parent, "name") or older
            yield _Variable("/".join(inside), group, layer, self._rows(dataset, path))

    def _datasets(self, group: Any, above: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
        if len(above) > _MAX_DEPTH:
            raise self._damaged("its groups are nested without end")
        for key in group:
            self.left -= 1
            if self.left < 0:
                raise self._damaged(f"it has more than {_MAX_OBJECTS} objects")
            if not above and key in _OPTIMIZERS:
                continue
            if not isinstance(group.get(key, getlink=True), self.h5py.HardLink):
                raise self._damaged(f"{key!r} is a link to something else")
            found, path = group[key], (*above, key.encode(errors="replace").decode())
            if isinstance(found, self.h5py.Group):
                yield from self._datasets(found, path)
            elif isinstance(found, self.h5py.Dataset):
                yield path, found

    def _damaged(self, why: str) -> BadInput:
        return BadInput(
            f"{self.name} is none of Keras' weight files, or damaged: {why}", source=self.name
        )

    def _rows(self, dataset: Any, path: tuple[str, ...]) -> Rows:
        shape, dtype = dataset.shape or (), dataset.dtype
        is_bfloat16 = dtype.kind == "V" and dtype.itemsize == 2 and not dtype.fields
        stored = np.dtype("<u2") if is_bfloat16 else dtype
        if stored.kind not in "fiub" or not shape:
            return Rows(shape, np.dtype(object), _unread)
        made = dataset.id.get_create_plist()
        plain = made.get_layout() == self.h5py.h5d.CONTIGUOUS and not made.get_external_count()
        start = dataset.id.get_offset() if plain else None
        width = math.prod(shape[1:]) * stored.itemsize

        def read(at: int, count: int) -> NDArray[Any]:
            if start is None:
                raise BadInput(
                    f"{self.name}: {'/'.join(path)!r} is in chunks, compressed or empty, which"
                    " Keras does not write: load it with --format hdf5",
                    source=self.name,
                )
            self.stream.seek(start + at * width)
            data = np.frombuffer(read_exactly(self.stream, count * width, self.name), stored)
            data = (data.astype("<u4") << 16).view("<f4") if is_bfloat16 else data
            return data.reshape(count, *shape[1:])

        return Rows(shape, np.dtype(np.float32) if is_bfloat16 else stored, read)


def _unread(at: int, count: int) -> NDArray[Any]:
    raise NotImplementedError


def _named(variables: list[_Variable]) -> dict[str, _Variable]:
    """Call each variable as its layer, with its number or kind where it is not the only one."""
    names = Counter(each.name for each in variables)
    found = {}
    for each in variables:
        last = each.path.split("/")[-1]
        if names[each.name] == 1 or last.partition(":")[0] == "embeddings":
            short = each.name
        else:
            short = f"{each.name}/{last}"
        found[each.path if short in found else short] = each
    return found


def _looks(head: bytes, file: File) -> bool:
    if first_member(head):
        return first_member(head) in _MEMBERS
    return head.startswith(_HDF5) and (
        ".weights.h5" in file.name
        or any(each in head for each in _MARKS)
        or (b"layers\0" in head and b"vars\0" in head)
    )


FORMATS = (
    Format(
        "keras",
        "a file of Keras weights",
        (".keras",),
        ".keras, .weights.h5: an embedding layer, --vectors its name",
        open_keras,
        _looks,
        needs=Needs(("h5py",), "keras"),
    ),
)
