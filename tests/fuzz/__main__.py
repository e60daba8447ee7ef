"""Fuzz the readers: ``python -m tests.fuzz [--inputs 100000] [--format NAME] [--seed N]``.

Damaged files of every format are read in processes of their own, with limits on memory and time.
Each must be read as promised or refused in one sentence that names it; anything else is a find.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from embstore.readers.registry import Format, formats
from embstore.types import Metric

from . import worker
from .seeds import Seed, seeds_of

_ENDS = {
    -signal.SIGPROF: f"it took {worker.CPU_SECONDS} s of the processor",
    -signal.SIGALRM: f"it waited for {worker.WALL_SECONDS} s",
}


# Each input is a process of its own, which takes a hundred times as long: all only where named.
_APART = {"hdf5", "faiss"}


def main() -> int:
    """Run as the arguments say; returns 1 if there are finds."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="per format")
    parser.add_argument("--format", action="append", help="only this one; can be repeated")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the run")
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"), help="folder for finds")
    parser.add_argument("--replay", type=Path, nargs="+", help="files of --finds to try again")
    given = parser.parse_args()
    able = [each for each in formats() if not given.format or each.name in given.format]
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as place:
        if given.replay:
            return replay(given.replay, Path(place))
        print(f"seed {given.seed}")
        print(f"{'format':16}{'inputs':>9}{'refused':>9}{'read':>9}{'finds':>7}{'inputs/s':>10}")
        total = 0
        for format in able:
            few = format.name in _APART and not given.format
            inputs = max(10, given.inputs // 50) if few else given.inputs
            total += fuzz(format, inputs, given.seed, Path(place), given.finds)
    if total:
        print(f"{total} finds, see {given.finds}")
    return 1 if total else 0


def fuzz(format: Format, inputs: int, run: int, place: Path, finds: Path) -> int:
    """Fuzz one format with a process per core; returns the number of finds."""
    seeds = made_apart(format, place)
    if not seeds:
        print(f"{format.name:16} has no seeds")
        return 0
    cores = min(len(os.sched_getaffinity(0)), max(1, inputs // 200))
    started = time.monotonic()
    crews = [
        Crew(format, seeds, range(k, inputs, cores), run, inputs, place, finds, k)
        for k in range(cores)
    ]
    running = {each.begin(): each for each in crews}
    while running:
        pid, status = os.wait()
        crew = running.pop(pid, None)
        if crew is not None and (again := crew.ended(status)):
            running[again] = crew
    seconds = time.monotonic() - started
    done, read, found = (sum(crew.totals[i] for crew in crews) for i in range(3))
    print(
        f"{format.name:16}{done:9}{done - read - found:9}{read:9}{found:7}{done / seconds:10.0f}",
        flush=True,
    )
    return found


class Crew:
    """The processes that work through some inputs, one after the other as they die."""

    def __init__(
        self,
        format: Format,
        seeds: list[Seed],
        numbers: range,
        run: int,
        inputs: int,
        place: Path,
        finds: Path,
        core: int,
    ) -> None:
        self._what = format, seeds
        self._left, self._run, self._inputs = numbers, run, inputs
        self._folder = place / f"{format.name}-{core}"
        self._folder.mkdir()
        self._finds = finds
        self._progress = worker.Progress()
        self.totals = [0, 0, 0]

    def begin(self) -> int:
        """Start a process; returns its pid."""
        format, seeds = self._what
        self._progress = worker.Progress()
        return forked(
            lambda: worker.work(
                format,
                seeds,
                self._left,
                self._run,
                self._inputs,
                self._folder,
                self._finds,
                self._progress,
            )
        )

    def ended(self, status: int) -> int | None:
        """Count what a process did; returns the pid of the next, if inputs are left."""
        at, done, read, found = self._progress.load()
        self.totals = [self.totals[0] + done, self.totals[1] + read, self.totals[2] + found]
        if not status:
            shutil.rmtree(self._folder)
            return None
        if at < 0:
            output = (self._folder / "output").read_text("utf-8", "replace")
            raise SystemExit(
                f"{self._what[0].name}: a worker ended before its first input {output}"
            )
        if (code := os.waitstatus_to_exitcode(status)) != worker.AGAIN:
            format, seeds = self._what
            given = worker.make(format.name, seeds, at, self._run, self._inputs)
            says = _ENDS.get(code, f"the process ended with {code}")
            worker.keep(self._finds, format, at, given, says)
            self.totals = [self.totals[0] + 1, self.totals[1], self.totals[2] + 1]
        self._left = self._left[self._left.index(at) + 1 :]
        return self.begin() if self._left else None


def made_apart(format: Format, place: Path) -> list[Seed]:
    """Make the seeds in a process of their own: the libraries leave threads behind."""
    path = place / f"{format.name}.seeds"

    def write() -> None:
        path.write_bytes(pickle.dumps(seeds_of(format)))

    _, status = os.waitpid(forked(write), 0)
    if status:
        raise SystemExit(f"{format.name}: its seeds cannot be made")
    return list(pickle.loads(path.read_bytes()))  # noqa: S301 (written above)


def replay(paths: list[Path], place: Path) -> int:
    """Try kept inputs again, each in a process of its own; returns 1 if one is still a find."""
    known = {each.name: each for each in formats()}
    bad = 0
    for path in paths:
        told = json.loads(path.with_name(f"{path.name}.json").read_text())
        format = known[told["format"]]
        seed = next(each for each in made_apart(format, place) if each.name == told["seed"])
        given = worker.Input(
            seed, path.read_bytes(), told["named"], told["table"], Metric(told["metric"])
        )

        def run(format: Format = format, given: worker.Input = given) -> None:
            print(worker.attempt(place / given.seed.name, format, given) or "refused", flush=True)

        print(f"{path.name}: ", end="", flush=True)
        _, status = os.waitpid(forked(run), 0)
        if status:
            bad = 1
            print(f"the process ended with {os.waitstatus_to_exitcode(status)}")
    return bad


def forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a child process; returns its pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        sys.stdout.flush()
        status = 0
    except SystemExit as wanted:
        status = int(wanted.code or 0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
