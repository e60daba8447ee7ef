from dataclasses import replace

import embstore
from examples.data import generated
from examples.item2vec.__main__ import run, sequels


def test_similar_books_are_of_a_series_and_answers_are_those_of_gensim(
    store: embstore.Store,
) -> None:
    report = run(store, generated(300, 1000), seed=1)
    popular, common, near, analogy = report.rows
    assert near["same series@10"] > 0.85 > popular["same series@10"] + 0.5
    assert near["same series@10"] > common["same series@10"] - 0.05 > 0.7
    assert analogy["sequel@10"] > 0.6
    share = float(report.notes[-1].partition("%")[0])
    assert share > 99  # the rest would be distances that differ in the last digit
    version = store["item2vec_books"]
    one = version.similar([5], k=1, where={"title": "book 7"})
    assert one.ids.tolist() == [[7]]


def test_a_sequel_is_the_second_by_its_number() -> None:
    data = generated(7, 10)
    titles = ["B (S, #2)", "A (S, #1)", "C (S, #3)", "A (T, #1)", "C (T, #3)", "alone", "B (U, #2)"]
    series = ["S", "S", "S", "T", "T", None, "U"]
    books = data.books
    for name, column in (("title", titles), ("series", series)):
        books = books.set_column(books.schema.get_field_index(name), name, [column])
    assert [each.tolist() for each in sequels(replace(data, books=books))] == [[1], [0]]
