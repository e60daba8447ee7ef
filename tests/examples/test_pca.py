"""All models find more of what readers took to than popularity does, and PCA is as good as SVD."""

import numpy as np

from embstore import Store
from examples.data import generated, held_out, matrix
from examples.pca.__main__ import run


def test_recall(store: Store) -> None:
    data = generated(300, 300)
    rows = run(store, data, 0).rows
    popular, pca, svd, fm, item2vec, towers = (row["hit rate@10"] for row in rows)
    assert min(pca, svd, fm, towers) > popular + 0.12 and item2vec > popular
    assert abs(pca - svd) < 0.05
    assert [row["dims"] for row in rows[1:]] == [33, 32, 32, 32, 32]  # the means of PCA
    best = max((pca, svd, fm, item2vec, towers))
    assert rows[store["pca_books"].number]["hit rate@10"] == best

    # PCA's own picture of who has read what is the inner products: readers differ from the mean.
    assert store["pca_books"].metric == "ip"
    users, items = data.liked()
    test = held_out(users)
    read = matrix(users[~test], items[~test], data.shape)
    books, readers = (store[f"pca_{name}@1"].to_numpy()[1] for name in ("books", "readers"))
    found = readers @ books.T
    np.testing.assert_allclose(found.mean(axis=0), np.ravel(read.mean(axis=0)), atol=1e-4)
    assert np.corrcoef(found.ravel(), read.toarray().ravel())[0, 1] > 0.7
