"""Trained models as sources: what they hold is what is loaded, with its provenance."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from sklearn.decomposition import NMF, PCA, TruncatedSVD
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embstore import Store
from embstore.errors import BadInput, EmbstoreError
from embstore.readers import Opened, Wanted, open_source
from tests.fix_data import clusters

RATINGS = sparse.random(60, 25, 0.3, format="csr", random_state=0, dtype=np.float32)


def opened(source: Any, **how: Any) -> tuple[Opened, list[Any], Any]:
    with open_source(source, Wanted(**how)) as found:
        table = pa.Table.from_batches(list(found.batches), found.schema)
    vectors = np.asarray(table.column("embedding").combine_chunks().flatten())
    return found, table.column("id").to_pylist(), vectors.reshape(-1, found.dim)


@pytest.mark.parametrize("kind", ["array", "sparse", "frame", "npy", "npz", "parquet"])
def test_transformer_with_its_samples(tmp_path: Path, kind: str) -> None:
    base = clusters(20_000, 8)  # several blocks
    model = TruncatedSVD(3, random_state=0).fit(base)
    frame = pd.DataFrame(base, columns=[f"f{i}" for i in range(8)])
    np.save(tmp_path / "x.npy", base)
    sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(base))
    pq.write_table(pa.Table.from_pandas(frame.assign(user=range(20_000))), tmp_path / "x.parquet")
    given: Any = {
        "array": base,
        "sparse": sparse.coo_matrix(base),
        "frame": frame.assign(user=range(20_000)),
        "npy": tmp_path / "x.npy",
        "npz": tmp_path / "x.npz",
        "parquet": tmp_path / "x.parquet",
    }[kind]
    if kind in {"frame", "parquet"}:
        model = TruncatedSVD(3, random_state=0).fit(frame)
    ids = "user" if kind in {"frame", "parquet"} else range(20_000)
    found, keys, vectors = opened(model, data=given, ids=ids)
    assert keys == list(range(20_000))
    out = model.transform(frame if ids == "user" else base)
    np.testing.assert_allclose(vectors, out, rtol=1e-4, atol=1e-5)
    assert found.rows == 20_000
    assert found.trainer == "sklearn.TruncatedSVD"
    assert found.params["n_components"] == 3
    assert str(found.params["library"]).startswith("scikit-learn ")
    assert 0 < float(str(found.metrics["explained_variance_ratio"])) <= 1


def test_components_are_item_factors() -> None:
    model = NMF(4, max_iter=500, init="random", random_state=0)
    users = model.fit_transform(RATINGS)
    _, _, items = opened(model, ids=[f"i{i}" for i in range(25)])
    np.testing.assert_allclose(users @ items.T, users @ model.components_, rtol=1e-6)
    frame = pd.DataFrame(clusters(50, 6), columns=list("abcdef"))
    _, keys, _ = opened(PCA(2).fit(frame))
    assert keys == list("abcdef")


def test_pipeline_and_embedding_without_transform() -> None:
    base = clusters(60, 5)
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(base)
    found, _, vectors = opened(pipeline, data=base, ids="row-number")
    np.testing.assert_allclose(vectors, pipeline.transform(base))
    assert found.trainer == "sklearn.PCA"
    assert list(found.params["steps"]) == ["standardscaler", "pca"]  # type: ignore[call-overload]
    tsne = TSNE(2, perplexity=5, random_state=0)
    out = tsne.fit_transform(base)
    np.testing.assert_array_equal(opened(tsne, ids="row-number")[2], out)


@pytest.mark.parametrize(
    ("model", "how", "says"),
    [
        (PCA(2), {}, "holds no vectors of its own"),
        (PCA(2), {"data": np.ones((3, 4)), "ids": range(3)}, "is not fitted"),
        (PCA(2).fit(clusters(9, 4)), {"data": np.ones((3, 5)), "ids": range(3)}, "features"),
        (PCA(2).fit(clusters(9, 4)), {"data": np.ones((3, 4)), "ids": range(4)}, "4 ids for 3"),
        (PCA(2).fit(clusters(9, 4)), {"data": np.ones((3, 4))}, "give their ids"),
        (PCA(2).fit(clusters(9, 4)), {"data": np.ones(4), "ids": range(3)}, "a row per sample"),
        (PCA(2).fit(clusters(9, 4)), {"data": "nowhere.npy", "ids": range(3)}, "no such file"),
        (TSNE(2), {"data": np.ones((3, 4)), "ids": range(3)}, "cannot transform"),
    ],
)
def test_bad_estimators(model: Any, how: dict[str, Any], says: str) -> None:
    with pytest.raises(EmbstoreError, match=says):
        opened(model, **how)


def test_pickles_only_on_request(tmp_path: Path) -> None:
    model = PCA(2, random_state=0).fit(clusters(50, 6))
    path = tmp_path / "pca.joblib"
    for compress in (0, 3, ("gzip", 3)):
        joblib.dump(model, path, compress=compress)
        with pytest.raises(BadInput, match="--allow-pickle"):
            opened(path, ids=range(6))
        found, _, vectors = opened(path, ids=range(6), allow_pickle=True)
        np.testing.assert_array_equal(vectors, model.components_.T)
        assert found.name == str(path)
        assert found.provenance["file"] == "pca.joblib"


def test_vocabulary_picks_rows() -> None:
    base = clusters(5, 3)
    found, keys, vectors = opened(base, ids={"e": 4, "b": 1})
    assert (found.rows, keys) == (2, ["b", "e"])
    np.testing.assert_array_equal(vectors, base[[1, 4]])
    with pytest.raises(BadInput, match="5 rows, and the vocabulary names row 5"):
        opened(base, ids={"e": 5})
    with pytest.raises(BadInput, match=r"gives row 1 \(from 0\) two ids, 'a' and 'b'"):
        opened(base, ids={"a": 1, "b": 1})
    with pytest.raises(BadInput, match="row number"):
        opened(base, ids={"a": "x"})


def test_vocabulary_files(tmp_path: Path) -> None:
    base = clusters(3, 2)
    np.save(tmp_path / "v.npy", base)
    (tmp_path / "vocabulary.json").write_text('{"b": 1, "a": 0}')
    (tmp_path / "list.json").write_text("[7, 8, 9]")
    _, keys, vectors = opened(tmp_path / "v.npy", ids=tmp_path / "vocabulary.json")
    assert keys == ["a", "b"]
    np.testing.assert_array_equal(vectors, base[:2])
    assert opened(tmp_path / "v.npy", ids=tmp_path / "list.json")[1] == [7, 8, 9]
    assert opened(tmp_path / "v.npy", ids="row-number")[1] == [0, 1, 2]


@pytest.mark.parametrize("name", ["als", "bpr", "lmf"])
@pytest.mark.filterwarnings("ignore")
def test_implicit(name: str) -> None:
    pytest.importorskip("implicit")
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from implicit.lmf import LogisticMatrixFactorization

    make: Any = {
        "als": AlternatingLeastSquares,
        "bpr": BayesianPersonalizedRanking,
        "lmf": LogisticMatrixFactorization,
    }[name]
    model = make(factors=4, iterations=2, random_state=0)
    model.fit(RATINGS, show_progress=False)
    scores = model.user_factors @ model.item_factors.T
    with pytest.raises(BadInput, match="'item_factors', 'user_factors'"):
        opened(model, ids="row-number")
    sides = [
        opened(model, vectors=each, ids="row-number", fold=name == "bpr")
        for each in ("user_factors", "item_factors")
    ]
    np.testing.assert_allclose(sides[0][2] @ sides[1][2].T, scores, rtol=1e-5)
    assert sides[1][0].trainer == f"implicit.{type(model).__name__}"
    assert (sides[1][0].params["factors"], sides[1][0].params["iterations"]) == (4, 2)
    if name == "bpr":
        kept = opened(model, vectors="item_factors", ids="row-number")[0]
        assert (kept.dim, kept.schema.names) == (4, ["id", "embedding", "bias"])


def test_surprise() -> None:
    surprise = pytest.importorskip("surprise")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user": [f"u{i}" for i in rng.integers(0, 20, 300)],
            "item": rng.integers(100, 130, 300),
            "rating": rng.integers(1, 6, 300).astype(float),
        }
    )
    data = surprise.Dataset.load_from_df(frame, surprise.Reader()).build_full_trainset()
    model = surprise.SVD(n_factors=5, n_epochs=3, random_state=0).fit(data)
    found, users, u = opened(model, vectors="users", fold=True)
    _, items, v = opened(model, vectors="items", fold=True)
    user, item = users[3], items[4]
    expected = model.predict(user, item, clip=False).est
    bias = data.global_mean + model.bu[data.to_inner_uid(user)]
    assert u[3] @ v[4] + bias == pytest.approx(expected, abs=1e-5)
    assert (u.shape[1], v.shape[1]) == (6, 6)
    assert found.params["n_epochs"] == 3


@pytest.mark.filterwarnings("ignore")
def test_myfm() -> None:
    myfm = pytest.importorskip("myfm")
    pairs = np.random.default_rng(0).integers(0, [10, 8], (200, 2))
    features = sparse.csr_matrix(
        (np.ones(400), (np.repeat(np.arange(200), 2), np.add(pairs, [0, 10]).ravel())), (200, 18)
    )
    model = myfm.MyFMRegressor(rank=3, random_seed=0)
    model.fit(features, pairs.sum(axis=1).astype(float), n_iter=5, n_kept_samples=1)
    users, items = ({f"{side}{i}": at + i for i in range(n)} for side, at, n in _SIDES)
    found, keys, u = opened(model, ids=users, fold=True, biases="1")
    _, _, v = opened(model, ids=items, fold=True)
    weights = model.predictor_.samples[0]
    one = weights.V[2] @ weights.V[15] + weights.w[15]
    assert keys[2] == "u2"
    assert u[2] @ v[5] == pytest.approx(one, rel=1e-5)
    assert (found.trainer, found.rows) == ("myfm.MyFMGibbsRegressor", 10)
    assert found.params["rank"] == 3


_SIDES = (("u", 0, 10), ("i", 10, 8))


def libfm(rows: int, dim: int, ending: str = "\n") -> tuple[str, Any, Any]:
    rng = np.random.default_rng(0)
    biases, factors = rng.standard_normal(rows), rng.standard_normal((rows, dim), np.float32)
    lines = ["#global bias W0", "0.5", "#unary interactions Wj", *(f"{w:.17g}" for w in biases)]
    lines += ["#pairwise interactions Vj,f", *(" ".join(f"{x:.9g}" for x in v) for v in factors)]
    return "".join(line + ending for line in lines), biases, factors


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \n"])
def test_libfm(tmp_path: Path, ending: str) -> None:
    text, biases, factors = libfm(30_000, 6, ending)
    path = tmp_path / "model.txt"
    path.write_bytes(text.encode())
    found, keys, vectors = opened(path)
    assert keys == list(range(30_000))
    np.testing.assert_array_equal(vectors, factors)
    assert (found.rows, found.params["global_bias"]) == (30_000, 0.5)
    _, keys, vectors = opened(path, ids={"x": 29_999, "y": 3}, fold=True)
    assert keys == ["y", "x"]
    np.testing.assert_array_equal(vectors[:, -1], biases[[3, 29_999]].astype(np.float32))


@pytest.mark.parametrize(
    ("cut", "says"),
    [
        (lambda text: text[:60], "ends before '#pairwise interactions'"),
        (lambda text: text.replace("#unary", "#urnary"), "neither '#unary interactions'"),
        (lambda text: text[: text.rindex("\n", 0, -1) + 1], "truncated"),
        (lambda text: text + "1 2 3\n", "40 biases and more"),
        (lambda text: text.replace("#pairwise interactions Vj,f\n", ""), "no number|could not"),
        (lambda text: text[: text.index("Vj,f") + 5], "0 factors"),
        (lambda text: text[:-3] + " 7\n", "feature 39 cannot be read"),
    ],
)
def test_bad_libfm(tmp_path: Path, cut: Any, says: str) -> None:
    path = tmp_path / "model.libfm"
    path.write_text(cut(libfm(40, 3)[0]))
    with pytest.raises(BadInput, match=says) as caught:
        opened(path)
    assert str(path) in str(caught.value)


def test_biases_of_arrays(tmp_path: Path) -> None:
    items, users = clusters(7, 3), clusters(5, 3, 1)
    bias = np.arange(7, dtype=np.float32)
    arrays: dict[str, Any] = {"item_ids": np.arange(7), "item_factors": items, "item_bias": bias}
    np.savez(tmp_path / "m.npz", **arrays, user_ids=np.arange(5), user_factors=users)
    path = tmp_path / "m.npz"
    v = opened(path, vectors="item_factors", fold=True)[2]
    u = opened(path, vectors="user_factors", fold=True, biases="1")[2]
    np.testing.assert_allclose(u @ v.T, users @ items.T + bias, rtol=1e-5)
    assert opened(path, vectors="item_factors")[0].schema.names[-1] == "item_bias"
    with pytest.raises(BadInput, match="--biases NAME"):
        opened(path, vectors="user_factors", fold=True)
    with pytest.raises(BadInput, match="no column or array 'b'"):
        opened(path, vectors="item_factors", fold=True, biases="b")
    with pytest.raises(EmbstoreError, match="add bias='fold'"):
        opened(path, vectors="item_factors", biases="item_bias")


def test_a_model_becomes_a_version(store: Store) -> None:
    model = PCA(3, random_state=0).fit(clusters(80, 6))
    table = store.create_table("users")
    version = table.load(model, X=clusters(80, 6), ids=range(80), params={"whose": "mine"})
    assert (version.trainer, version.rows, version.dim) == ("sklearn.PCA", 80, 3)
    assert version.params["n_components"] == 3
    assert version.params["whose"] == "mine"
    assert version.metrics["explained_variance_ratio"] > 0


def test_installed_packages_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes longer than a small load."""
    model = PCA(2).fit(clusters(50, 8))
    first = opened(model, ids="row-number", data=clusters(50, 8))[0].params["library"]
    monkeypatch.delattr("importlib.metadata.packages_distributions")
    assert opened(model, ids="row-number", data=clusters(50, 8))[0].params["library"] == first
    assert str(first).startswith("scikit-learn ")
