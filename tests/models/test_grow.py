"""Groups of trees: the same forest whatever the groups, and honest out-of-bag numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from stellarscale.errors import ModelError
from stellarscale.kernels.forest import predict
from stellarscale.models.forest import ForestConfig, assemble, train
from stellarscale.models.grow import combine, group_bounds, grow, out_of_bag
from stellarscale.models.pack import pack

NAMES = ("a", "b", "c")
CONFIG = ForestConfig(n_estimators=30, max_depth=8, seed=5, n_jobs=1)
ARRAYS = ("nodes", "tree_start", "leaf_values", "leaf_start", "depth")


def stars(n=500, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return x, 5500 + 400 * x[:, 0] + 100 * x[:, 1] ** 2 + rng.normal(scale=30, size=n)


@pytest.mark.parametrize("backend", ["histogram", "sklearn"])
@pytest.mark.parametrize("max_features", [None, 0.4])
def test_groups_do_not_matter_nor_their_order_nor_threads(backend, max_features):
    x, y = stars()
    config = dataclasses.replace(CONFIG, backend=backend, max_features=max_features)
    whole = train(x, y, feature_names=NAMES, config=config)
    groups = [grow(x, y, config=config, trees=trees) for trees in ((17, 30), (0, 1), (1, 17))]
    apart = assemble(groups, x, y, feature_names=NAMES, config=config)
    threads = train(x, y, feature_names=NAMES, config=dataclasses.replace(config, n_jobs=3))
    for other in (apart, threads):
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(other.packed, name), getattr(whole.packed, name))
        for name in ("oob_prediction", "oob_spread", "feature_importances"):
            np.testing.assert_array_equal(getattr(other, name), getattr(whole, name))
        assert (other.oob_score, other.sigma) == (whole.oob_score, whole.sigma)


def test_out_of_bag_is_over_the_trees_that_did_not_see_the_row():
    x, y = stars(300)
    peer = RandomForestRegressor(30, max_depth=8, random_state=5, oob_score=True).fit(x, y)
    oob = out_of_bag(pack(peer), x, y, config=CONFIG)
    np.testing.assert_allclose(oob.prediction, peer.oob_prediction_, rtol=1e-12)
    every = np.array([tree.predict(x) for tree in peer.estimators_])
    unseen = np.array([np.bincount(drawn, minlength=300) == 0 for drawn in peer.estimators_samples_])
    for row in range(0, 300, 7):
        expected = np.std(every[unseen[:, row], row], ddof=1) * np.sqrt(29 / 30)
        assert oob.spread[row] == pytest.approx(expected, rel=1e-9)


def test_rows_seen_by_all_trees_or_all_but_one():
    x, y = stars(200)
    oob = train(x, y, feature_names=NAMES, config=dataclasses.replace(CONFIG, n_estimators=2))
    unknown, alone = np.isnan(oob.oob_prediction), np.isnan(oob.oob_spread)
    assert 0 < unknown.sum() < alone.sum() < 200
    assert (alone | ~unknown).all()


def test_the_spread_of_unseen_trees_is_that_of_the_forest_on_new_stars():
    x, y = stars(2000)
    forest = train(x, y, feature_names=NAMES, config=dataclasses.replace(CONFIG, n_estimators=100))
    _, spread = predict(forest.packed, stars(2000, seed=1)[0])
    assert np.median(forest.oob_spread) == pytest.approx(np.median(spread), rel=0.05)


def test_without_bootstrap_all_trees_see_all_rows():
    x, y = stars(100)
    config = dataclasses.replace(CONFIG, bootstrap=False, oob_score=False, n_estimators=2, max_depth=None)
    forest = train(x, y, feature_names=NAMES, config=config)
    np.testing.assert_allclose(predict(forest.packed, x)[0], y, rtol=1e-12)
    assert np.isnan(forest.oob_spread).all()


def test_groups_that_are_not_a_forest_are_refused():
    x, y = stars(60)
    first, second = (grow(x, y, config=CONFIG, trees=trees) for trees in ((0, 15), (15, 30)))
    with pytest.raises(ModelError, match=r"Seen: 15 to 29 by histogram.*Needed: 0 to 29"):
        combine([second], CONFIG)
    with pytest.raises(ModelError, match=r"Seen: 0 to 14 .* 0 to 14 "):
        combine([first, first, second], CONFIG)
    with pytest.raises(ModelError, match="by one backend"):
        combine([first, dataclasses.replace(second, backend="sklearn")], CONFIG)
    with pytest.raises(ModelError, match="no group"):
        combine([], CONFIG)


@pytest.mark.parametrize("n_trees, n_groups", [(300, 16), (7, 7), (5, 1)])
def test_bounds_cover_all_trees_once(n_trees, n_groups):
    bounds = group_bounds(n_trees, n_groups)
    assert [tree for first, end in bounds for tree in range(first, end)] == list(range(n_trees))
    sizes = [end - first for first, end in bounds]
    assert max(sizes) - min(sizes) <= 1
