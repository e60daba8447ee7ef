from pathlib import Path

import pytest

from embstore.server import machine
from embstore.server.settings import GB, MB, settings, text


@pytest.mark.parametrize(
    ("memory", "cores", "shm", "expected"),
    [
        (
            512 * MB,
            1,
            64 * MB,
            {
                "shared_buffers": "128MB",
                "maintenance_work_mem": "64MB",
                "max_parallel_maintenance_workers": "0",
                "dynamic_shared_memory_type": "sysv",
            },
        ),
        (
            24 * GB,
            2,
            24 * GB,
            {
                "shared_buffers": "6144MB",
                "maintenance_work_mem": "3072MB",
                "max_parallel_maintenance_workers": "1",
                "dynamic_shared_memory_type": "posix",
            },
        ),
        (
            512 * GB,
            64,
            256 * GB,
            {
                "shared_buffers": "8192MB",
                "maintenance_work_mem": "8192MB",
                "max_parallel_maintenance_workers": "8",
                "max_parallel_workers": "64",
            },
        ),
    ],
)
def test_settings_follow_the_machine(
    memory: int, cores: int, shm: int, expected: dict[str, str]
) -> None:
    found = settings(memory, cores, shm)
    assert found.items() >= expected.items()
    assert found["wal_level"] == "minimal"


def test_a_containers_limits_count(tmp_path: Path) -> None:
    """Versions 1 and 2 of control groups, nested ones too."""
    (tmp_path / "cgroup").write_text("0::/outer/inner\n4:memory:/one\n")
    root = tmp_path / "sys"
    for name, value in {
        "outer/memory.max": "1000",
        "outer/inner/memory.max": "max",
        "outer/cpu.max": "150000 100000",
        "memory/one/memory.limit_in_bytes": "2000",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(value + "\n")
    groups = machine.control_groups(tmp_path / "cgroup", root)
    assert sorted(machine.memory_limits(groups)) == [1000, 2000]
    assert machine.core_limits(groups) == [2]


def test_values_are_quoted() -> None:
    assert "a = 'it''s'" in text({"a": "it's"})
