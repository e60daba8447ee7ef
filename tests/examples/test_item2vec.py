import embstore
from examples.data import generated
from examples.item2vec.__main__ import run


def test_similar_books_are_of_a_series_and_answers_are_those_of_gensim(
    store: embstore.Store,
) -> None:
    report = run(store, generated(300, 1000), seed=1)
    popular, common, near, analogy = report.rows
    assert near["same series@10"] > 0.85 > popular["same series@10"] + 0.5
    assert near["same series@10"] > common["same series@10"] - 0.05
    assert analogy["sequel@10"] > 0.6
    share = float(report.notes[-1].partition("%")[0])
    assert share > 99  # the rest would be distances that differ in the last digit
