"""From the machine's memory and cores to PostgreSQL's settings."""

from __future__ import annotations

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
        "max_wal_size": _mb(_between(1 * GB, memory // 4, 4 * GB)),
        "checkpoint_timeout": "15min",
        # Said aloud: no setting here trades a committed row for speed.
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
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
        "max_connections": "100",
        "log_timezone": "UTC",
        "timezone": "UTC",
        # A failed ALTER ROLE ... PASSWORD must not reach the log: no statements, no parameters,
        # and no context, which quotes the statement inside a function.
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
    }


def text(values: dict[str, str]) -> str:
    """Return the settings as a configuration file."""
    lines = [f"{name} = '{value.replace(chr(39), 2 * chr(39))}'" for name, value in values.items()]
    head = "# Written at every start. Yours go to postgresql.local.conf in the home folder."
    return "\n".join([head, *lines, ""])


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))


def _mb(count: int) -> str:
    return f"{count // MB}MB"
