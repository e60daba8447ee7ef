"""The model of fastText, ``.bin``: arguments, a dictionary, and the input and output matrices.

Bojanowski et al., "Enriching Word Vectors with Subword Information", TACL 5, 2017: a word's vector
is the mean of its own row and those of its character n-grams.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...errors import BadInput
from ...types import MAX_DIM, MAX_ID_BYTES
from ..arrays import Kind
from ..base import Opened, Wanted, batch_rows
from ..facts import public
from ..layout import listed
from ..matrices import open_blocks
from ..registry import Format
from ..sieve import failing
from ..source import CHUNK, File, read_exactly

MAGIC = struct.pack("<i", 793712314)
_VERSIONS = (11, 12)
_ARGUMENTS = (
    "dim",
    "ws",
    "epoch",
    "minCount",
    "neg",
    "wordNgrams",
    "loss",
    "model",
    "bucket",
    "minn",
    "maxn",
    "lrUpdateRate",
    "t",
)
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_MODELS = {1: "cbow", 2: "skipgram", 3: "supervised"}
_HEAD = struct.Struct("<ii12id")
_SIZES = struct.Struct("<iiiqq")
_SHAPE = struct.Struct("<?qq")
_ENTRY = np.dtype([("count", "<i8"), ("label", "i1")])
# The longest n-grams that are taken for real; fastText's default is 6.
_MAX_NGRAM = 100
# Bytes of words times n-gram lengths that are hashed at once; some tens of megabytes.
_MAX_HASHED = 1 << 22
_END_OF_SENTENCE = b"</s>"


@dataclass(frozen=True)
class _Matrix:
    """A matrix of float32 in the file, from byte ``start``."""

    start: int
    rows: int
    dim: int

    @property
    def end(self) -> int:
        return self.start + self.rows * self.dim * 4

    def read(self, stream: Any, at: int, count: int, name: str) -> NDArray[np.float32]:
        """Read rows ``at`` to ``at + count``."""
        stream.seek(self.start + at * self.dim * 4)
        data = read_exactly(stream, count * self.dim * 4, name)
        return np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(count, self.dim)


@dataclass(frozen=True)
class _Model:
    """What a file holds; its matrices stay there."""

    name: str
    params: Mapping[str, Any]
    words: pa.Array
    labels: pa.Array
    counts: pa.Array
    input: _Matrix
    output: _Matrix

    @property
    def supervised(self) -> bool:
        return bool(self.params["model"] == "supervised")


def open_fasttext(file: File, wanted: Wanted, held: ExitStack) -> Opened:
    """Open a model; the ids are its words, and beside them are their counts.

    ``vectors=`` is ``input`` (what fastText calls word vectors, the default), ``output`` or
    ``sum``, both added. Of a supervised model ``output`` are the vectors of its labels.

    Raises
    ------
    BadInput
        When it is damaged, quantised, or has no such vectors.
    """
    if wanted.ids is not None:
        raise BadInput(
            f"{file.name} is a fastText model: its words are the ids; leave --ids out",
            source=file.name,
        )
    stream = file.seekable(held)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    model = _read(stream, size, file.name)
    chosen = wanted.vectors or "input"
    of_labels = model.supervised and chosen == "output"
    keys = model.labels if of_labels else model.words
    _check_choice(model, chosen, len(keys))
    beside = {"count": model.counts.slice(len(model.words) if of_labels else 0, len(keys))}
    opened = open_blocks(
        file.name,
        _blocks(stream, model, keys, chosen, held),
        Kind((len(keys), model.input.dim), np.dtype(np.float32)),
        keys,
        beside,
        {**file.provenance("fasttext"), "vectors": chosen},
    )
    return replace(opened, trainer="fastText", params=public(model.params))


def _read(stream: Any, size: int, name: str) -> _Model:
    params = _arguments(stream, name)
    words, labels, counts = _dictionary(stream, size, params, name)
    source, target = _matrices(stream, size, params, len(words), name)
    return _Model(name, params, words, labels, counts, source, target)


def _arguments(stream: Any, name: str) -> dict[str, Any]:
    magic, version, *values = _HEAD.unpack(read_exactly(stream, _HEAD.size, name))
    params: dict[str, Any] = dict(zip(_ARGUMENTS, values, strict=True))
    if magic != struct.unpack("<i", MAGIC)[0] or version not in _VERSIONS:
        raise BadInput(
            f"{name} is no fastText model of version 11 or 12: it is damaged, or newer than this"
            " reader; load its .vec file instead",
            source=name,
        )
    good = {
        "dim": 1 <= params["dim"] <= MAX_DIM,
        "maxn": 0 <= params["maxn"] <= _MAX_NGRAM,
        "bucket": params["bucket"] >= 0,
        "loss": params["loss"] in _LOSSES,
        "model": params["model"] in _MODELS,
    }
    for each, fine in good.items():
        if not fine:
            raise BadInput(
                f"{name} declares {each} {params[each]}, which no fastText model has: it is"
                " damaged",
                source=name,
            )
    params["loss"], params["model"] = _LOSSES[params["loss"]], _MODELS[params["model"]]
    if version == 11 and params["model"] == "supervised":
        params["maxn"] = 0  # such models were trained without n-grams, whatever they say
    return params


def _dictionary(
    stream: Any, size: int, params: dict[str, Any], name: str
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Read the words, the labels, and the counts of both."""
    entries, words, labels, tokens, pruned = _SIZES.unpack(read_exactly(stream, _SIZES.size, name))
    if min(words, labels) < 0 or words + labels != entries or entries * 10 > size:
        raise BadInput(
            f"{name} declares {entries} entries, {words} words and {labels} labels in {size}"
            " bytes: it is damaged",
            source=name,
        )
    if pruned > 0:
        raise _quantised(name)
    params["ntokens"] = tokens
    if pruned == 0:
        params["maxn"] = 0
    texts, facts = [pa.array([], pa.binary())], [np.empty(0, _ENTRY)]
    for found, data in _entries(stream, entries, name):
        texts.append(pa.array(found, pa.binary()))
        facts.append(np.frombuffer(data, _ENTRY))
    keys, table = _texts(pa.concat_arrays(texts), name), np.concatenate(facts)
    if not np.array_equal(table["label"] != 0, np.arange(entries) >= words):
        raise BadInput(
            f"{name} does not list its {words} words before its {labels} labels: it is damaged",
            source=name,
        )
    counts = pa.array(table["count"].astype(np.int64))
    return keys.slice(0, words), keys.slice(words), counts


def _texts(words: pa.Array, name: str) -> pa.Array:
    try:
        return words.cast(pa.string())
    except pa.ArrowInvalid as error:
        row = failing(words, lambda part: part.cast(pa.string()))[0] + 1
        raise BadInput(
            f"{name} row {row}: the word is not valid UTF-8: the file is damaged, or was trained on"
            " another encoding",
            source=name,
            row=row,
        ) from error


def _entries(stream: Any, entries: int, name: str) -> Iterator[tuple[list[bytes], bytes]]:
    """Read texts that end with NUL, each with a count and a type behind it, in blocks."""
    longest = MAX_ID_BYTES + 1 + _ENTRY.itemsize
    buffer, at = b"", 0
    edges = [*range(0, entries, 1 << 16), entries]
    for first, last in pairwise(edges):
        texts, facts = [], []
        for entry in range(first, last):
            if len(buffer) - at < longest:
                buffer, at = buffer[at:] + stream.read(CHUNK), 0
            end = buffer.find(b"\0", at, at + MAX_ID_BYTES + 1)
            after = end + 1 + _ENTRY.itemsize
            if end < 0 and len(buffer) - at >= longest:
                raise BadInput(
                    f"{name} row {entry + 1}: the word is longer than {MAX_ID_BYTES} bytes, or the"
                    " file is damaged",
                    source=name,
                    row=entry + 1,
                )
            if end < 0 or after > len(buffer):
                raise BadInput(
                    f"{name} ends inside its dictionary, at entry {entry + 1} of {entries}: it is"
                    " truncated",
                    source=name,
                )
            texts.append(buffer[at:end])
            facts.append(buffer[end + 1 : after])
            at = after
        yield texts, b"".join(facts)
    stream.seek(at - len(buffer), os.SEEK_CUR)


def _matrices(
    stream: Any, size: int, params: dict[str, Any], words: int, name: str
) -> tuple[_Matrix, _Matrix]:
    """Find the input and the output matrix, and compare their sizes with what is there."""
    found = []
    for which in ("input", "output"):
        quantised, rows, dim = _SHAPE.unpack(read_exactly(stream, _SHAPE.size, name))
        if quantised:
            raise _quantised(name)
        matrix = _Matrix(stream.tell(), rows, dim)
        if dim != params["dim"] or rows < 0 or matrix.end > size:
            raise BadInput(
                f"{name} declares an {which} matrix of {rows} x {dim} float32, which does not fit"
                f" its dim {params['dim']} and the {size - matrix.start} bytes left: it is"
                " truncated or damaged",
                source=name,
            )
        found.append(matrix)
        stream.seek(matrix.end)
    if matrix.end != size:
        raise BadInput(
            f"{name} goes on behind its output matrix for {size - matrix.end} bytes: it is damaged",
            source=name,
        )
    ngrams = params["bucket"] if params["maxn"] else 0
    if found[0].rows < words + ngrams:
        raise BadInput(
            f"{name} has {found[0].rows} input vectors for {words} words and {ngrams} n-grams: it"
            " is damaged",
            source=name,
        )
    return found[0], found[1]


def _quantised(name: str) -> BadInput:
    return BadInput(
        f"{name} is quantised or pruned, so its vectors are approximations: load the model as it"
        " was before, or the .vec file that was written with it",
        source=name,
    )


def _check_choice(model: _Model, chosen: str, rows: int) -> None:
    able = ["input", "output"] if model.supervised else ["input", "output", "sum"]
    if chosen not in able:
        raise BadInput(
            f"{model.name} has no {chosen!r}: say vectors= (--vectors) one of {listed(able)}",
            source=model.name,
            column=chosen,
        )
    loss, there = model.params["loss"], model.output.rows
    if chosen != "input" and (loss == "hs" or there != rows):
        raise BadInput(
            f"{model.name} has no output vector per {'label' if model.supervised else 'word'}"
            f" (loss {loss}, {there} rows): load vectors='input' (--vectors input)",
            source=model.name,
            column=chosen,
        )
    if not rows:
        raise BadInput(f"{model.name} holds no rows: there is nothing to load", source=model.name)


def _blocks(
    stream: Any, model: _Model, keys: pa.Array, chosen: str, held: ExitStack
) -> Iterator[NDArray[np.float32]]:
    shortest, longest, count = (model.params[each] for each in ("minn", "maxn", "bucket"))
    buckets = None
    if chosen != "output" and longest and count:
        buckets = _mapped(stream, model, held)
    widest = longest * (pc.max(pc.binary_length(keys)).as_py() + 2)
    step = min(batch_rows(model.input.dim), max(1, _MAX_HASHED // max(1, widest)))
    for at in range(0, len(keys), step):
        part = keys.slice(at, step)
        if chosen == "output":
            yield model.output.read(stream, at, len(part), model.name)
            continue
        block = model.input.read(stream, at, len(part), model.name)
        with np.errstate(over="ignore", invalid="ignore"):  # refused with its row later
            if buckets is not None:
                block = _means(block, buckets, *ngrams(part, shortest, longest, count))
            if chosen == "sum":
                block = block + model.output.read(stream, at, len(part), model.name)
        yield block


def _mapped(stream: Any, model: _Model, held: ExitStack) -> NDArray[np.float32]:
    """Map the n-grams' rows from a copy, because a map of a file that shrinks is a crash.

    Each word needs its own few of them from all over the matrix, which may be larger than memory.
    """
    copy = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)
    dim, count = model.input.dim, model.params["bucket"]
    stream.seek(model.input.start + len(model.words) * dim * 4)
    for at in range(0, count * dim * 4, CHUNK):
        copy.write(read_exactly(stream, min(CHUNK, count * dim * 4 - at), model.name))
    copy.flush()
    return np.asarray(np.memmap(copy, "<f4", "r", shape=(count, dim)))


def ngrams(
    words: pa.Array, shortest: int, longest: int, buckets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many n-grams each word has, and the buckets of all, as fastText computes them.

    The hash is FNV-1a over the bytes as signed characters; ``<`` and ``>`` mark a word's begin and
    end, and are no n-grams by themselves. The end of a sentence has none.
    """
    marked = pc.binary_join_element_wise(b"<", words.view(pa.binary()), b">", b"")
    _, offsets_buffer, data = marked.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[: len(words) + 1].astype(np.int64)
    text = np.frombuffer(data, np.uint8)[: offsets[-1]]
    values = text.view(np.int8).astype(np.int32).view(np.uint32)
    # Whether a character begins at this byte; one always does behind the last.
    begins = np.append((text & 0xC0) != 0x80, True)
    start = np.flatnonzero(begins[:-1])
    word = np.searchsorted(offsets, start, "right") - 1
    sentence_end = pc.equal(words.view(pa.binary()), _END_OF_SENTENCE)
    some = ~sentence_end.to_numpy(zero_copy_only=False)[word]
    start, word = start[some], word[some]
    first, stop = start == offsets[word], offsets[word + 1]
    at, live = start.copy(), np.arange(len(start))
    length = np.zeros(len(start), np.int64)
    hashes = np.full(len(start), 2166136261, np.uint32)
    found: list[tuple[Any, ...]] = []
    while len(live):  # one more byte of all n-grams that go on
        hashes = (hashes ^ values[at]) * np.uint32(16777619)
        at += 1
        whole, ended = begins[at], at == stop[live]
        length += whole
        taken = whole & (length >= shortest) & ~((length == 1) & (first[live] | ended))
        found.append((live[taken], length[taken], hashes[taken]))
        on = ~ended & ~(whole & (length >= longest))
        at, live, length, hashes = at[on], live[on], length[on], hashes[on]
    starts, lengths, hashed = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(starts * (longest + 1) + lengths, kind="stable")
    counts = np.bincount(word[starts], minlength=len(words))
    return counts, hashed[order].astype(np.int64) % buckets


def _means(
    own: NDArray[np.float32],
    buckets: NDArray[np.float32],
    counts: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the means of each word's own row and its n-grams', added in fastText's order."""
    order = np.argsort(-counts, kind="stable")
    first, descending = (np.cumsum(counts) - counts)[order], -counts[order]
    total = own[order]
    for nth in range(int(counts.max(initial=0))):
        having = np.searchsorted(descending, -nth)
        total[:having] += buckets[rows[first[:having] + nth]]
    total *= (1.0 / (1 - descending)).astype(np.float32)[:, None]
    means = np.empty_like(total)
    means[order] = total
    return means


FORMATS = (
    Format(
        "fasttext",
        "a fastText model",
        (".bin",),
        "a model of fastText, not quantised: --vectors input (with subwords), output or sum",
        open_fasttext,
        lambda head, _: head.startswith(MAGIC),
    ),
)
