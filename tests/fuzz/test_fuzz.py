"""A short run of the fuzzer over every format, what it has found before, and its own controls."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embstore import BadInput, EmbstoreError
from embstore.readers import Wanted, formats, open_source
from embstore.readers.registry import Format
from embstore.types import Metric

from .seeds import SEEDS, Seed, seeds_of
from .worker import Find, Input, check_message, make, read

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")

OURS = [each for each in formats() if each.open.__module__.startswith("embstore.")]
CORPUS = sorted(
    each for each in (Path(__file__).parent / "corpus").iterdir() if each.suffix != ".json"
)


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    ran = fuzz("--inputs", "100", "--seed", "7", "--finds", str(tmp_path / "finds"))
    finds = [each.read_text() for each in tmp_path.glob("finds/*.json")]
    assert (ran.returncode, finds) == (0, []), ran.stdout + ran.stderr
    assert "has no seeds" not in ran.stdout
    assert all(f"\n{each.name} " in ran.stdout for each in OURS)


def test_finds_stay_mended() -> None:
    assert CORPUS
    ran = fuzz("--replay", *map(str, CORPUS))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = dict(line.split(": ", 1) for line in ran.stdout.splitlines())
    told = [json.loads(each.with_name(f"{each.name}.json").read_text()) for each in CORPUS]
    assert said == {path.name: each["now"] for path, each in zip(CORPUS, told, strict=True)}


@pytest.mark.parametrize("format", OURS, ids=lambda each: each.name)
def test_every_format_has_seeds_that_are_read(format: Format, tmp_path: Path) -> None:
    seeds = seeds_of(format)
    assert seeds, f"write seeds for {format.name} in tests/fuzz/seeds.py"
    for seed in seeds:
        path = tmp_path / seed.name
        path.write_bytes(seed.data)
        given = Input(seed, seed.data, True, False, Metric.L2)
        if seed.refused:
            with pytest.raises(EmbstoreError, match=re.escape(seed.name)):
                read(path, format, given)
        else:
            read(path, format, given)


class Pipe(io.RawIOBase):
    """What can be read once."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(buffer)


@pytest.mark.parametrize("format", OURS, ids=lambda each: each.name)
def test_every_format_reads_alike_from_a_pipe(format: Format, tmp_path: Path) -> None:
    for seed in seeds_of(format):
        if seed.refused:
            continue
        path = tmp_path / seed.name
        path.write_bytes(seed.data)
        wanted = Wanted(**seed.how)
        tables = []
        for source in (path, io.BytesIO(seed.data), Pipe(seed.data)):
            with open_source(source, wanted, format=format.name) as opened:
                tables.append(pa.Table.from_batches(list(opened.batches), opened.schema))
        assert tables[0].num_rows
        assert tables[0].equals(tables[1]) and tables[0].equals(tables[2]), seed.name


def test_inputs_are_the_same_each_time() -> None:
    seeds = SEEDS["npy"]()
    first = [make("npy", seeds, number, 3, 10) for number in range(200)]
    assert first == [make("npy", seeds, number, 3, 10) for number in range(200)]
    assert len({each.data for each in first}) > 150
    cut = [make("npy", seeds, number, 3, 10**6) for number in range(len(seeds[0].data))]
    assert [len(each.data) for each in cut] == list(range(len(seeds[0].data)))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("v.npy: two\nlines", "more than a line"),
        ("another file is bad", "does not name"),
    ],
)
def test_a_bad_message_is_found(message: str, says: str) -> None:
    error = BadInput("v.npy")
    error.args = (message,)
    with pytest.raises(Find, match=says):
        check_message(error, "v.npy")
    with pytest.raises(Find, match="all the memory"):
        try:
            raise BadInput("v.npy is large") from MemoryError()
        except BadInput as caught:
            check_message(caught, "v.npy")


CONTROL = """
import os, pickle, sys
from dataclasses import replace
from pathlib import Path
from embstore.readers import registry
from tests.fuzz import __main__ as fuzz, seeds

def crash(file, wanted, held):
    if file.head() == b"0123456789":
        wanted.x  # the seed itself is refused, so that the process gets to its first input
    {does}

control = registry.Format("control", "a control", (".control",), "", crash)
fuzz.seeds_of = lambda format: [seeds.Seed("a.control", b"0123456789")]
fuzz.formats = registry.formats = lambda: (control,)
sys.argv = ["fuzz", "--inputs", "3", "--seed", "1", "--finds", sys.argv[1]]
sys.exit(fuzz.main())
"""


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("os.abort()", "the process ended with -6"),
        ("os.kill(os.getpid(), 27)", "of the processor"),
        ("raise KeyError('x')", "refused"),
        ("raise SystemExit('x')", "SystemExit"),
        ("bytearray(10 << 30)", "all the memory"),
        ("bytearray(b'x') * (300 << 20); wanted.x", "MiB of memory"),
        ("os.system('true')", "os.system"),
        ("pickle.loads(b'cposix\\nsystem\\n.')", "pickle.find_class"),
        ("exec('1')", "compile"),
        ("import warnings; warnings.warn('careful'); wanted.x", "it warns: careful"),
    ],
)
def test_what_no_file_may_cause_is_found(tmp_path: Path, does: str, says: str) -> None:
    """Each guard of the fuzzer, tried with a reader that does what it is there for."""
    ran = subprocess.run(
        [sys.executable, "-c", CONTROL.format(does=does), str(tmp_path / "finds")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    found = [json.loads(each.read_text())["found"] for each in tmp_path.glob("finds/*.json")]
    if says == "refused":
        assert (ran.returncode, found) == (0, []), ran.stdout + ran.stderr
    else:
        assert ran.returncode == 1, ran.stdout + ran.stderr
        assert found
        assert all(says in each for each in found), found


def test_a_seed_says_how_it_is_read(tmp_path: Path) -> None:
    seed = next(each for each in SEEDS["npz"]() if each.how.get("fold"))
    path = tmp_path / seed.name
    path.write_bytes(seed.data)
    with open_source(path, Wanted(**seed.how)) as opened:
        last = np.asarray(next(opened.batches).column("embedding").flatten()).reshape(6, -1)[:, -1]
    np.testing.assert_array_equal(last, np.arange(6))
    assert isinstance(seed, Seed)
