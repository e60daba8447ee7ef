"""The gallery shows every example, as the examples' own pages tell it."""

from pathlib import Path

import pytest

from examples.__main__ import DOCS, HERE, NAMES
from examples.report import Report, bars, picture

GALLERY = DOCS / "gallery.md"


def test_all_are_run() -> None:
    assert set(NAMES) == {each.parent.name for each in HERE.glob("*/__main__.py")}


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_shown(name: str) -> None:
    readme = (HERE / name / "README.md").read_text(encoding="utf-8")
    title, about = readme.split("\n\n")[:2]
    assert title.startswith("# ") and not about.startswith(("#", "`", "|"))
    assert f"python -m examples.{name}" in readme
    shown = GALLERY.read_text(encoding="utf-8")
    assert f"## [{title[2:]}](../examples/{name}/README.md)\n\n{about}\n" in shown
    assert (DOCS / "images" / f"{name}.svg").exists()


def test_a_report(tmp_path: Path) -> None:
    rows = [{"way": "old", "auc": 0.5, "ids": 1234}, {"way": "new", "auc": 0.75, "ids": None}]
    report = Report(rows, "The store saved much.", ["A note."], bars(rows, "auc"))
    assert str(report) == (
        "A note.\n\n| way | auc | ids |\n| --- | --- | --- |\n| old | 0.500 | 1,234 |\n"
        "| new | 0.750 |  |\n\nThe store saved much."
    )
    assert report.draw is not None
    picture(tmp_path / "of.svg", report.draw)
    assert "auc" in (tmp_path / "of.svg").read_text()
