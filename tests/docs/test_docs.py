"""What the documents say runs."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import fix_process
from tests.fix_data import clusters
from tests.fix_store import Server

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page, with their language."""
    return blocks_in(page.read_text(encoding="utf-8"), *languages)


def blocks_in(page: str, *languages: str) -> list[tuple[str, str]]:
    found = re.findall(r"^```(\w+)\n(.*?)^```", page, re.M | re.S)
    return [(language, text) for language, text in found if language in languages]


def run_page(page: Path, folder: Path, url: str) -> None:
    """Run its Python blocks as one script each, and its console commands, in order."""
    environment = os.environ | {
        "EMBSTORE_URL": url,
        "PYTHONWARNINGS": "error",
        "XDG_CACHE_HOME": str(folder if os.access(folder, os.W_OK) else folder.parent),
    }
    script = ""
    for language, text in blocks(page, "python", "console"):
        if language == "python":
            script += text
            continue
        for line in re.findall(r"^\$ (.*)", text, re.M):
            program, *arguments = shlex.split(line)
            assert program == "embstore", line
            done = fix_process.run(arguments, cwd=folder, env=environment)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    done = fix_process.run([], script=script, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr


def test_cli_page_is_current() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "generate.py"))["page"]()
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == generated, "run make docs"


# Those whose snippets need nothing but a store.
RUN = ["coldstart", "compare", "evaluate", "export", "history", "indexes", "python", "recall", "releases"]


@pytest.mark.parametrize("page", [f"{name}.md" for name in RUN])
def test_page_runs(pg: Server, database: str, tmp_path: Path, page: str) -> None:
    run_page(ROOT / "docs" / page, tmp_path, pg.url(database))


def test_replica_page_runs(pg: Server, database: str, tmp_path: Path) -> None:
    run_page(ROOT / "docs" / "replica.md", tmp_path, pg.url(database))


def test_readme_runs(pg: Server, database: str, tmp_path: Path) -> None:
    base = clusters(500, 8)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(base.ravel()), 8)
    titles = [f"book {i}" for i in range(500)]
    table = pa.table({"id": range(500), "title": titles, "embedding": flat})
    pq.write_table(table, tmp_path / "vectors.parquet")
    np.save(tmp_path / "queries.npy", base[:3])
    run_page(ROOT / "README.md", tmp_path, pg.url(database))


def test_goodbooks_page_runs(pg: Server, database: str, goodbooks: Path) -> None:
    run_page(ROOT / "examples" / "goodbooks.md", goodbooks, pg.url(database))


def test_sql_page_runs(pg: Server, database: str) -> None:
    import psycopg

    import embstore

    with embstore.connect(pg.url(database)) as store:
        flat = pa.FixedSizeListArray.from_arrays(pa.array(clusters(20, 3).ravel()), 3)
        source = pa.table({"id": range(20), "title": ["x"] * 20, "embedding": flat})
        for _ in range(8):
            known = [table.name for table in store.tables()]
            table = store.table("items") if known else store.create_table("items")
            table.load(source, promote=True)
        leaves = np.random.default_rng(0).integers(0, 2, (20, 3))
        bits = np.eye(2)[leaves].reshape(20, 6)
        store.create_table("ad_leaves", metric="jaccard").load(bits, ids=range(20), promote=True)
    with psycopg.connect(pg.url(database), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (user_id int, item_id bigint, at timestamptz)")
        connection.execute("CREATE ROLE analyst")
        try:
            for _, text in blocks(ROOT / "docs" / "sql.md", "sql"):
                for statement in text.split(";\n"):
                    if statement.strip():
                        connection.execute(statement.strip().removesuffix(";"))
        finally:
            connection.execute("DROP ROLE analyst")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_functions_are_documented() -> None:
    text = (ROOT / "docs" / "sql.md").read_text()
    for folder in (ROOT / "migrations" / "sql" / "functions").iterdir():
        # What nearest and similar, and rollback, are made of.
        if folder.name not in {"search", "last_promote"}:
            assert f"embstore.{folder.name}(" in text, folder.name
