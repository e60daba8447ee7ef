"""What a version remembers without being told."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embstore import Store
from embstore.load.options import Options
from embstore.load.provenance import command, provenance
from embstore.readers import Wanted, open_source
from tests.fix_data import clusters
from tests.fix_store import Command


def test_files_are_remembered(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "tests"])
    table = store.create_table("items")
    paths = [tmp_path / f"part{i}.npz" for i in range(2)]
    for i, path in enumerate(paths):
        np.savez(path, ids=np.arange(10) + 10 * i, vectors=clusters(10, 4, i))
    one = table.load(paths[0], note="the first").source
    assert one["file"] == "part0.npz"
    assert one["bytes"] == paths[0].stat().st_size
    assert one["sha256"] == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert (one["note"], one["format"]) == ("the first", "npz")
    assert one["user"] and one["host"] and "pytest" in one["command"]
    both = table.load(paths).source
    assert [each["name"] for each in both["parts"]] == list(map(str, paths))
    assert [each["sha256"] for each in both["parts"]] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    ]
    with store.connection() as connection:
        found = connection.execute(
            "SELECT source ->> 'sha256', (source ->> 'rows_per_second')::int"
            " FROM embstore.versions WHERE source ->> 'note' = 'the first'"
        ).fetchall()
    assert found == [(one["sha256"], one["rows_per_second"])]


def test_git_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit() -> object:
        with open_source(np.ones((1, 1)), Wanted(ids=[1])) as opened:
            return provenance([opened], Options()).get("git_commit")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() is None
    git("init", "-q")
    (tmp_path / "train.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    assert commit() == git("rev-parse", "HEAD")
    (tmp_path / "train.py").write_text("2")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", "")
    assert commit() is None


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["load", "a b.npy"], "load 'a b.npy'"),
        (["--url", "postgresql://me:pw@h/d"], "--url postgresql://me:***@h/d"),
        (["--url=postgresql://me:p w@x@h/d"], "--url=postgresql://me:***@h/d"),
        (["host=h password='p w' user=me"], "'host=h password=*** user=me'"),
        (["--db-password", "pw", "x"], "--db-password *** x"),
        (["--api-key=pw"], "'--api-key=***'"),
        (["https://h/?token=pw&a=1"], "'https://h/?***'"),
        (["https://h/a.npy?X-Amz-Signature=pw"], "'https://h/a.npy?***'"),
        (["s3://key:p/w@bucket/a.npy"], "s3://key:***@bucket/a.npy"),
        (["--from", "postgresql://me:pw@h/d"], "--from postgresql://me:***@h/d"),
    ],
)
def test_no_secret_in_the_command(arguments: list[str], shown: str) -> None:
    assert "pw" not in command(arguments) and "p w" not in command(arguments)
    assert command(arguments) == shown


def test_command_line_is_remembered(cli: Command, tmp_path: Path, store: Store) -> None:
    np.savez(tmp_path / "m.npz", ids=np.arange(10), vectors=clusters(10, 4))
    done = cli("load", "items", tmp_path / "m.npz", "--note", "nightly", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(cli("show", "items@1", "--json").stdout)["source"]
    assert shown["note"] == "nightly"
    assert shown["command"].endswith(f"load items {tmp_path / 'm.npz'} --note nightly --json")
