"""Measure the lists of rectools.json by RecTools, and write its figures there.

RecTools 0.19 needs numpy 1, so it has an environment of its own:

python -m venv rt && rt/bin/pip install rectools==0.19.0
rt/bin/python tests/ranking/rectools_values.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.metrics import (
    MRR,
    NDCG,
    CatalogCoverage,
    HitRate,
    MeanInvUserFreq,
    Recall,
    calc_metrics,
)

FILE = Path(__file__).with_name("rectools.json")
K = (3, 10)


def table(pairs: Any) -> pd.DataFrame:
    """Return interactions as RecTools takes them."""
    users, items = np.array(pairs).T
    return pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1})


def best(scores: Any, known: dict[str, Any], ids: Any) -> pd.DataFrame:
    """Rank items (users, items), what a user has seen left out; of equal ones the smaller id."""
    scores = scores.astype(float)
    seen = np.array([pair for pair in known["history"] if pair[1] in ids]).T
    scores[seen[0], seen[1]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, : max(K)]
    asked = np.unique(np.array(known["test"])[:, 0])
    return pd.DataFrame(
        {
            Columns.User: np.repeat(asked, max(K)),
            Columns.Item: order[asked].ravel(),
            Columns.Rank: np.tile(np.arange(1, max(K) + 1), len(asked)),
        }
    )


def figures(lists: pd.DataFrame, known: dict[str, Any], catalog: Any) -> dict[str, float]:
    """Return the six measures at each k."""
    test = {tuple(pair) for pair in known["test"]} - {tuple(pair) for pair in known["history"]}
    metrics: dict[str, Any] = {}
    for k in K:
        metrics |= {
            f"hit_rate@{k}": HitRate(k=k),
            f"recall@{k}": Recall(k=k),
            f"ndcg@{k}": NDCG(k=k, divide_by_achievable=True),
            f"mrr@{k}": MRR(k=k),
            f"novelty@{k}": MeanInvUserFreq(k=k),
            f"coverage@{k}": CatalogCoverage(k=k, normalize=True),
        }
    found = calc_metrics(
        metrics,
        reco=lists,
        interactions=table(sorted(test)),
        prev_interactions=table(known["history"]),
        catalog=catalog,
    )
    return {name: float(found[name]) for name in metrics}


def main() -> None:
    """Write what RecTools says of the version's lists, and of the most popular items."""
    known = json.loads(FILE.read_text())
    users, items = np.array(known["users"]), np.array(known["items"])
    catalog = np.arange(len(items))
    reads = np.bincount(np.array(known["history"])[:, 1], minlength=len(items))
    popular = np.tile(reads, (len(users), 1))
    values = {
        "version": figures(best(users @ items.T, known, catalog), known, catalog),
        # Popularity knows the items that anybody has seen.
        "popularity": figures(best(popular, known, catalog), known, np.flatnonzero(reads)),
    }
    known |= {"values": values, "library": f"RecTools {version('rectools')}"}
    FILE.write_text(json.dumps(known) + "\n")


if __name__ == "__main__":
    main()
