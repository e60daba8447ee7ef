import pytest

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


def test_values_are_quoted() -> None:
    assert "a = 'it''s'" in text({"a": "it's"})
