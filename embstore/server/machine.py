"""What this machine, or the container around this process, has to give."""

from __future__ import annotations

import math
import os
from pathlib import Path

_UNKNOWN_SHM = 1 << 62


def measure() -> tuple[int, int, int]:
    """Return the bytes of memory, the cores, and the bytes free in /dev/shm.

    A container's limits bound the first two.
    """
    import psutil

    groups = control_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    memory = min([int(psutil.virtual_memory().total), *memory_limits(groups)])
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return memory, min([cores, *core_limits(groups)]), _shm()


def control_groups(membership: Path, root: Path) -> list[Path]:
    """Return the folders of this process's control groups, of version 1 and 2, up to the root."""
    folders = [root, root / "memory", root / "cpu"]
    for line in (_text(membership) or "").splitlines():
        _, _, named = line.partition(":")
        kinds, _, path = named.partition(":")
        for kind in kinds.split(","):
            top = root / kind if kind else root
            group = top / path.lstrip("/")
            folders += [each for each in (group, *group.parents) if each.is_relative_to(top)]
    return list(dict.fromkeys(folders))


def memory_limits(groups: list[Path]) -> list[int]:
    """Return the limits of memory in bytes; none where nothing limits it."""
    names = ("memory.max", "memory.limit_in_bytes")
    texts = [_text(group / name) for group in groups for name in names]
    return [int(text) for text in texts if text and text.isdigit() and int(text)]


def core_limits(groups: list[Path]) -> list[int]:
    """Return the limits of processor time, in whole cores; none where nothing limits it."""
    limits = []
    for group in groups:
        words = (_text(group / "cpu.max") or "").split()
        if not words:
            parts = [_text(group / f"cpu.cfs_{each}_us") for each in ("quota", "period")]
            words = [part for part in parts if part]
        if len(words) == 2 and all(each.isdigit() for each in words) and int(words[1]):
            limits.append(max(1, math.ceil(int(words[0]) / int(words[1]))))
    return limits


def _shm() -> int:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return _UNKNOWN_SHM  # macOS keeps it elsewhere and does not bound it
    return found.f_bavail * found.f_frsize


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
