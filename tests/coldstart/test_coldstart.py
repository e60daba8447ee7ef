"""Each way of a cold start against the same computed by numpy, and what becomes of the vectors."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import TruncatedSVD

from embstore import BadInput, DimensionMismatch, DuplicateId, InvalidQuery, SpaceMismatch, Store
from embstore.coldstart import fold_in, mean_of_neighbours, side_information, transform
from tests.fix_data import clusters
from tests.fix_store import Command

N, DIM = 600, 8
RNG = np.random.default_rng(0)
VECTORS = clusters(N, DIM)
home_type = RNG.choice(["room", "flat", "house"], N)
home_bucket = RNG.integers(0, 4, N)
home_price = np.round(RNG.uniform(10, 100, N), 2)


def rows(ids: Any, vectors: Any, **columns: Any) -> pa.Table:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(vectors).ravel()), DIM)
    return pa.table({"id": ids, **columns, "embedding": flat})


@pytest.fixture(scope="module")
def homes(shared_store: Store) -> Any:
    table = shared_store.create_table("homes", metric="ip")
    source = rows(
        range(N),
        VECTORS,
        type=home_type,
        bucket=home_bucket,
        price=home_price,
        bias=home_price / 100,
    )
    v = table.load(source, space="run8", promote=True)
    # A row that was not trained is nobody's neighbour.
    joined = rows([9000], np.ones((1, DIM), "f4"), type=["room"], bucket=[0], price=[50.0])
    v.append(joined)
    return v


def test_mean_of_neighbours(homes: Any) -> None:
    new = pa.table(
        {
            "id": [1000, 1001, 1002, 1003],
            "type": ["room", "flat", "castle", None],
            "bucket": [0, 1, 0, 0],
            "price": [50, 60, 50, 50],  # whole numbers, as a file may have them
        }
    )
    made = mean_of_neighbours(
        homes, new, match=["type", "bucket"], near={"price": 20.0}, k=3, minimum=2
    )
    for row, (kind, bucket, price) in enumerate([("room", 0, 50), ("flat", 1, 60)]):
        same = (home_type == kind) & (home_bucket == bucket) & (abs(home_price - price) <= 20)
        nearest = np.flatnonzero(same)[np.argsort(abs(home_price[same] - price))[:3]]
        np.testing.assert_allclose(made.vectors[row], VECTORS[nearest].mean(0), rtol=1e-5)
    assert np.isnan(made.vectors[2:]).all()
    everyone = mean_of_neighbours(homes, new, where={"type": "room", "price": {"<": 40}}, k=None)
    wanted = VECTORS[(home_type == "room") & (home_price < 40)].mean(0)
    np.testing.assert_allclose(everyone.vectors, np.tile(wanted, (4, 1)), rtol=1e-4)
    two = mean_of_neighbours(homes, new, near={"price": math.inf, "bucket": 1}, k=2)
    close = np.flatnonzero(abs(home_bucket - 0) <= 1)
    order = np.argsort((home_price[close] - 50) ** 2 + home_bucket[close] ** 2, kind="stable")[:2]
    np.testing.assert_allclose(two.vectors[0], VECTORS[close[order]].mean(0), rtol=1e-5)
    with pytest.raises(InvalidQuery, match="no attribute 'colour' to compare by: it has type"):
        mean_of_neighbours(homes, new, match=["colour"])
    with pytest.raises(InvalidQuery, match="'type' is text, and only numbers have a distance"):
        mean_of_neighbours(homes, new, near={"type": 1})
    with pytest.raises(BadInput, match="have no column 'price': they have id, type"):
        mean_of_neighbours(homes, new.drop_columns(["price"]), near={"price": 1})
    with pytest.raises(InvalidQuery, match="say what makes a neighbour"):
        mean_of_neighbours(homes, new)


def test_side_information(shared_store: Store, homes: Any) -> None:
    names = ["room", "flat", "house"]
    kinds = np.stack([VECTORS[home_type == each].mean(0) for each in names])
    shared_store.create_table("kinds", metric="ip").load(
        kinds, ids=names, space="run8", promote=True
    )
    tags = clusters(5, DIM, 3)
    shared_store.create_table("tags", metric="ip").load(tags, ids=range(5), space="run8")
    new = pa.table(
        {
            "id": [1000, 1001, 1002],
            "type": ["flat", "castle", "castle"],
            "tag": [[0, 3, 77], [4], [77]],
        }
    )
    made = side_information(
        homes, new, tables={"type": "kinds", "tag": "tags@1"}, weights={"tag": 0.5}
    )
    weight = math.exp(0.5)
    both = (kinds[1] + weight * (tags[0] + tags[3]) / 2) / (1 + weight)
    np.testing.assert_allclose(made.vectors[:2], [both, tags[4]], rtol=1e-5)
    assert np.isnan(made.vectors[2]).all()
    shared_store.create_table("others").load(tags, ids=range(5), space="run9")
    with pytest.raises(SpaceMismatch, match="homes@1 is of space run8 and others@1 of run9"):
        side_information(homes, new, tables={"tag": "others@1"})
    assert np.isfinite(
        side_information(homes, new, tables={"tag": "others@1"}, force=True).vectors[0]
    ).all()
    narrow = shared_store.create_table("narrow").load(tags[:, :3], ids=range(5))
    with pytest.raises(DimensionMismatch, match="narrow@1 has 3 dimensions and homes@1 8"):
        side_information(homes, new, tables={"tag": narrow.ref})


def test_fold_in(shared_store: Store, homes: Any) -> None:
    """Who was made of known factors is found again; implicit feedback by the paper's equation."""
    users = RNG.standard_normal((400, DIM))
    theirs = RNG.standard_normal(400)
    shared_store.create_table("users", metric="ip").load(
        rows(range(400), users, bias=theirs), space="run8", promote=True
    )
    true, bias = RNG.standard_normal((3, DIM)), np.array([0.5, -1.0, 2.0])
    seen = [RNG.choice(400, 60, replace=False) for _ in true]
    pairs = [
        (2000 + i, int(u), 3.5 + theirs[u] + bias[i] + users[u] @ true[i])
        for i, own in enumerate(seen)
        for u in own
    ]
    frame = pd.DataFrame(pairs, columns=["item", "user", "rating"])
    frame.loc[len(frame)] = (5555, 1, 3.0)  # nobody asked for
    frame.loc[len(frame)] = (2003, 12345, 3.0)  # by an unknown user
    frame["item"], frame["user"] = frame["item"].astype(int), frame["user"].astype(int)
    new = pa.table({"id": [2000, 2001, 2002, 2003]})
    made = fold_in(
        homes,
        new,
        interactions=frame.sample(frac=1, random_state=0),
        columns=["item", "user", "rating"],
        other="users",
        reg=1e-6,
        bias="bias",
        global_bias=3.5,
    )
    np.testing.assert_allclose(made.vectors[:3], true, atol=1e-4)
    np.testing.assert_allclose(made.columns["bias"][:3], bias, atol=1e-4)
    assert np.isnan(made.vectors[3]).all()
    implicit = fold_in(
        homes, new, interactions=frame[["item", "user"]], other="users", reg=2.0, alpha=40.0
    )
    confidence, liked = np.ones((4, 400)), np.zeros((4, 400))
    for i, own in enumerate(seen):
        confidence[i, own], liked[i, own] = 41, 1
    for i in range(3):
        left = users.T @ (users * confidence[i][:, None]) + 2 * np.eye(DIM)
        wanted = np.linalg.solve(left, users.T @ (confidence[i] * liked[i]))
        np.testing.assert_allclose(implicit.vectors[i], wanted, rtol=1e-3, atol=1e-5)
    with pytest.raises(InvalidQuery, match="leave bias or alpha out"):
        fold_in(homes, new, interactions=frame, other="users", alpha=1, bias="bias")


def test_transform_and_a_function_of_ones_own(homes: Any) -> None:
    data = RNG.standard_normal((100, 20))
    model = TruncatedSVD(DIM, random_state=0).fit(data)
    new = pa.table({"id": [1, 2], "a": [1.0, 2.0], "b": [3.0, None]})
    np.testing.assert_allclose(
        transform(homes, new, model=model, X=data[:2]).vectors, model.transform(data[:2])
    )
    small = TruncatedSVD(2, random_state=0).fit(data[:, :2])
    with pytest.raises(DimensionMismatch, match=r"gives \(2,\) values a row"):
        transform(homes, new, model=small, X=["a", "b"])
    with pytest.raises(BadInput, match="X has 100 rows, and there are 2"):
        transform(homes, new, model=model, X=data)


def test_they_join(store: Store, cli: Command, tmp_path: Path) -> None:
    table = store.create_table("homes")
    v = table.load(rows(range(N), VECTORS, type=home_type, price=home_price), promote=True)
    new = pa.table(
        {
            "home": [5, 1000, 1001, 1002],
            "type": ["room", "flat", "castle", "house"],
            "price": [1.0, 50.0, 50.0, 20.0],
            "remark": ["a", "b", "c", "d"],
        }
    )
    pq.write_table(new, tmp_path / "new.parquet")
    with pytest.raises(DuplicateId, match="homes@1 has id 5 already"):
        v.coldstart(new, match=["type"], ids="home")
    with pytest.raises(InvalidQuery, match=r"mean_of_neighbours: .*'matches'"):
        v.coldstart(new, matches=["type"])
    with pytest.raises(InvalidQuery, match="'guess' is no way of a cold start"):
        v.coldstart(new, "guess")
    command = ("coldstart", "homes", "--from", tmp_path / "new.parquet", "--ids", "home")
    how = ("--match", "type", "--near", "price=30", "-k", "3", "--on-bad", "skip")
    planned = cli(*command, *how, "--dry-run")
    assert planned.stdout == (
        "homes@1: 2 rows would be appended as mean_of_neighbours, 1 left out\n"
        "1 new ids have no vector: 1001\n"
    )
    assert store["homes@1"].rows == N
    done = json.loads(cli(*command, *how, "-m", "tonight", "--json").stdout)
    assert (done["rows"], done["without"], done["rejected"]) == (2, [1001], 1)
    assert cli(*command, "--method", "fold-in").returncode == 2
    assert cli(*command, "--alpha", "1").returncode == 2
    v = store["homes@1"]
    found = v.lookup([1000, 1002], show=["type", "price", "origin"])
    assert found.attributes["type"].tolist() == ["flat", "house"]
    assert found.attributes["origin"].tolist() == ["mean_of_neighbours"] * 2
    close = np.flatnonzero((home_type == "flat") & (abs(home_price - 50) <= 30))
    nearest = close[np.argsort(abs(home_price[close] - 50))[:3]]
    np.testing.assert_allclose(found.vectors[0], VECTORS[nearest].mean(0), rtol=1e-5)

    def own(rows: pa.Table, version: Any) -> Any:
        assert version.ref == "homes@1" and rows.column_names[0] == "id"
        made = np.ones((len(rows), DIM))
        made[1] = np.nan
        return made

    done = v.coldstart(pd.DataFrame({"id": [3000, 3001]}), own)
    assert (done.rows, done.without, done.origin, done.total) == (1, (3001,), "given", N + 3)
    with pytest.raises(DimensionMismatch, match=r"have the shape \(1, 2\): \(1, 8\) is needed"):
        v.coldstart(pd.DataFrame({"id": [3002]}), lambda rows, _: np.ones((1, 2)))
