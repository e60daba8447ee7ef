"""Client processes that begin in a moment: forked off one that has imported what they need.

The second that a fresh interpreter takes to import everything was most of the run. Each is still a
process of its own, with its own arguments, environment, output and exit status.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "pytest",
        "embstore.cli",
        "embstore.compare.run",
        "embstore.evaluate.run",
        "embstore.index.manage",
        "embstore.ranking.run",
        "embstore.readers.registry",
        "embstore.replica",
        "numpy",
        "pyarrow.parquet",
        "rich.progress",
        "rich.table",
        "scipy.sparse",
        "tests.fix_process",
    ]
)


def run(
    arguments: Sequence[str],
    *,
    script: str | None = None,
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run the command line with arguments, or a script in Python, and wait for its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err, code = (Path(folder, name) for name in ("out", "err", "script.py"))
        if script is not None:
            code.write_text(script, encoding="utf-8")
        process = _forks.Process(
            target=_child,
            args=(
                list(arguments),
                None if script is None else code,
                {name: os.fspath(value) for name, value in env.items()},
                os.fspath(cwd or Path.cwd()),
                out,
                err,
            ),
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(list(arguments), timeout)
        return subprocess.CompletedProcess(
            list(arguments),
            process.exitcode or 0,
            out.read_text(encoding="utf-8"),
            err.read_text(encoding="utf-8"),
        )


def _child(
    arguments: list[str], script: Path | None, env: dict[str, str], cwd: str, out: Path, err: Path
) -> None:
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    # What an interpreter does when it starts.
    warnings.resetwarnings()
    warnings.simplefilter("error" if env.get("PYTHONWARNINGS") == "error" else "ignore")
    try:
        if script is None:
            from embstore.cli import main

            sys.argv = ["embstore", *arguments]
            main()
        else:
            runpy.run_path(str(script), run_name="__main__")
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
