"""Give the arrays of a file to the process that started this one.

On stdout: a line of JSON that says what there is, then, for each array that a line on stdin names,
its bytes; texts as lines of JSON lists. On stderr, in the last line, what went wrong.

The parser gets so much memory and no other file, whatever the first one refers to.
"""

from __future__ import annotations

import contextlib
import encodings.ascii  # noqa: F401 (later it could not be opened any more)
import json
import os
import re
import resource
import runpy
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np


def _confine(memory: int, files: int = 0) -> None:
    """Cap the memory from here on, and leave so many more files to open."""
    with contextlib.suppress(OSError, ValueError):  # macOS knows no such limits
        with open("/proc/self/statm") as file:  # noqa: PTH123
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory,) * 2)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + files,) * 2)


def _write(blocks: Iterator[Any]) -> None:
    for block in blocks:
        if isinstance(block, list):
            sys.stdout.buffer.write(json.dumps(block).encode() + b"\n")
        else:
            sys.stdout.buffer.write(np.ascontiguousarray(block).view(np.uint8).data)


def main(script: str, path: str, memory: str) -> None:
    """Serve until stdin ends."""
    described = runpy.run_path(script)["open_file"]
    with contextlib.ExitStack() as held:
        about, blocks = described(path, held, partial(_confine, int(memory)))
        sys.stdout.buffer.write(json.dumps(about).encode() + b"\n")
        sys.stdout.buffer.flush()
        for line in sys.stdin:
            name, rows = json.loads(line)
            _write(blocks(name, rows))
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BrokenPipeError:
        os._exit(0)
    except BaseException as error:
        reason = "it needs too much memory" if isinstance(error, MemoryError) else str(error)
        reason = re.sub(r"^Error in .*? at \S+:\d+: ", "", reason)  # Faiss's own source
        print("\n" + " ".join((reason or type(error).__name__).split()), file=sys.stderr)
        sys.stderr.flush()
        os._exit(2 if isinstance(error, NotImplementedError) else 1)
