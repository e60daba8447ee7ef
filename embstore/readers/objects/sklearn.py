"""scikit-learn: any fitted transformer, or the item factors that a decomposition has learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Kind, check_vectors
from ..base import Opened, Wanted
from ..facts import class_name, library, plain, public
from ..matrices import Matrix, open_blocks, open_matrices
from ..registry import Model
from ..samples import samples


def open_estimator(model: Any, wanted: Wanted) -> Opened:
    """Open an estimator.

    With ``X=`` its vectors are ``model.transform(X)``, some thousand rows at a time. Without, they
    are the columns of ``components_``, a vector per feature: where the features are items (PCA,
    TruncatedSVD or NMF of a user x item matrix), these are the item factors whose inner product
    with a transformed user is the reconstruction. Embeddings without ``transform`` (t-SNE, MDS)
    have ``embedding_``, a vector per sample.

    Raises
    ------
    BadInput
        When it is not fitted, or can do neither.
    """
    if wanted.data is not None:
        return _transformed(model, wanted)
    name = type(model).__name__
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    matrices = {}
    if hasattr(last, "components_"):
        features = getattr(model, "feature_names_in_", None)
        matrices["components_"] = Matrix(np.asarray(last.components_).T, features)
    if hasattr(last, "embedding_"):
        matrices["embedding_"] = Matrix(last.embedding_)
    if not matrices:
        raise BadInput(
            f"{name} holds no vectors of its own: give the samples to transform with X= (--data),"
            " and fit it first",
            source=name,
        )
    return open_matrices(
        name,
        matrices,
        wanted,
        format="sklearn",
        trainer=trainer(model),
        params=params(model),
        metrics=_metrics(last),
    )


def _transformed(model: Any, wanted: Wanted) -> Opened:
    name = type(model).__name__
    if not hasattr(model, "transform"):
        raise BadInput(f"{name} cannot transform samples: leave X= (--data) out", source=name)
    given = samples(wanted)
    blocks = (_dense(model.transform(block)) for block in given.blocks())
    first = next(blocks)
    check_vectors(first.shape, first.dtype, f"{name}.transform({given.name})")
    kind = Kind((len(given), first.shape[1]), first.dtype)
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    about = {"format": "sklearn", **given.provenance()}
    return replace(
        open_blocks(name, chain([first], blocks), kind, given.ids, {}, about),
        trainer=trainer(model),
        params=params(model),
        metrics=_metrics(last),
    )


def _dense(block: Any) -> NDArray[Any]:
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block)


def trainer(model: Any) -> str:
    """Return the package and the class, of a pipeline those of its last step."""
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    return class_name(last)


def params(model: Any) -> dict[str, object]:
    """Return the hyper-parameters that JSON can hold, and the library's version."""
    if hasattr(model, "steps"):
        steps = dict(_named_steps(model))
        return {"steps": steps, **library("sklearn")}
    return {**public(model.get_params(deep=False)), **library(type(model).__module__)}


def _named_steps(model: Any) -> Iterator[tuple[str, object]]:
    for name, step in model.steps:
        if hasattr(step, "get_params"):
            yield name, {"class": type(step).__name__, **public(step.get_params(deep=False))}


def _metrics(model: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    if hasattr(model, "explained_variance_ratio_"):
        found["explained_variance_ratio"] = float(np.sum(model.explained_variance_ratio_))
    for name in ("reconstruction_err_", "kl_divergence_", "stress_", "n_iter_"):
        if (value := plain(getattr(model, name, None))) is not None:
            found[name.removesuffix("_")] = value
    return found


MODELS = (
    Model(
        "sklearn",
        "a scikit-learn estimator",
        ("sklearn.base.BaseEstimator",),
        "a fitted transformer or Pipeline with X= (--data), or its components_ as item factors",
        open_estimator,
    ),
)
