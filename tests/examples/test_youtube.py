from typing import Any

import numpy as np
import pytest

import embstore
import examples.youtube.__main__ as example
from examples.data import generated, held_out


def test_recall_by_the_output_layer_beats_popularity_for_new_readers_too(
    store: embstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, trained, train = generated(300, 800), [], example.train

    def watched(read: Any, seed: int) -> Any:
        trained.append((read.shape[0], read.nnz))
        return train(read, seed)

    monkeypatch.setattr(example, "train", watched)
    report = example.run(store, data, seed=1)
    hits = {row["recall"]: row["hit rate@10"] for row in report.rows}
    for who in ("readers", "new readers"):
        assert hits[f"{who}: exact"] > hits[f"{who}: popularity"] + 0.1
        assert hits[f"{who}: HNSW"] > hits[f"{who}: exact"] - 0.05
    assert hits["new readers: popularity"] != hits["readers: popularity"]
    books, readers = store["youtube_books"], store["youtube_readers"]
    assert (books.dim, readers.dim, books.space) == (33, 33, readers.space)
    assert (readers.lookup([0, 1]).vectors[:, -1] == 1).all()  # 0 is new, 1 is not
    users, items = data.liked()
    known = ~held_out(users, seed=1)
    assert readers.appended == 40
    assert trained == [(760, (known & (users % 20 > 0)).sum())]  # nothing of who is new, no test

    # A night's books are those of the largest logits that the reader has not read.
    logits = readers.lookup([1, 2]).vectors @ books.lookup(range(300)).vectors.T
    for reader, own in zip((1, 2), logits, strict=True):
        own[items[known & (users == reader)]] = -np.inf
        with store.reading() as sql:
            found = sql.execute("SELECT item_id FROM youtube_recs WHERE user_id = %s", [reader])
            assert {book for (book,) in found.fetchall()} == set(np.argsort(-own)[:10])
