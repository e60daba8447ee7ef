"""A short run; ``python -m tests.kills`` is the long one."""

import random
import shutil
from typing import Any

import psycopg
import pytest

import embstore
from embstore import Store
from embstore.connection import working
from tests.fix_store import reachable_folder

from . import kills
from .worker import WORKS


def test_clients_die_before_or_after(store: Store) -> None:
    kills.fill(store)
    rng = random.Random(1)
    for work in WORKS:
        if work != "apart":
            kills.kill_clients(store.url, work, 1, rng)


def test_servers_die_before_or_after() -> None:
    folder = reachable_folder()
    try:
        with kills.own_server(folder / "home") as url:
            with embstore.connect(url) as store:
                kills.fill(store)
            for work in ("release", "append"):
                kills.kill_servers(folder / "home", work, 1, random.Random(1))
    finally:
        shutil.rmtree(folder)


def test_a_server_that_dies_at_once(store: Store) -> None:
    """Before the first statement of a load, an append or an index."""

    def connect() -> psycopg.Connection[Any]:
        connection = psycopg.connect(store.url, autocommit=True)
        with store.connection() as lent:
            pid = connection.info.backend_pid
            lent.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        return connection

    lost = pytest.raises(embstore.ConnectionFailed, match="loading x: the connection was lost")
    with lost, working(connect, "loading x"):
        raise AssertionError


def test_it_would_be_seen(store: Store) -> None:
    """The control: a release that is no single step is caught between."""
    kills.fill(store)
    with pytest.raises(AssertionError, match="between"):
        kills.kill_clients(store.url, "apart", 30, random.Random(1))
