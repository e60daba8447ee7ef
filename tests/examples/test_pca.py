"""All models find more of what readers took to than popularity does, and PCA is as good as SVD."""

from embstore import Store
from examples.data import generated
from examples.pca.__main__ import run


def test_recall(store: Store) -> None:
    rows = run(store, generated(300, 300), 0).rows
    popular, *models = (row["hit rate@10"] for row in rows)
    assert len(models) == 5 and min(models) > popular + 0.1
    assert abs(models[0] - models[1]) < 0.05
    assert [row["dims"] for row in rows[1:]] == [33, 32, 32, 32, 32]  # the means of PCA
