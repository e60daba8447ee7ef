"""From the machine's memory and cores to PostgreSQL's settings."""

from __future__ import annotations

import os
from pathlib import Path

MB = 1 << 20
GB = 1 << 30


def settings(memory: int, cores: int, shm: int) -> dict[str, str]:
    """Return the settings for a server that has this machine for itself and its clients.

    Parameters
    ----------
    memory : int
        Bytes that this machine (or container) has.
    cores : int
    shm : int
        Bytes free in /dev/shm; Docker gives 64 MB.
    """
    building = _between(64 * MB, memory // 8, 8 * GB)
    workers = max(1, cores)
    return {
        # Vectors are read at random all over the table: cache them.
        "shared_buffers": _mb(_between(128 * MB, memory // 4, 8 * GB)),
        "effective_cache_size": _mb(max(256 * MB, memory // 2)),
        # An HNSW build that does not fit in this is several times slower.
        "maintenance_work_mem": _mb(building),
        "work_mem": _mb(_between(4 * MB, memory // 256, 64 * MB)),
        "max_worker_processes": str(workers + 8),
        "max_parallel_workers": str(workers),
        "max_parallel_maintenance_workers": str(max(0, min(workers - 1, 8))),
        "max_parallel_workers_per_gather": str(min(2, workers - 1)),
        # A parallel build reserves all of maintenance_work_mem in shared memory at once.
        "dynamic_shared_memory_type": "posix" if shm > building + 64 * MB else "sysv",
        # Rows copied into a table made in the same transaction then skip the WAL: the table's
        # files are synced before the commit instead.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "archive_mode": "off",
        "max_wal_size": _mb(_between(1 * GB, memory // 4, 8 * GB)),
        "checkpoint_timeout": "15min",
        # Compiling a plan over the versions of a table costs more than running it.
        "jit": "off",
        "random_page_cost": "1.1",
        # What makes a plain SELECT ... ORDER BY embedding <=> ... LIMIT full and good in psql too.
        "hnsw.ef_search": "100",
        "hnsw.iterative_scan": "strict_order",
        "ivfflat.iterative_scan": "relaxed_order",
        # The role is called like a schema of the store: "$user" would put a user's own tables
        # there.
        "search_path": "public",
        "password_encryption": "scram-sha-256",
        "unix_socket_permissions": "0700",
        "log_timezone": "UTC",
        "timezone": "UTC",
        # Values of a failed statement stay out of the log.
        "log_parameter_max_length_on_error": "0",
        "log_min_error_statement": "panic",
    }


def machine() -> tuple[int, int, int]:
    """Return this machine's memory, cores and room in /dev/shm, within its container's limits."""
    import psutil

    memory = int(psutil.virtual_memory().total)
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / limit
        if path.exists() and (text := path.read_text().strip()).isdigit():
            memory = min(memory, int(text))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shm = os.statvfs("/dev/shm") if Path("/dev/shm").exists() else None
    return memory, cores or 1, shm.f_bavail * shm.f_frsize if shm else 1 << 62


def text(values: dict[str, str]) -> str:
    """Return the settings as a configuration file."""
    lines = [f"{name} = '{value.replace(chr(39), 2 * chr(39))}'" for name, value in values.items()]
    head = "# Written by embstore at every start. Your own settings: local.conf in the home folder."
    return "\n".join([head, *lines, ""])


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))


def _mb(count: int) -> str:
    return f"{count // MB}MB"
