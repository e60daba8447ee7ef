"""What is known of a book says more than nothing, and so do its first readers."""

from embstore import Store
from examples.coldstart.__main__ import run
from examples.data import generated


def test_quality(store: Store) -> None:
    found = run(store, generated(600, 1000), 0).rows
    rows = {row["vectors"].split(":")[0]: row for row in found}
    series, readers = (
        {way: row[name] for way, row in rows.items()}
        for name in ("same series@10", "held-out reader@10")
    )
    for way in ("mean_of_neighbours", "side_information", "a function"):
        assert series[way] > 0.4 > 0.25 > series["random"]
        assert readers[way] > 2 * readers["random"]
    for way in ("transform of 5 interactions", "fold_in of 5 interactions"):
        assert readers[way] > 1.5 * readers["random"]
    alone, both = (row for row in found if row["vectors"].startswith("mean_of_neighbours"))
    assert both["hidden books with one"] > alone["hidden books with one"] + 0.02
