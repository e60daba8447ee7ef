"""The measures of single lists, beside torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import retrieval

from embstore.ranking.bootstrap import interval, means, resampled
from embstore.ranking.measures import of_users


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 20))
def test_as_an_independent_library_has_them(seed: int, k: int, listed: int) -> None:
    rng = np.random.default_rng(seed)
    items, users = 20, 3
    relevant = rng.random((users, items)) < rng.choice([0.05, 0.3, 0.9])
    relevant[np.arange(users), rng.integers(0, items, users)] = True
    order = rng.permuted(np.tile(np.arange(items), (users, 1)), axis=1)
    hits = np.take_along_axis(relevant, order, axis=1)[:, :listed]
    found = of_users(hits, relevant.sum(axis=1), np.full(hits.shape, np.nan), min(k, listed))
    scores = np.empty((users, items))
    # Theirs counts no item whose score is 0 or less.
    np.put_along_axis(scores, order, np.arange(items, 0.0, -1)[None], axis=1)
    top = min(k, listed)
    for user in range(users):
        preds, target = torch.tensor(scores[user]), torch.tensor(relevant[user])
        for name, function in (
            ("hit_rate", retrieval.retrieval_hit_rate),
            ("recall", retrieval.retrieval_recall),
            ("ndcg", retrieval.retrieval_normalized_dcg),
            ("mrr", retrieval.retrieval_reciprocal_rank),
        ):
            theirs = float(function(preds, target, top_k=top))
            assert found[name][user] == pytest.approx(theirs, abs=1e-6), name


def test_a_list_shorter_than_k() -> None:
    found = of_users(np.array([[False, True]]), np.array([3]), np.array([[1.0, np.nan]]), 5)
    assert found["recall"] == 1 / 3 and found["mrr"] == 0.5 and found["novelty"] == 1
    best = sum(1 / np.log2(rank + 1) for rank in (1, 2, 3))
    assert found["ndcg"] == pytest.approx(1 / np.log2(3) / best)


def test_intervals() -> None:
    """A mean's interval is that of the normal distribution; a difference's is of pairs."""
    rng = np.random.default_rng(0)
    one = rng.random(2000)
    values = np.column_stack([one, one + 0.01 + 0.001 * rng.standard_normal(2000)])
    drawn = resampled(values, 2000, seed=1)
    low, high = interval(drawn[0])
    error = one.std() / np.sqrt(len(one))
    assert (low, high) == pytest.approx(
        (one.mean() - 1.96 * error, one.mean() + 1.96 * error), abs=0.15 * error
    )
    low, high = interval(drawn[1] - drawn[0])
    assert 0.0098 < low < high < 0.0102  # far less than either mean's own
    assert (resampled(values, 2000, seed=1) == drawn).all()


def test_what_cannot_be_told_is_left_out_of_a_mean() -> None:
    values = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    assert means(values).tolist() == [2, 5]
    drawn = resampled(values, 200, seed=0)[0]
    assert set(np.unique(drawn[~np.isnan(drawn)]).round(3)) <= {1, 3, 2, 1.667, 2.333}
    assert np.isnan(means(np.full((2, 1), np.nan))).all()
