import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import embstore
from embstore import InvalidQuery, NotFound, Store
from embstore.sklearn import EmbeddingFeatures
from tests.fix_data import Array, clusters
from tests.fix_store import Server

ITEMS, USERS = clusters(50, 4), clusters(20, 3, seed=1)
NAMES = [f"u{i}" for i in range(20)]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a URL has opened is shared in the process: not by the next test, whose store it is."""
    yield
    embstore.sklearn._connected.cache_clear()


@pytest.fixture
def loaded(store: Store) -> Store:
    """Items by number, users by name; each with a version that is live."""
    store.create_table("items").load(ITEMS, ids=range(50), promote=True)
    store.create_table("users").load(USERS, ids=NAMES, promote=True)
    return store


BOTH = {"user": "users", "item": "items"}
FRAME = pd.DataFrame({"item": [7, 3, 7], "price": [1.0, 2.0, 3.0], "user": ["u4", "u0", "u4"]})
WANTED = np.hstack([USERS[[4, 0, 4]], ITEMS[[7, 3, 7]]])


@pytest.mark.parametrize(
    "convert",
    [lambda x: x, pl.from_pandas, pa.Table.from_pandas],
    ids=["pandas", "polars", "arrow"],
)
def test_frames(loaded: Store, convert: Any) -> None:
    features = EmbeddingFeatures(loaded, BOTH)
    found = features.fit_transform(convert(FRAME))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, WANTED)
    assert features.versions_ == {"user": "users@1", "item": "items@1"}
    assert features.dims_ == {"user": 3, "item": 4}


@pytest.mark.parametrize(
    "values",
    [np.array([[7], [3]]), np.array([[7.0], [3.0]]), [[7], [3]], np.array([[7], [3]], object)],
    ids=["int", "float", "list", "object"],
)
def test_arrays(loaded: Store, values: Any) -> None:
    for column in (0, "item"):
        found = EmbeddingFeatures(loaded, {column: "items"}).fit_transform(values)
        np.testing.assert_array_equal(found, ITEMS[[7, 3]])
    second = np.hstack([np.zeros((2, 1)), np.asarray(values, float)])
    np.testing.assert_array_equal(
        EmbeddingFeatures(loaded, {1: "items"}).fit_transform(second), ITEMS[[7, 3]]
    )


def test_two_columns_of_one_table(loaded: Store) -> None:
    frame = pd.DataFrame({"now": [7, 3], "before": [3, 4]})
    found = EmbeddingFeatures(loaded, {"now": "items", "before": "items@1"}).fit_transform(frame)
    np.testing.assert_array_equal(found, np.hstack([ITEMS[[7, 3]], ITEMS[[3, 4]]]))


def test_the_version_of_the_fit_stays(loaded: Store) -> None:
    features = EmbeddingFeatures(loaded, {"item": "items"}).fit(FRAME)
    loaded.table("items").load(clusters(50, 6, seed=2), ids=range(50), promote=True)
    np.testing.assert_array_equal(features.transform(FRAME), ITEMS[[7, 3, 7]])
    assert features.fit_transform(FRAME).shape == (3, 6)
    assert features.versions_ == {"item": "items@2"}


@pytest.mark.parametrize("column", ["item", "user"])
def test_missing(loaded: Store, column: str) -> None:
    stored, table = (ITEMS, "items") if column == "item" else (USERS, "users")
    known, unknown = (7, 4711) if column == "item" else ("u7", "nobody")
    frame = pd.DataFrame({column: [known, unknown, None, known]})

    def found(missing: str) -> Array:
        made = EmbeddingFeatures(loaded, {column: table}, missing=missing)
        return np.asarray(made.fit_transform(frame))

    for missing, filler in {"zero": 0, "nan": np.nan, "mean": stored.mean(axis=0)}.items():
        wanted = np.tile(np.asarray(filler, np.float32), (4, 1)) + 0 * stored[[7] * 4]
        wanted[[0, 3]] = stored[7]
        np.testing.assert_allclose(found(missing), wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(NotFound, match=f"{table}@1 has no id {unknown!r}"):
        found("raise")
    frame = frame.drop(1)
    with pytest.raises(NotFound, match=f"column '{column}', row 2, has no id"):
        found("raise")


def test_a_column_without_any_id(loaded: Store) -> None:
    for column in BOTH:
        frame = pd.DataFrame({column: [None, None]})
        found = EmbeddingFeatures(loaded, {column: BOTH[column]}).fit_transform(frame)
        assert found.shape[0] == 2 and not found.any()


def test_refused(loaded: Store) -> None:
    def fit(tables: Any, **how: Any) -> Any:
        return EmbeddingFeatures(loaded, tables, **how).fit_transform(FRAME)

    with pytest.raises(InvalidQuery, match="tables is empty"):
        fit({})
    with pytest.raises(InvalidQuery, match="X has no column 'film': it has 'item', 'price'"):
        fit({"film": "items"})
    with pytest.raises(InvalidQuery, match="missing='skip' is no policy"):
        fit(BOTH, missing="skip")
    with pytest.raises(NotFound, match="films"):
        fit({"item": "films"})
    with pytest.raises(InvalidQuery, match="bigint ids"):
        fit({"user": "items"})
    with pytest.raises(InvalidQuery, match="'price' does not hold ids of items@1"):
        EmbeddingFeatures(loaded, {"price": "items"}).fit_transform(FRAME[["price"]] + 0.5)
    with pytest.raises(InvalidQuery, match="X has no column 2: it has 0, 1"):
        EmbeddingFeatures(loaded, {2: "items"}).fit(np.zeros((3, 2)))


def test_names_and_frames_out(loaded: Store) -> None:
    features = EmbeddingFeatures(loaded, BOTH).set_output(transform="pandas")
    found = features.fit_transform(FRAME.set_index(pd.Index([9, 8, 7])))
    names = ["user_0", "user_1", "user_2", "item_0", "item_1", "item_2", "item_3"]
    assert list(found.columns) == list(features.get_feature_names_out()) == names
    assert list(found.index) == [9, 8, 7]
    np.testing.assert_array_equal(found, WANTED)
    assert isinstance(features.set_output(transform="polars").transform(FRAME), pl.DataFrame)


def test_scikit_learns_checks_of_a_url(loaded: Store) -> None:
    check_estimator(EmbeddingFeatures(loaded.url, {0: "items"}), on_skip=None)


def test_scikit_learns_checks_of_an_open_store(loaded: Store) -> None:
    # These two copy or pickle the parameters one by one, and an open store is neither: it holds
    # connections and threads. Clones and pickles of the transformer itself care for it.
    reason = "an open store has no copy"
    check_estimator(
        EmbeddingFeatures(loaded, {0: "items"}),
        expected_failed_checks={
            "check_set_params": reason,
            "check_estimators_overwrite_params": reason,
        },
        on_skip=None,
    )


def test_clones_share_the_store_and_not_the_fit(loaded: Store) -> None:
    features = EmbeddingFeatures(loaded, BOTH, missing="nan").fit(FRAME)
    copied = clone(features)
    assert copied.store is loaded
    assert copied.tables == BOTH and copied.tables is not features.tables
    assert copied.missing == "nan"
    assert not hasattr(copied, "versions_")


def test_in_a_column_transformer_and_a_search_over_processes(loaded: Store) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "item": rng.integers(0, 50, 120),
            "user": rng.choice(NAMES, 120),
            "price": rng.standard_normal(120),
        }
    )
    wanted = ITEMS[frame["item"], 0] > np.median(ITEMS[:, 0])
    columns = ColumnTransformer(
        [
            ("ids", EmbeddingFeatures(loaded, BOTH), ["item", "user"]),
            ("rest", StandardScaler(), ["price"]),
        ]
    )
    search = GridSearchCV(
        make_pipeline(columns, LogisticRegression(max_iter=1000)),
        {"columntransformer__ids__tables": [{"user": "users"}, BOTH]},
        cv=3,
        n_jobs=2,
        error_score="raise",
    )
    search.fit(frame, wanted)
    assert search.best_params_ == {"columntransformer__ids__tables": BOTH}
    assert search.best_score_ > 0.85  # by the user alone it is 0.5
    fitted = search.best_estimator_[0]
    assert list(fitted.get_feature_names_out()[:2]) == ["ids__user_0", "ids__user_1"]


def test_a_pickle_is_used_by_another_process(loaded: Store, tmp_path: Path) -> None:
    features = EmbeddingFeatures(loaded, {0: "items"}).fit([[1]])
    (tmp_path / "features.pickle").write_bytes(pickle.dumps(features))
    script = (
        "import pickle, sys\n"
        "features = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(features.transform([[7]]).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "features.pickle"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{ITEMS[[7]].tolist()}\n"


def test_a_pickle_on_the_embedded_server_names_no_url(
    pg: Server, loaded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBSTORE_HOME", str(pg.home))
    with embstore.connect() as embedded:
        assert embedded.embedded and not loaded.embedded
        made = pickle.loads(pickle.dumps(EmbeddingFeatures(embedded, {0: "items"})))  # noqa: S301
        assert made.store is None


def test_the_password_is_not_shown(pg: Server, loaded: Store) -> None:
    database = loaded.url.split("@/")[1].split("?")[0]
    url = pg.tcp_url(database)
    features = EmbeddingFeatures(url, {0: "items"}).fit([[1]])
    assert pickle.loads(pickle.dumps(features)).store == url  # noqa: S301
    with embstore.connect(url) as store:
        reopened = pickle.loads(pickle.dumps(EmbeddingFeatures(store, {0: "items"})))  # noqa: S301
    for each in (
        features,
        clone(features),
        reopened,
        make_pipeline(features),
        EmbeddingFeatures().set_params(store=url),
    ):
        shown = repr(each) + each._repr_html_()
        assert pg.password not in shown
        assert f"127.0.0.1:{pg.port}/{database}" in shown
