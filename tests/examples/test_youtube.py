import embstore
from examples.data import generated
from examples.youtube.__main__ import run


def test_recall_by_the_output_layer_beats_popularity_for_new_readers_too(
    store: embstore.Store,
) -> None:
    report = run(store, generated(300, 800), seed=1)
    hits = {row["recall"]: row["hit rate@10"] for row in report.rows}
    for who in ("readers", "new readers"):
        assert hits[f"{who}: exact"] > hits[f"{who}: popularity"] + 0.1
        assert hits[f"{who}: HNSW"] > hits[f"{who}: exact"] - 0.05
    books, readers = store["youtube_books"], store["youtube_readers"]
    assert (books.dim, readers.dim, books.space) == (33, 33, readers.space)
    assert (readers.lookup([0, 1]).vectors[:, -1] == 1).all()  # 0 is new, 1 is not
    assert readers.appended == 40
