"""The command line through a process of its own: what it prints, and how it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fix_data import clusters
from tests.fix_store import Command, Server


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    base = clusters(300, 4)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(base.ravel()), 4)
    titles = [f"title {i}" for i in range(300)]
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"id": range(300), "title": titles, "embedding": flat}), path)
    return path


def test_the_main_job(cli: Command, vectors: Path, tmp_path: Path) -> None:
    done = cli(
        "load",
        "items",
        vectors,
        "--trainer",
        "gensim.Word2Vec",
        "--param",
        "vector_size=4",
        "--param",
        "name=x",
        "--metric-value",
        "auc=0.5",
        "--promote",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("items@1: 300 x 4 float32 loaded at ")
    assert done.stderr == ""
    shown = json.loads(cli("show", "items", "--json").stdout)
    assert shown["params"] == {"vector_size": 4, "name": "x"}
    assert shown["metrics"] == {"auc": 0.5}
    assert shown["aliases"] == ["live"]
    assert [move["version"] for move in shown["history"]] == [1]

    found = json.loads(
        cli("nearest", "items", "--id", 7, "-k", 3, "--show", "title", "--json").stdout
    )
    assert len(found) == 3
    assert found[0]["title"] == f"title {found[0]['id']}"
    table = cli("nearest", "items@1", "--id", 7, "-k", 3, "--show", "title").stdout
    assert all(f"title {each['id']}" in table for each in found)
    looked = json.loads(cli("lookup", "items", 7, 9, 7, "--json").stdout)
    assert [each["id"] for each in looked] == [7, 9, 7]
    by_vector = json.loads(
        cli(
            "nearest", "items", "--vector", json.dumps(looked[0]["vector"]), "-k", 4, "--json"
        ).stdout
    )
    assert by_vector[0]["id"] == 7
    assert [each["id"] for each in by_vector[1:]] == [each["id"] for each in found]
    np.save(tmp_path / "q.npy", clusters(2, 4))
    several = json.loads(
        cli("nearest", "items", "--file", tmp_path / "q.npy", "-k", 2, "--json").stdout
    )
    assert [each["query"] for each in several] == [1, 1, 2, 2]

    assert cli("load", "items", vectors, "--index", "none", "--json").returncode == 0
    moved = cli("promote", "items@2", "-m", "try")
    assert moved.stdout == "items@live is version 2 (was version 1)\n"
    assert cli("rollback", "items").stdout == "items@live is version 1 (was version 2)\n"
    assert [row["version"] for row in json.loads(cli("versions", "items", "--json").stdout)] == [
        1,
        2,
    ]
    (only,) = json.loads(cli("tables", "--json").stdout)
    assert (only["table"], only["live"], only["rows"]) == ("items", 1, 300)
    status = json.loads(cli("status", "--json").stdout)
    assert status["pgvector"].startswith("0.8")
    psql = cli("psql", "-Atc", "SELECT count(*) FROM emb.items")
    assert psql.stdout == "300\n"
    assert cli("psql", "-c", "SELECT nonsense").returncode == 1
    assert cli("drop", "items@2", "--yes").stdout == "dropped items@2\n"
    assert cli("drop", "items", "--yes").returncode == 0
    assert cli("tables").stdout.startswith("no tables yet")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nearest", "items", "--id", "1"], 1, "no table 'items'"),
        (["nearest", "items"], 2, "give one of --id, --vector and --file"),
        (["nearest", "items", "--id", "1", "-k", "x"], 2, "not a valid integer"),
        (["nearest", "items", "--vector", "{"], 2, "no JSON array"),
        (["load", "items", "nothing.parquet"], 1, "nothing.parquet: there is no such file"),
        (["load", "items"], 2, "give FILE"),
        (["load", "items", "x", "--param", "a"], 2, "not NAME=VALUE"),
        (["load", "Items", "x"], 1, "'Items' is no table name"),
        (["load", "items", "/dev/null"], 1, "no regular file"),
        (["promote", "items@1"], 1, "no table 'items'"),
        (["promote"], 2, "Missing argument"),
        (["rollback", "items; DROP TABLE x"], 1, "is no table name"),
        (["show", "items@7"], 1, "no table 'items'"),
        (["versions", "nothing"], 1, "no table 'nothing'"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_failures_are_one_line(cli: Command, arguments: list[str], status: int, says: str) -> None:
    done = cli(*arguments)
    assert done.returncode == status
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if status == 1:
        assert len(done.stderr.splitlines()) == 1


def test_ids_that_are_no_integers(cli: Command, vectors: Path) -> None:
    cli("load", "items", vectors, "--promote")
    done = cli("lookup", "items", "seven")
    assert (done.returncode, "'seven' is no id" in done.stderr) == (2, True)
    done = cli("lookup", "items", "999")
    assert (done.returncode, done.stderr) == (1, "embstore: items has no id 999\n")
    assert json.loads(cli("lookup", "items", "999", "--missing", "skip", "--json").stdout) == []


def test_control_characters_are_shown_escaped(cli: Command, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = ["a\x1b[31m", "b\nc", "\u202egnp", "é"]
    pq.write_table(pa.table({"id": ids, "v": [[1.0, i] for i in range(4)]}), tmp_path / "v.parquet")
    cli("load", "items", tmp_path / "v.parquet", "--promote")
    shown = cli("nearest", "items", "--vector", "[1, 0]").stdout
    assert "\x1b" not in shown and "\u202e" not in shown
    assert "é" in shown
    assert {
        row["id"]
        for row in json.loads(cli("nearest", "items", "--vector", "[1,0]", "--json").stdout)
    } == set(ids)


def test_a_closed_pipe_is_no_error(pg: Server, database: str, cli: Command, vectors: Path) -> None:
    cli("load", "items", vectors, "--promote")
    done = subprocess.run(
        f"{sys.executable} -m embstore nearest items --id 1 -k 299 --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"EMBSTORE_URL": pg.url(database)},
    )
    assert done.stdout == "[\n"
    assert done.stderr == ""


def test_interrupt_leaves_nothing(pg: Server, database: str, cli: Command, tmp_path: Path) -> None:
    import signal
    import time

    np.save(tmp_path / "v.npy", clusters(60_000, 64))
    np.save(tmp_path / "ids.npy", np.arange(60_000))
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "embstore",
            "load",
            "items",
            tmp_path / "v.npy",
            "--ids",
            tmp_path / "ids.npy",
        ],
        env=os.environ | {"EMBSTORE_URL": pg.url(database)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(400):
            rows = json.loads(cli("versions", "items", "--json").stdout or "[]")
            if rows:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == "embstore: interrupted"
    assert json.loads(cli("versions", "items", "--json").stdout) == []


def test_help_is_there_for_everything() -> None:
    import click
    from embstore.cli import group

    for name, command in group.commands.items():
        assert command.help, name
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert getattr(parameter, "help", None), (name, parameter.name)
        assert "Usage:" in command.get_help(click.Context(command, info_name=name))
