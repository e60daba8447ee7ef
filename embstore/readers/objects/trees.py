"""Trees: which leaf of each tree a sample falls into, as bits.

The order of the bits comes from the model alone, so that whatever is encoded by one model can be
compared: tree by tree as the model predicts them, in each the leaves by their index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInput
from ..arrays import Kind
from ..base import Opened, RowNumbers, Wanted
from ..bits import Leaves
from ..facts import class_name, library, plain, public
from ..matrices import open_blocks
from ..registry import Model, Needs
from ..samples import Samples, samples


@dataclass(frozen=True)
class Trees:
    """What is asked of a fitted model.

    Attributes
    ----------
    leaves : list of arrays
        The indices of each tree's leaves, ascending.
    apply : callable
        From samples to the index of the leaf in each tree, (n, trees); fewer where the model
        stopped early, the first ones then.
    params, metrics : mapping
    """

    leaves: list[NDArray[np.int64]]
    apply: Callable[[Any], Any]
    params: Mapping[str, object]
    metrics: Mapping[str, object]


def leaf_bits(model: Any, X: Any) -> NDArray[np.bool_]:
    """Encode samples by the leaves of a fitted model, as ``Table.load(model, X=X)`` does.

    Parameters
    ----------
    model : fitted forest or boosted trees of scikit-learn, LightGBM or XGBoost
    X : matrix, frame or path

    Returns
    -------
    array (n, bits), bool
        For ``nearest``; each row has as many bits set as there are trees.

    Raises
    ------
    BadInput, NotFound
    """
    kind = _opener(model)
    given = samples(Wanted(ids=RowNumbers.name, data=X))
    return np.concatenate(list(_encoded(type(model).__name__, kind(model), given)[1]))


def open_trees(model: Any, wanted: Wanted) -> Opened:
    """Open the leaves that the samples ``X=`` fall into.

    Raises
    ------
    BadInput
        When there are no samples, the model is not fitted, or the table holds no bits.
    """
    name = type(model).__name__
    kind = _opener(model)
    if not wanted.bits:
        raise BadInput(
            f"{name}: the leaves of trees are bits; load them into a table that was made with"
            " metric='jaccard' or 'hamming' (--metric)",
            source=name,
        )
    if wanted.data is None:
        raise BadInput(
            f"{name} holds no vectors of its own: give the samples whose leaves are wanted with X="
            " (--data)",
            source=name,
        )
    trees = kind(model)
    given = samples(wanted)
    leaves, blocks = _encoded(name, trees, given)
    bits = Kind((len(given), leaves.dim), np.dtype(np.bool_))
    about = {"format": "trees", **given.provenance(), **leaves.provenance()}
    return replace(
        open_blocks(name, blocks, bits, given.ids, {}, about),
        trainer=class_name(model),
        params={**trees.params, **library(type(model).__module__)},
        metrics=trees.metrics,
    )


def _encoded(name: str, trees: Trees, given: Samples) -> tuple[Leaves, Iterator[NDArray[np.bool_]]]:
    applied = (np.reshape(trees.apply(each), (each.shape[0], -1)) for each in given.blocks())
    first = next(applied)
    leaves = Leaves(name, trees.leaves[: first.shape[1]])
    return leaves, (bits for each in chain([first], applied) for bits in leaves.blocks(each))


def _opener(model: Any) -> Callable[[Any], Trees]:
    """Return what opens a model, by the library that it is of."""
    modules = [each.__module__.split(".")[0] for each in type(model).__mro__]
    for name, opener in (("lightgbm", _lightgbm), ("xgboost", _xgboost), ("sklearn", _sklearn)):
        if name in modules:
            return opener
    raise BadInput(
        f"{type(model).__name__} is no model of trees: give one of scikit-learn, LightGBM or"
        " XGBoost"
    )


def _sklearn(model: Any) -> Trees:
    from sklearn.utils.validation import check_is_fitted

    name = type(model).__name__
    if not hasattr(model, "apply"):
        raise BadInput(
            f"{name} does not tell the leaf a sample falls into: use a forest or GradientBoosting"
            " of scikit-learn, LightGBM or XGBoost",
            source=name,
        )
    check_is_fitted(model)
    members = [model] if hasattr(model, "tree_") else np.ravel(model.estimators_)
    metrics = {"oob_score": plain(getattr(model, "oob_score_", None))}
    if hasattr(model, "train_score_"):
        metrics["train_score"] = plain(model.train_score_[-1])
    return Trees(
        [np.flatnonzero(each.tree_.children_left == -1) for each in members],
        model.apply,
        public(model.get_params(deep=False)),
        {each: value for each, value in metrics.items() if value is not None},
    )


def _lightgbm(model: Any) -> Trees:
    booster = model.booster_ if hasattr(model, "get_params") else model
    # The text form: the JSON one nests as deep as the trees are.
    counts = re.findall(r"^num_leaves=([0-9]+)$", booster.model_to_string(), re.MULTILINE)
    settings = model.get_params(deep=False) if hasattr(model, "get_params") else booster.params
    scores = {
        f"{data} {metric}": plain(value)
        for data, values in booster.best_score.items()
        for metric, value in values.items()
    }
    return Trees(
        [np.arange(int(each)) for each in counts],
        lambda block: booster.predict(block, pred_leaf=True),
        public(settings),
        {name: value for name, value in scores.items() if value is not None},
    )


def _xgboost(model: Any) -> Trees:
    import xgboost

    booster = model if isinstance(model, xgboost.Booster) else model.get_booster()
    leaves = [
        np.sort(np.array(re.findall(r"^\s*([0-9]+):leaf=", each, re.MULTILINE), np.int64))
        for each in booster.get_dump()
    ]
    name = type(model).__name__
    if not all(map(len, leaves)):
        raise BadInput(f"{name} has no trees: gblinear is a linear model", source=name)
    found = ((each, booster.attr(each)) for each in ("best_iteration", "best_score"))
    metrics = {each: float(value) for each, value in found if value is not None}

    def apply(block: Any) -> Any:
        # XGBoost itself takes what is missing for missing values.
        if block.shape[1] != (features := booster.num_features()):
            raise BadInput(
                f"{name} was fitted to {features} features, and the samples have {block.shape[1]}",
                source=name,
            )
        if booster is not model:
            return model.apply(block)
        data = xgboost.DMatrix(block, enable_categorical=True)
        return booster.predict(data, pred_leaf=True)

    if booster is not model:
        return Trees(leaves, apply, public(model.get_params(deep=False)), metrics)
    learner = json.loads(booster.save_config())["learner"]
    settings = {
        "objective": learner["objective"]["name"],
        "num_boosted_rounds": booster.num_boosted_rounds(),
        **learner["gradient_booster"].get("tree_train_param", {}),
    }
    return Trees(leaves, apply, public(settings), metrics)


_HELP = "a fitted model with X= (--data): the leaves its samples fall into, as bits"

MODELS = (
    Model(
        "sklearn-trees",
        "trees of scikit-learn",
        (
            "sklearn.ensemble._forest.BaseForest",
            "sklearn.ensemble._gb.BaseGradientBoosting",
            "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.BaseHistGradientBoosting",
            "sklearn.tree._classes.BaseDecisionTree",
        ),
        _HELP,
        open_trees,
    ),
    Model(
        "lightgbm",
        "a LightGBM model",
        ("lightgbm.sklearn.LGBMModel", "lightgbm.basic.Booster"),
        _HELP,
        open_trees,
        needs=Needs(("lightgbm",), "lightgbm"),
    ),
    Model(
        "xgboost",
        "an XGBoost model",
        ("xgboost.sklearn.XGBModel", "xgboost.core.Booster"),
        _HELP,
        open_trees,
        needs=Needs(("xgboost",), "xgboost"),
    ),
)
