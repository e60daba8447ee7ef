"""The real vectors beside the project: all files load, and their known neighbours come out."""

from pathlib import Path

import numpy as np
import pytest

from embstore import Store


def test_all_vector_files_load(store: Store, goodbooks: Path) -> None:
    vectors = goodbooks / "vectors"
    items = store.create_table("items", id_type="bigint")
    binary = items.load(
        vectors / "item2vec_64d.bin", promote=True, attributes=goodbooks / "books.parquet"
    )
    text = items.load(vectors / "item2vec_64d.vec.gz", index="none")
    # The text form rounds; what it says must be nearly the same vectors.
    ids = list(range(1, 10_001))
    assert binary.rows == text.rows == 10_000
    np.testing.assert_allclose(
        binary.lookup(ids).vectors, text.lookup(ids).vectors, rtol=1e-4, atol=1e-5
    )
    svd = items.load(vectors / "svd_items_64d.npy", ids=vectors / "svd_item_ids.npy")
    assert svd.rows == 10_000
    for file, table_name, name in (
        ("bpr_64d.npz", "bpr_items", "item_factors"),
        ("bpr_64d.npz", "bpr_users", "user_factors"),
        ("fm_64d.npz", "fm_items", "item_factors"),
        ("fm_64d.npz", "fm_users", "user_factors"),
    ):
        version = store.create_table(table_name, metric="ip").load(vectors / file, vectors=name)
        assert version.rows == (10_000 if name == "item_factors" else 1000)
    users = store.create_table("users", metric="ip")
    assert users.load(vectors / "svd_users_64d.npy", ids=vectors / "svd_user_ids.npy").rows == 1000


@pytest.mark.parametrize(
    ("book", "neighbours"),
    [
        (2, [25, 23, 24, 18, 21]),
        (7, [19, 189, 54, 71, 125]),
        (1, [17, 20, 16, 34, 9]),
        (19, [7, 155, 161, 189, 54]),
    ],
)
def test_listed_neighbours(store: Store, goodbooks: Path, book: int, neighbours: list[int]) -> None:
    table = store.create_table("items", id_type="bigint")
    table.load(goodbooks / "vectors" / "item2vec_64d.bin", promote=True, index="none")
    assert table.similar([book], 5, exact=True).ids[0].tolist() == neighbours


def test_series_share(store: Store, goodbooks: Path) -> None:
    """Of books in a series, 0.901 have another of it among their ten nearest (its README)."""
    import re

    import pyarrow.parquet as pq

    books = pq.read_table(goodbooks / "books.parquet", columns=["book_id", "title"]).to_pydict()
    series: dict[int, str] = {}
    for key, title in zip(books["book_id"], books["title"], strict=True):
        if match := re.search(r"\(([^()]+?),? #[\d.]+", title):
            series[key] = match[1]
    counts: dict[str, int] = {}
    for name in series.values():
        counts[name] = counts.get(name, 0) + 1
    asked = [key for key, name in series.items() if counts[name] > 1]
    table = store.create_table("items", id_type="bigint")
    table.load(goodbooks / "vectors" / "item2vec_64d.bin", promote=True)
    found = table.similar(asked, 10).ids
    hits = [
        any(series.get(each) == series[key] for each in row)
        for key, row in zip(asked, found.tolist(), strict=True)
    ]
    assert np.mean(hits) == pytest.approx(0.90, abs=0.03)
