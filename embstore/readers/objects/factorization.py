"""Matrix factorization and factorization machines: implicit, Surprise and myFM."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..base import Opened, Wanted
from ..facts import library, public
from ..matrices import Matrix, open_matrices
from ..registry import Model, Needs


def open_implicit(model: Any, wanted: Wanted) -> Opened:
    """Open a model of implicit: ``item_factors`` or ``user_factors``.

    BPR keeps the item biases as the last factor, beside ones for the users; here they are the
    attribute ``bias``, and ``bias="fold"`` gives the model's own form again.

    Raises
    ------
    BadInput
        When it is not fitted.
    """
    name = type(model).__name__
    factors = {side: getattr(model, side, None) for side in ("item_factors", "user_factors")}
    if any(each is None for each in factors.values()):
        raise BadInput(f"{name} is not fitted: call fit first", source=name)
    items, users = (_on_cpu(each) for each in factors.values())
    matrices = {"item_factors": Matrix(items), "user_factors": Matrix(users)}
    if name == "BayesianPersonalizedRanking":
        matrices = {
            "item_factors": Matrix(items[:, :-1], beside={"bias": items[:, -1]}, biases="bias"),
            "user_factors": Matrix(users[:, :-1], biases="1"),
        }
    settings = {key: value for key, value in vars(model).items() if "factors" not in key}
    return open_matrices(
        name,
        matrices,
        wanted,
        format="implicit",
        trainer=f"implicit.{name}",
        params={"factors": model.factors, **public(settings), **library("implicit")},
    )


def _on_cpu(factors: Any) -> NDArray[Any]:
    return np.asarray(factors.to_numpy() if hasattr(factors, "to_numpy") else factors)


def open_surprise(model: Any, wanted: Wanted) -> Opened:
    """Open a matrix factorization of Surprise: ``items`` or ``users``, ids as in the data.

    Raises
    ------
    BadInput
        When it is not fitted.
    """
    name = type(model).__name__
    if not hasattr(model, "qi") or not hasattr(model, "trainset"):
        raise BadInput(f"{name} is not fitted: call fit first", source=name)
    data = model.trainset
    items = [data.to_raw_iid(i) for i in range(data.n_items)]
    users = [data.to_raw_uid(i) for i in range(data.n_users)]
    matrices = {
        "items": Matrix(model.qi, items, {"bias": model.bi}, "bias"),
        "users": Matrix(model.pu, users, {"bias": model.bu}, "1"),
    }
    return open_matrices(
        name,
        matrices,
        wanted,
        format="surprise",
        trainer=f"surprise.{name}",
        params={
            **public(vars(model)),
            "global_mean": float(data.global_mean),
            "ratings": int(data.n_ratings),
            **library("surprise"),
        },
    )


def open_myfm(model: Any, wanted: Wanted) -> Opened:
    """Open a factorization machine of myFM: a vector and a bias per feature.

    Of a Gibbs sampler the vectors are the posterior means over its samples. ``ids=`` is a
    vocabulary, id to feature number; the other features are left out.

    Raises
    ------
    BadInput
        When it is not fitted.
    """
    name = type(model).__name__
    predictor = getattr(model, "predictor_", None)
    if predictor is None:
        raise BadInput(f"{name} is not fitted: call fit first", source=name)
    drawn = predictor.samples if hasattr(predictor, "samples") else [predictor.weights()]
    factors, biases = np.zeros_like(drawn[0].V), np.zeros_like(drawn[0].w)
    for each in drawn:
        factors += each.V / len(drawn)
        biases += each.w / len(drawn)
    return open_matrices(
        name,
        {"V": Matrix(factors, beside={"bias": biases}, biases="bias")},
        wanted,
        format="myfm",
        trainer=f"myfm.{name}",
        params={
            **public({k: v for k, v in vars(model).items() if not k.endswith("_")}),
            "samples": len(drawn),
            "global_bias": float(np.mean([each.w0 for each in drawn])),
            **library("myfm"),
        },
    )


MODELS = (
    Model(
        "implicit",
        "a model of implicit",
        (
            "implicit.cpu.matrix_factorization_base.MatrixFactorizationBase",
            "implicit.gpu.matrix_factorization_base.MatrixFactorizationBase",
        ),
        "ALS, BPR, logistic: vectors= item_factors or user_factors",
        open_implicit,
        Needs(("implicit",), "implicit"),
    ),
    Model(
        "surprise",
        "a model of Surprise",
        tuple(
            f"surprise.prediction_algorithms.matrix_factorization.{each}"
            for each in ("SVD", "SVDpp", "NMF")
        ),
        "SVD, SVD++, NMF: vectors= items or users; ids and biases as trained",
        open_surprise,
        Needs(("surprise",), "surprise"),
    ),
    Model(
        "myfm",
        "a model of myFM",
        ("myfm.base.MyFMBase",),
        "a factorization machine: a vector and a bias per feature, ids= a vocabulary",
        open_myfm,
        Needs(("myfm",), "myfm"),
    ),
)
