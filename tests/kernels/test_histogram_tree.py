"""The histogram tree against a plain loop, against scikit-learn, and on its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference.tree_loop import best_splits
from sklearn.tree import DecisionTreeRegressor

from stellarscale.kernels.binning import BINS, MOST_BINS, bin_features
from stellarscale.kernels.forest import predict as predict_packed
from stellarscale.kernels.histogram_tree import grow_tree
from stellarscale.models.pack import TreeArrays, pack_tree


def grow(x, y, counts, **options):
    options = {"max_depth": 6, "min_samples_leaf": 1, "n_tried": x.shape[1], "seed": 0} | options
    return grow_tree(bin_features(x), y, counts, **options)


def predict(tree, x):
    node = np.zeros(len(x), dtype=int)
    while (inner := tree.left[node] >= 0).any():
        go_left = x[np.arange(len(x)), np.maximum(tree.feature[node], 0)] <= tree.threshold[node]
        node = np.where(inner, np.where(go_left, tree.left[node], tree.right[node]), node)
    return tree.value[node]


def stars(n, seed=0, features=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)).astype(np.float32)
    y = 5000 + 300 * x[:, 0] + 100 * x[:, 1] ** 2 + rng.normal(scale=20, size=n)
    return x, y, np.bincount(rng.integers(0, n, n), minlength=n)


def assert_node(tree, node, x, y, counts, rows, depth, limits):
    """The split, or the leaf, is one that the plain loop allows; and so on below it."""
    allowed = best_splits(x, y, counts, rows, min_samples_leaf=limits["min_samples_leaf"])
    if tree.left[node] < 0:
        assert depth == limits["max_depth"] or not allowed
        assert tree.value[node] == pytest.approx(np.average(y[rows], weights=counts[rows]), abs=1e-12)
        return
    assert (tree.feature[node], tree.threshold[node]) in allowed
    goes_left = x[rows, tree.feature[node]] <= tree.threshold[node]
    for child, part in ((tree.left[node], rows[goes_left]), (tree.right[node], rows[~goes_left])):
        assert_node(tree, child, x, y, counts, part, depth + 1, limits)


def neighbours(first, n):
    """Float32 values without any between them."""
    values = [np.float32(first)]
    while len(values) < n:
        values.append(np.nextafter(values[-1], np.float32(np.inf)))
    return values


VALUES = [-2.0, -0.0, 0.0, 0.5, *neighbours(1.0, 4), 3.0, 7.0, *neighbours(-1e-45, 4)]


# Small whole labels whose weighted mean is zero keep every sum exact, so that both find the same ties.
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_split_is_one_of_the_plain_loop(data):
    n = 2 * data.draw(st.integers(2, 12))
    x = data.draw(arrays(np.float32, (n, 3), elements=st.sampled_from([float(value) for value in VALUES])))
    half = data.draw(arrays(np.float64, n // 2, elements=st.integers(-5, 5).map(float)))
    drawn = data.draw(arrays(np.int64, n // 2, elements=st.integers(0, 3)).filter(np.any))
    y, counts = np.concatenate([half, -half]), np.concatenate([drawn, drawn])
    limits = {"max_depth": data.draw(st.integers(1, 5)), "min_samples_leaf": data.draw(st.integers(1, 3))}
    tree = grow(x, y, counts, **limits, seed=data.draw(st.integers(0, 2**31)))
    assert_node(tree, 0, x, y, counts, np.flatnonzero(counts), 0, limits)


@pytest.mark.parametrize("n", [900, 30_000])
def test_splits_are_those_of_scikit_learn(n):
    x, y, counts = stars(n)
    # In nodes of a few rows, several features split alike, and scikit-learn takes any.
    tree = grow(x, y, counts, max_depth=7, min_samples_leaf=10)
    peer = DecisionTreeRegressor(max_depth=7, min_samples_leaf=10, random_state=0).fit(x, y, sample_weight=counts)
    np.testing.assert_allclose(predict(tree, x), peer.predict(x), rtol=1e-12)
    np.testing.assert_allclose(tree.gain / tree.gain.sum(), peer.feature_importances_, atol=1e-9)


def test_binning_costs_next_to_nothing():
    x, y, counts = stars(MOST_BINS + 10_000)
    fresh, truth, _ = stars(20_000, seed=1)
    assert len(bin_features(x).low[0]) <= BINS
    ours = predict(grow(x, y, counts, max_depth=13), fresh) - truth
    peer = DecisionTreeRegressor(max_depth=13, random_state=0).fit(x, y, counts).predict(fresh) - truth
    assert np.std(ours) == pytest.approx(np.std(peer), rel=0.05)  # a single tree scatters


def test_bins_hold_what_they_say_and_are_finest_at_the_ends():
    x = np.column_stack([np.arange(80_000), np.arange(80_000) % 7, np.zeros(80_000)]).astype(np.float32)
    binned = bin_features(x)
    assert BINS // 2 < len(binned.low[0]) <= BINS
    np.testing.assert_array_equal(binned.low[1], np.arange(7))
    assert len(binned.low[2]) == 1
    for column, bins, low, high in zip(x.T, binned.bins, binned.low, binned.high, strict=True):
        assert ((column >= low[bins]) & (column <= high[bins])).all()
        assert (low[1:] > high[:-1]).all()
    rows = np.bincount(binned.bins[0])
    assert rows.max() <= 2 * 80_000 / BINS + 1
    assert (rows[:10] == 1).all()
    assert (rows[-10:] == 1).all()


@pytest.mark.parametrize("first", [1.0, -1.0, 17.3, 0.0, -3e-45])
def test_neighbouring_floats_are_kept_apart(first):
    x = np.tile(np.array(neighbours(first, 8), dtype=np.float32), 5)[:, None]
    y = np.tile(10.0 * np.arange(8), 5)
    tree = grow(x, y, np.ones(40, dtype=np.int64))
    np.testing.assert_array_equal(predict(tree, x), y)
    packed = pack_tree(TreeArrays(tree.left, tree.right, tree.feature, tree.threshold, tree.value, tree.left < 0), 1)
    np.testing.assert_array_equal(predict_packed(packed, x)[0], y)


def test_limits_hold():
    x, y, counts = stars(2000)
    tree = grow(x, y, counts, max_depth=30, min_samples_leaf=25)
    _, inverse = np.unique(predict(tree, x[counts > 0]), return_inverse=True)
    assert np.bincount(inverse).min() >= 25
    assert len(grow(x, y, counts, max_depth=1).left) == 3


def test_a_label_that_does_not_vary_gives_one_leaf():
    x, y, counts = stars(500)
    tree = grow(x, np.full_like(y, 5777.3), counts)
    assert len(tree.left) == 1
    assert tree.value[0] == pytest.approx(5777.3, rel=1e-15)


def test_the_order_of_features_depends_on_the_seed_only():
    x, y, counts = stars(3000, features=6)
    first, again, other = (grow(x, y, counts, n_tried=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.threshold, again.threshold)
    assert not np.array_equal(first.feature, other.feature)
    assert set(first.feature) == {-1, *range(6)}
    every = grow(x, y, counts)
    assert set(every.feature[:3]) <= {0, 1}


def test_a_tree_that_tries_few_features_still_splits_where_the_others_are_constant():
    x, y, counts = stars(400)
    x[:, 1:] = 1.0
    tree = grow(x, y, counts, n_tried=1, seed=3)
    assert set(tree.feature) == {-1, 0}
    assert len(tree.left) > 31
