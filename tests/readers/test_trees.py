"""Leaves of trees as bits: from the models themselves, and from matrices of leaf indices."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomTreesEmbedding,
)
from sklearn.tree import DecisionTreeRegressor

from embstore import Store
from embstore.errors import BadInput, EmbstoreError
from embstore.readers import Opened, Wanted, leaf_bits, open_source

X = np.random.default_rng(0).random((400, 6)).astype(np.float32)
Y = (3 * X[:, 0] * X[:, 1] + X[:, 2]).astype(np.float64)
THIRDS = np.digitize(Y, np.quantile(Y, [0.33, 0.67]))


def opened(source: Any, **how: Any) -> tuple[Opened, list[Any], Any]:
    with open_source(source, Wanted(bits=True, **how)) as found:
        table = pa.Table.from_batches(list(found.batches), found.schema)
    vectors = np.asarray(table.column("embedding").combine_chunks().flatten())
    return found, table.column("id").to_pylist(), vectors.reshape(-1, found.dim)


def one_hot(leaves: Any, per_tree: list[list[int]]) -> Any:
    """Which bit is set, the slow way."""
    rows = [
        [float(leaf == own) for tree, leaf in enumerate(row) for own in per_tree[tree]]
        for row in np.asarray(leaves, int)
    ]
    return np.array(rows)


def lightgbm(**how: Any) -> Any:
    return pytest.importorskip("lightgbm").LGBMClassifier(
        n_estimators=4, num_leaves=6, verbose=-1, n_jobs=1, **how
    )


def xgboost(kind: str, **how: Any) -> Any:
    module = pytest.importorskip("xgboost")
    return getattr(module, kind)(**({"n_estimators": 5, "max_depth": 3, "n_jobs": 1} | how))


MODELS: dict[str, Any] = {
    "forest": lambda: RandomForestClassifier(5, max_depth=4, random_state=0).fit(X, THIRDS),
    "extra trees": lambda: ExtraTreesRegressor(5, max_depth=4, random_state=0).fit(X, Y),
    "classes": lambda: GradientBoostingClassifier(n_estimators=3).fit(X, THIRDS),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=5).fit(X, Y),
    "random trees": lambda: RandomTreesEmbedding(5, random_state=0).fit(X),
    "one tree": lambda: DecisionTreeRegressor(max_depth=3).fit(X, Y),
    "lightgbm": lambda: lightgbm().fit(X, THIRDS),
    "lightgbm booster": lambda: lightgbm().fit(X, THIRDS).booster_,
    "xgboost": lambda: xgboost("XGBClassifier").fit(X, THIRDS),
    "xgboost one tree": lambda: xgboost("XGBRegressor", n_estimators=1).fit(X, Y),
    "xgboost forest": lambda: xgboost("XGBRFRegressor").fit(X, Y),
    "xgboost pruned": lambda: xgboost("XGBRegressor", gamma=0.5, max_depth=6).fit(X, Y),
    "xgboost booster": lambda: xgboost("XGBRegressor").fit(X, Y).get_booster(),
}


def leaves_of(model: Any, data: Any) -> Any:
    """What the library itself says."""
    module = type(model).__module__.split(".")[0]
    if module == "lightgbm":
        return model.predict(data, pred_leaf=True)
    if type(model).__name__ == "Booster":
        import xgboost

        return model.predict(xgboost.DMatrix(data), pred_leaf=True)
    return np.reshape(model.apply(data), (len(data), -1))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_a_bit_per_leaf(name: str) -> None:
    model = MODELS[name]()
    found, keys, bits = opened(model, data=X, ids=range(len(X)))
    leaves = leaves_of(model, X)
    # The model was fitted on these samples, so each of its leaves has some.
    expected = one_hot(leaves, [sorted(set(column)) for column in np.asarray(leaves, int).T])
    np.testing.assert_array_equal(bits, expected)
    assert keys == list(range(400))
    assert found.rows == 400
    assert found.provenance["trees"] == leaves.shape[1]
    assert found.provenance["bits"] == found.dim == bits.shape[1]
    assert sum(found.provenance["leaves"]) == found.dim  # type: ignore[call-overload]
    assert found.trainer == f"{type(model).__module__.split('.')[0]}.{type(model).__name__}"
    assert found.params["library"]
    # Few new samples get the same bits as among many.
    np.testing.assert_array_equal(opened(model, data=X[7:9], ids=[1, 2])[2], bits[7:9])
    np.testing.assert_array_equal(leaf_bits(model, X[7:9]), bits[7:9])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["forest", "lightgbm", "xgboost"])
def test_kinds_of_samples(tmp_path: Path, name: str) -> None:
    model = MODELS[name]()
    expected = leaf_bits(model, X)
    np.testing.assert_array_equal(leaf_bits(model, sparse.csr_matrix(X)), expected)
    np.save(tmp_path / "x.npy", X)
    np.testing.assert_array_equal(leaf_bits(model, tmp_path / "x.npy"), expected)
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(6)]).assign(ad=range(400))
    fitted = type(model)(**model.get_params()).fit(frame.drop(columns="ad"), THIRDS)
    _, keys, bits = opened(fitted, data=frame, ids="ad")
    assert keys == list(range(400))
    assert bits.sum() == len(X) * leaves_of(fitted, frame.drop(columns="ad")).shape[1]


@pytest.mark.filterwarnings("ignore")
def test_provenance() -> None:
    lgb, xgb = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
    found = opened(MODELS["forest"](), data=X, ids="row-number")[0]
    assert (found.params["n_estimators"], found.params["max_depth"]) == (5, 4)
    model = lightgbm().fit(X[:300], THIRDS[:300], eval_set=[(X[300:], THIRDS[300:])])
    found = opened(model, data=X, ids="row-number")[0]
    assert found.params["num_leaves"] == 6
    assert found.params["library"] == f"lightgbm {lgb.__version__}"
    assert float(str(found.metrics["valid_0 multi_logloss"])) > 0
    found = opened(MODELS["xgboost booster"](), data=X, ids="row-number")[0]
    assert (found.params["num_boosted_rounds"], found.params["max_depth"]) == (5, "3")
    assert found.params["objective"] == "reg:squarederror"
    assert found.params["library"] == f"xgboost {xgb.__version__}"


@pytest.mark.filterwarnings("ignore")
def test_early_stopping_keeps_the_best_trees() -> None:
    booster = xgboost("XGBRegressor", n_estimators=300, early_stopping_rounds=3)
    booster.fit(X[:300], Y[:300], eval_set=[(X[300:], Y[300:])], verbose=False)
    found = opened(booster, data=X, ids="row-number")[0]
    assert found.provenance["trees"] == booster.best_iteration + 1
    assert found.provenance["trees"] < booster.get_booster().num_boosted_rounds()
    assert found.metrics["best_iteration"] == booster.best_iteration
    import lightgbm as lgb

    model = lgb.LGBMRegressor(n_estimators=300, verbose=-1, early_stopping_rounds=3)
    model.fit(X[:300], Y[:300], eval_set=[(X[300:], Y[300:])])
    found = opened(model, data=X, ids="row-number")[0]
    assert found.provenance["trees"] == model.best_iteration_ < 300


INDICES = np.array([[3, 0, 1], [1, 2, 1], [0, 2, 0], [3, 1, 1]])
EXPECTED = one_hot(INDICES, [[0, 1, 2, 3], [0, 1, 2], [0, 1]])


@pytest.mark.parametrize("kind", ["array", "npy", "parquet", "csv", "mapping"])
def test_leaf_indices(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "leaves.npy", INDICES)
    table = pa.table({"id": [5, 6, 7, 8], "year": [1, 2, 3, 4], "leaves": INDICES.tolist()})
    pq.write_table(table, tmp_path / "leaves.parquet")
    frame = pd.DataFrame(INDICES, columns=["t0", "t1", "t2"]).assign(id=[5, 6, 7, 8])
    frame.to_csv(tmp_path / "leaves.csv", index=False)
    source, ids = {
        "array": (INDICES, [5, 6, 7, 8]),
        "npy": (tmp_path / "leaves.npy", [5, 6, 7, 8]),
        "parquet": (tmp_path / "leaves.parquet", None),
        "csv": (tmp_path / "leaves.csv", None),
        "mapping": (dict(zip([5, 6, 7, 8], INDICES, strict=True)), None),
    }[kind]
    found, keys, bits = opened(source, ids=ids)
    assert keys == [5, 6, 7, 8]
    np.testing.assert_array_equal(bits, EXPECTED)
    assert found.provenance["leaves"] == [4, 3, 2]
    if kind == "parquet":
        assert found.schema.names == ["id", "embedding", "year"]


def test_many_leaf_indices() -> None:
    """Several batches, whose largest index stands in the last row."""
    indices = np.random.default_rng(0).integers(0, 40, (5000, 200))
    indices[-1] = 40
    found, keys, bits = opened(indices, ids=range(5000))
    assert (keys, found.dim) == (list(range(5000)), 200 * 41)
    assert (bits.reshape(5000, 200, 41).argmax(axis=2) == indices).all()
    assert (bits.sum(axis=1) == 200).all()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32])
def test_zeros_and_ones_are_bits(tmp_path: Path, dtype: Any) -> None:
    np.save(tmp_path / "bits.npy", EXPECTED.astype(dtype))
    for source in (EXPECTED.astype(dtype), tmp_path / "bits.npy"):
        np.testing.assert_array_equal(opened(source, ids=range(4))[2], EXPECTED)


def test_lists_of_truth_values() -> None:
    table = pa.table({"id": range(4), "bits": EXPECTED.astype(bool).tolist()})
    np.testing.assert_array_equal(opened(table)[2], EXPECTED)
    both = table.append_column("v", pa.array([[1.0, 2.0]] * 4))
    with open_source(both) as found:
        assert (found.dim, found.schema.names) == (2, ["id", "embedding", "bits"])


def test_load(store: Store, tmp_path: Path) -> None:
    model = MODELS["forest"]()
    table = store.create_table("ad_leaves", metric="jaccard")
    joblib.dump(model, tmp_path / "forest.joblib")
    version = table.load(
        tmp_path / "forest.joblib", X=X, ids=range(400), allow_pickle=True, promote=True
    )
    assert table.load(model, X=X[::-1], ids=range(400)[::-1]).checksum == version.checksum
    assert version.trainer == "sklearn.RandomForestClassifier"
    assert (version.precision, version.dim) == ("bit", version.source["bits"])
    bits = leaf_bits(model, X)
    np.testing.assert_array_equal(version.lookup([3, 99]).vectors, bits[[3, 99]])
    found = table.nearest(bits[:20], 1)
    assert found.distances.max() == 0
    same = leaves_of(model, X)
    assert (same[found.ids[:, 0]] == same[:20]).all()


@pytest.mark.parametrize(
    ("source", "how", "says"),
    [
        (RandomForestClassifier(), {"data": X}, "RandomForestClassifier.* is not fitted"),
        (MODELS["forest"](), {}, "RandomForestClassifier holds no vectors of its own.*X="),
        (MODELS["forest"](), {"data": X, "bits": False}, "metric='jaccard' or 'hamming'"),
        (MODELS["forest"](), {"data": X[:, :5]}, "RandomForestClassifier.*5 features"),
        (HistGradientBoostingRegressor(), {"data": X}, "does not tell the leaf"),
        (np.array([[2, 0], [1, -1]]), {}, r"array row 2 \(id 1\): value 2 is -1, which is no leaf"),
        (np.array([[2, 0], [1, 0.5]]), {}, r"array row 2 \(id 1\): value 2 is 0.5, which is no"),
        (np.array([[2, 0], [np.nan, 0]]), {}, r"array row 2 \(id 1\): value 1 is nan, which is"),
        (np.array([[1, 0], [np.inf, 0]]), {}, r"array row 2 \(id 1\): value 1 is infinity, and"),
        (np.array([[1, 0], [1, 0.5]]), {}, r"array row 2 \(id 1\): value 2 is 0.5, and bits are"),
        (np.array([[0, 1], [0, 0]]), {}, r"array row 2 \(id 1\): all bits are 0"),
        (np.array([[0, 400_000], [400_000, 0]]), {}, "800002 leaves in 2 trees: more than 512000"),
        (np.full((1, 20_000), 500_000), {}, "10000020000 leaves in 20000 trees"),  # 80 GB as arrays
        (
            np.vstack([np.full((200_000, 2), 5.0), [[1, 0.5]]]),
            {},
            r"array row 200001 \(id 200000\): value 2 is 0.5, which is no leaf index",
        ),
        (
            np.ones((2, 70_000), bool),
            {"index": "hnsw"},
            r"70000 bits are more than HNSW takes \(64000\)",
        ),
    ],
)
def test_bad_trees(store: Store, source: Any, how: dict[str, Any], says: str) -> None:
    metric = "jaccard" if how.get("bits", True) else "cosine"
    table = store.create_table("leaves", metric=metric)
    with pytest.raises(EmbstoreError, match=says) as raised:
        index = how.get("index", "auto")
        table.load(source, X=how.get("data"), ids="row-number", index=index)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")
def test_bad_models_of_others() -> None:
    lgb, xgb = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
    linear = xgb.XGBRegressor(booster="gblinear", n_estimators=2).fit(X, Y)
    for model, data, says in (
        (linear, X, "XGBRegressor has no trees"),
        (lgb.LGBMClassifier(), X, "LGBMClassifier.*fit"),
        (xgb.XGBClassifier(), X, "XGBClassifier.*fit"),
        (MODELS["lightgbm"](), X[:, :5], "LGBMClassifier.*number of features"),
        (MODELS["xgboost"](), X[:, :5], "XGBClassifier was fitted to 6 features.*have 5"),
        (MODELS["xgboost booster"](), X[:, :5], "Booster was fitted to 6 features"),
    ):
        with pytest.raises(BadInput, match=says):
            opened(model, data=data, ids="row-number")
    with pytest.raises(BadInput, match="list is no model of trees"):
        leaf_bits([], X)


def test_streams_are_read_once(store: Store) -> None:
    table = store.create_table("leaves", metric="hamming")
    source = pa.table({"id": [5, 6, 7, 8], "leaves": INDICES.tolist()})
    with pytest.raises(BadInput, match=r"leaf indices, whose largest.*array, a file or the model"):
        table.load(source.to_reader())
    flat = pa.table({"id": [5, 6, 7, 8], "bits": EXPECTED.tolist()})
    np.testing.assert_array_equal(table.load(flat.to_reader()).to_numpy()[1], EXPECTED)


def test_parts_have_the_same_leaves(store: Store, tmp_path: Path) -> None:
    table = store.create_table("leaves", metric="hamming")
    paths = [tmp_path / f"{name}.parquet" for name in "abc"]
    for at, (path, leaves) in enumerate(zip(paths, ([2, 1], [2, 1], [1, 2]), strict=True)):
        pq.write_table(pa.table({"id": [2 * at, 2 * at + 1], "v": [leaves, [0, 0]]}), path)
    assert table.load(paths[:2]).rows == 4
    with pytest.raises(BadInput, match=r"c.parquet has other leaves than .*a.parquet.*one array"):
        table.load(paths)


def test_bits_take_no_bias() -> None:
    with pytest.raises(BadInput, match="bits, which take no bias"):
        opened({"v": np.ones((2, 3), bool), "id": [1, 2], "bias": [0.5, 1.0]}, fold=True)


def test_wide_bits_without_index(store: Store) -> None:
    table = store.create_table("wide", metric="hamming")
    bits = np.random.default_rng(0).random((5, 70_001)) < 0.1
    version = table.load(bits, ids=range(5), index="none", promote=True)
    np.testing.assert_array_equal(version.to_numpy()[1], bits)
    assert table.nearest(bits[3], 1).ids.tolist() == [[3]]
    with store.connection() as connection, pytest.raises(psycopg.Error, match="takes 16000"):
        connection.execute("SELECT * FROM embstore.lookup('wide', '{1}')")
