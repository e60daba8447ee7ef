"""One process that reads damaged files until they are all read, or until one ends it."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from embstore import EmbstoreError
from embstore.load import attributes, checks
from embstore.load.encode import encode
from embstore.load.ids import id_type_of, to_id_type
from embstore.readers import Wanted, apart, open_source, read_attributes
from embstore.readers.base import EMBEDDING, ID, Opened
from embstore.readers.registry import Format
from embstore.types import Metric, Precision, Zero

from .mutate import damaged, truncations
from .seeds import WORDS_OF, Seed

CPU_SECONDS = 5.0
# Whatever waits for something uses no CPU; this machine may be busy.
WALL_SECONDS = 60.0
# A Parquet page may claim 2 GiB, which Arrow reserves before it sees that it is not true.
ADDRESS_SPACE = 3 << 30
RESIDENT = 256 << 20
_M_ARENA_MAX = -8
_SERVE = str(Path(apart.__file__).with_name("children") / "serve.py")
# The exit status of a process that another is to go on for.
AGAIN = 75


class Find(Exception):
    """What no file may cause."""


@dataclass(frozen=True)
class Input:
    """A damaged file, and how it is read.

    Attributes
    ----------
    named : bool
        The format is given and not looked for.
    table : bool
        It is read as a table of attributes.
    """

    seed: Seed
    data: bytes
    named: bool
    table: bool
    metric: Metric


def make(format: str, seeds: list[Seed], number: int, run: int, inputs: int) -> Input:
    """Return input ``number`` of a run: first each truncation, if there is room, then the rest."""
    random = Random(f"{format} {run} {number}")
    # What the content or the name tells is another path through the code, seldom a longer one.
    named, table = random.random() < 0.85, random.random() < 0.05
    metric = random.choice((Metric.COSINE, Metric.L2))
    if inputs >= 4 * sum(len(truncations(seed.data)) for seed in seeds):
        for seed in seeds:
            if number < len(truncations(seed.data)):
                return Input(seed, seed.data[:number], named, table, metric)
            number -= len(truncations(seed.data))
    seed = random.choice(seeds)
    others = [each.data for each in seeds]
    data = damaged(random, seed.data, others, WORDS_OF.get(format, ()))
    return Input(seed, data, named, table, metric)


def read(path: Path, format: Format, given: Input) -> None:
    """Read a file to its end as a load does, without the server.

    Raises
    ------
    EmbstoreError
        As any user would see it.
    Find
        When a promise of `Opened` is broken.
    """
    if given.table and format.read is not None:
        read_attributes(path)
        return
    name = format.name if given.named else None
    with open_source(path, Wanted(**given.seed.how), format=name) as opened:
        _drain(opened, given.metric)


def _drain(opened: Opened, metric: Metric) -> None:
    columns = [each for each in opened.schema if each.name not in {ID, EMBEDDING}]
    kept = attributes.columns_of(pa.schema(columns), opened.name)
    id_type = id_type_of(opened.schema.field(ID).type)
    rows = 0

    def encoded(batch: pa.RecordBatch) -> memoryview:
        ids = to_id_type(batch.column(ID), id_type)
        vectors = batch.column(EMBEDDING).flatten().to_numpy().reshape(len(batch), opened.dim)
        stored = checks.to_stored(vectors, metric, Precision.FLOAT32, ids, Zero.REJECT)
        beside = [attributes.to_stored(batch.column(each.name), each, ids) for each in kept]
        return encode(ids, kept, beside, stored, opened.dim)

    for batch in opened.batches:
        batch.validate()
        if batch.schema != opened.schema:
            raise Find(f"a batch of {batch.schema} where {opened.schema} is promised")
        embedding = batch.column(EMBEDDING)
        flat = embedding.flatten()
        if embedding.null_count or flat.null_count or len(flat) != len(batch) * opened.dim:
            raise Find("a vector is missing or of another dim")
        opened.sieve.sift(batch, opened.place, rows, encoded)
        rows += len(batch)
    if opened.rows is not None and rows != opened.rows:
        raise Find(f"{rows} rows where {opened.rows} are promised")
    if not rows:
        raise Find("no rows, and no error")
    json.dumps([opened.provenance, opened.params, opened.metrics], allow_nan=False)


def check_message(error: EmbstoreError, name: str) -> None:
    """Look at an error as its reader will.

    Raises
    ------
    Find
    """
    text = str(error)
    if name not in text:
        raise Find(f"the message does not name the file: {text!r}") from error
    if not text.isprintable():
        raise Find(f"the message is more than a line, or changes the terminal: {text!r}") from error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise Find("it took all the memory that there is") from error
        cause = cause.__cause__ or cause.__context__


class Watch:
    """What the interpreter reports of itself: code that is run, processes, connections."""

    _SEEN = (
        *("exec", "compile", "marshal.loads", "pickle.find_class", "subprocess.Popen"),
        *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename"),
        *("os.mkdir", "os.rmdir", "shutil.rmtree", "ctypes.dlopen", "tempfile.mkdtemp"),
        *("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request"),
    )

    def __init__(self) -> None:
        self.events: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in self._SEEN:
            return
        # A module that is imported late is compiled and run too; it comes from a file of its own.
        code = arguments[0] if event == "exec" else None
        if code is not None and code.co_name == "<module>" and code.co_filename.endswith(".py"):
            return
        if event in {"marshal.loads", "compile"} and _importing():
            return
        # HDF5 and Faiss are read by a process of their own, which is limited itself.
        if event == "subprocess.Popen" and _SERVE in map(str, arguments[1]):
            return
        self.events.append(f"{event} {arguments!r}"[:300])


def _importing() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap_external>":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


class Progress:
    """Numbers that the parent reads when this process is gone: at, done, read, finds."""

    _FIELDS = struct.Struct("4q")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._FIELDS.size)
        self.values = [-1, 0, 0, 0]
        self.save()

    def save(self) -> None:
        """Show the numbers to the parent."""
        self._FIELDS.pack_into(self._memory, 0, *self.values)

    def load(self) -> list[int]:
        """Return the numbers as the child left them."""
        return list(self._FIELDS.unpack_from(self._memory, 0))


def work(
    format: Format,
    seeds: list[Seed],
    numbers: Iterable[int],
    run: int,
    inputs: int,
    folder: Path,
    finds: Path,
    progress: Progress,
) -> None:
    """Read inputs; what is found is kept under ``finds``. Memory and time are limited.

    Ends with `AGAIN` when the libraries have used up half of the memory without giving it back.
    """
    log = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # What is reserved and not used would count: Arrow's other pools do, and malloc per thread.
    pa.set_memory_pool(pa.system_memory_pool())
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    for seed in seeds:
        attempt(folder / seed.name, format, Input(seed, seed.data, True, False, Metric.L2))
    watch = Watch()
    size = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE,) * 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for number in numbers:
        if _address_space() > size + ADDRESS_SPACE // 2:
            raise SystemExit(AGAIN)
        progress.values[0] = number
        progress.save()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        given = make(format.name, seeds, number, run, inputs)
        watch.events.clear()
        watch.on = True
        found = attempt(folder / given.seed.name, format, given)
        watch.on = False
        if watch.events:
            found = f"it ran or opened what it may not: {watch.events[0]}"
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if now - peak > RESIDENT:
            found = f"it took {(now - peak) >> 20} MiB of memory"
        peak = now
        progress.values[1] += 1
        if found == "read":
            progress.values[2] += 1
        elif found:
            progress.values[3] += 1
            keep(finds, format, number, given, found)
        progress.save()


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def keep(finds: Path, format: Format, number: int, given: Input, found: str) -> None:
    """Keep an input and what it caused, so that it can be tried again."""
    finds.mkdir(parents=True, exist_ok=True)
    name = f"{format.name}-{number}-{given.seed.name}"
    (finds / name).write_bytes(given.data)
    told = {
        "format": format.name,
        "seed": given.seed.name,
        "named": given.named,
        "table": given.table,
        "metric": given.metric,
        "found": found,
    }
    (finds / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def attempt(path: Path, format: Format, given: Input) -> str:
    """Return ``read``, nothing for a proper refusal, or what was found."""
    path.write_bytes(given.data)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            try:
                read(path, format, given)
                found = "read"
            except EmbstoreError as error:
                check_message(error, path.name)
                found = ""
        except BaseException as error:
            found = f"{type(error).__name__}: {error}"
    return f"it warns: {warned[0].message}" if warned else found
