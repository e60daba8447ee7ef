"""Anybody's ratings, as the examples read them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embstore
from embstore import BadInput, Store
from examples.files import read
from examples.pca.__main__ import run
from examples.report import main

RATINGS = """\
userId,movieId,rating,timestamp
7,m3,4.0,1
7,m1,2.5,2
9,m3,10,3
7,m3,8,4
9,m2,7.5,5
"""
ITEMS = """\
movieId,title,genres,year,author
m2,Second,Drama|War,1987,A
m1,,,,
m9,Nobody rated it,Drama,2000,B
"""


def written(folder: Path, **files: str) -> list[Path]:
    paths = [folder / f"{name}.csv" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text)
    return paths


def test_a_file_of_ratings_and_one_of_items(tmp_path: Path) -> None:
    data = read(*written(tmp_path, ratings=RATINGS, items=ITEMS))
    assert data.name == "ratings.csv" and data.shape == (2, 3)
    # Readers 7 and 9 are 0 and 1, items m1 to m3 are 0 to 2; of m3, rated twice, the last counts.
    assert data.users.tolist() == [0, 0, 1, 1]
    assert data.items.tolist() == [0, 2, 1, 2]
    assert data.ratings.tolist() == [1.25, 4, 3.75, 5]  # the best is 10, which is 5 of 5
    assert [each.tolist() for each in data.liked()] == [[0, 1], [2, 2]]
    rows = data.books.to_pylist()
    assert [each["title"] for each in rows] == ["m1", "Second", "m3"]
    assert [each["tags"] for each in rows] == [[], ["Drama", "War"], []]
    assert [each["genre"] for each in rows] == [None, "Drama", None]
    assert [each["decade"] for each in rows] == [None, "1980s", None]
    assert data.books["popularity"].to_pylist() == [1, 1, 2]
    assert [each for each in data.books.schema.names if data.knows(each)] == [
        *("id", "title", "author", "year", "decade", "genre", "popularity", "tags")
    ]
    assert data.knows("rating")


def test_goodbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: dict[str, dict[str, Any]] = {
        "books": {
            "book_id": [2, 1, 3],
            "title": ["Second (Some, Series, #1.5)", "First", "Third (Other #2)"],
            "authors": ["B, C", "A", "A"],
            "year": [1999, None, 2001],
            "language": ["eng", None, "ger"],
            "ratings_count": [20, 10, 30],
        },
        "ratings": {"user_id": [1, 2, 2], "book_id": [2, 1, 3], "rating": [5, 2, 4]},
        "to_read": {"user_id": [1, 3], "book_id": [3, 2]},
        # Tags of fewer than twenty books say nothing.
        "book_tags": {"book_id": [2, 2], "tag": ["rare", "drama"]},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    data = read(tmp_path)
    assert data.name == "goodbooks-10k" and data.shape == (3, 3)
    assert data.column("title")[:2] == ["First", "Second (Some, Series, #1.5)"]
    assert data.column("author") == ["A", "B", "A"]
    assert data.column("series") == ["", "Some, Series", "Other"]
    assert data.column("decade") == ["", "1990s", "2000s"]
    assert data.column("popularity") == [10, 20, 30]
    assert data.column("tags") == [[], [], []]
    assert [each.tolist() for each in data.liked()] == [[0, 0, 1, 2], [1, 2, 2, 1]]
    monkeypatch.setattr("examples.files.QUICK", 1)  # of three readers
    assert read(tmp_path, quick=True).ratings.tolist() == [5]


def test_pairs_without_ratings_all_count(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"item_id": [5, 4, 5], "user_id": ["b", "a", "a"]}), path)
    data = read(path)
    assert [each.tolist() for each in data.liked()] == [[0, 0, 1], [0, 1, 1]]
    assert not data.knows("rating") and not data.knows("tags")


@pytest.mark.parametrize(
    ("ratings", "items", "says"),
    [
        ("user_id\n1\n", "id\n1\n", "ratings.csv has one column: it needs user_id and item_id"),
        ("user_id,item_id,rating\n1,2,good\n", "id\n1\n", "ratings.csv, column rating: .*'good'"),
        ("user_id,item_id,rating\n", "id\n1\n", "ratings.csv holds no rows"),
        ("user_id,item_id,rating\n1,2,\n", "id\n1\n", "rating: every row needs a number"),
        ("user_id,item_id\n1,2\n1,\n", "id\n1\n", "ratings.csv, column item_id: row 2 has no"),
        ("user_id,item_id\n1,2\n", "id,year\na,1\n", "items.csv has ids of string, .* of int64"),
        ("user_id,item_id\n1,2\n", "id,year\n2,MCM\n", "items.csv, column year: .*'MCM'"),
        ("user_id,item_id\n1,2\n", "id,year\n3,1900\n", "items.csv tells nothing of any item of"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, ratings: str, items: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read(*written(tmp_path, ratings=ratings, items=items))


def test_an_example_runs_on_them(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    taste = rng.integers(0, 2, 60)
    lines = ["user_id,item_id"]
    for user in range(80):
        liked = rng.choice(np.flatnonzero(taste == user % 2), 12, replace=False)
        lines += [f"u{user},i{item}" for item in liked]
    popular, *models = run(store, read(*written(tmp_path, pairs="\n".join(lines))), 0).rows
    assert all(row["hit rate@10"] > popular["hit rate@10"] for row in models)


def test_an_example_says_what_it_misses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(embstore, "connect", never)
    (path,) = written(tmp_path, ratings="user_id,item_id,rating\n1,2,5\n1,3,5\n")
    for given, says in (
        ([str(path)], "ratings.csv does not tell rating and series, which this example is about"),
        ([f"{path}.gone"], "there is no such file"),
    ):
        monkeypatch.setattr("sys.argv", ["examples/some/__main__.py", *given])
        with pytest.raises(SystemExit):
            main("About it.", never, needs=("rating", "title", "series"))  # type: ignore[arg-type]
        assert "python -m examples.some: error: " in (said := capsys.readouterr().err)
        assert says in said
