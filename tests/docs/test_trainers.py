"""Every snippet of docs/trainers.md runs as it stands, each in a store and a folder of its own."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from tests.docs.test_docs import ROOT, blocks_in
from tests.fix_store import Command, Server

PAGE = (ROOT / "docs" / "trainers.md").read_text(encoding="utf-8")
SNIPPETS = [
    pytest.param(section, id=re.sub(r"\W+", "-", section.split("\n")[0].lower()).strip("-"))
    for section in re.split(r"^(?=##)", PAGE, flags=re.M)
    if section.startswith("### ")
]


@pytest.mark.filterwarnings("ignore")  # the trainers' own
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippet(
    snippet: str,
    pg: Server,
    database: str,
    cli: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBSTORE_URL", pg.url(database))
    found = blocks_in(snippet, "python", "console")
    assert found
    for number, (language, text) in enumerate(found):
        if language == "python":
            script = tmp_path / f"snippet_{number}.py"
            script.write_text(text, encoding="utf-8")
            runpy.run_path(str(script))
            continue
        for line in re.findall(r"^\$ (.*)", text, re.M):
            program, *arguments = shlex.split(line)
            assert program == "embstore", line
            done = cli(*arguments)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
