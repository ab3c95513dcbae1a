"""Out-of-bag scores of a scan: what scikit-learn's own forests would give, and what is chosen from them."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.errors import InputError
from stellarscale.models.fit import ForestConfig
from stellarscale.models.streams import stream_seed
from stellarscale.models.tune import choose, oob_scores, unexplained


@pytest.fixture(scope="module")
def stars():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    return x, x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(0, 0.1, 400)


@pytest.mark.parametrize("max_features", [None, 0.5])
def test_one_forest_gives_the_scores_of_all_smaller_ones(stars, max_features):
    from sklearn.ensemble import RandomForestRegressor

    x, y = stars
    config = ForestConfig(max_features=max_features, max_depth=6, seed=8, backend="sklearn", n_jobs=1)
    scores = oob_scores(x, y, config=config, n_estimators=[60, 30, 45])
    assert [score.n_estimators for score in scores] == [30, 45, 60]
    for score in scores:
        forest = RandomForestRegressor(
            score.n_estimators, max_features=max_features or 1.0, max_depth=6, oob_score=True, random_state=8
        )
        assert score.error == pytest.approx(1 - forest.fit(x, y).oob_score_, rel=1e-10)


def test_scores_of_the_usual_backend_do_not_depend_on_threads_or_on_larger_forests(stars):
    x, y = stars
    alone = oob_scores(x, y, config=ForestConfig(seed=2, n_jobs=1), n_estimators=[20])
    among = oob_scores(x, y, config=ForestConfig(seed=2, n_jobs=2), n_estimators=[20, 50])
    assert among[0].error == alone[0].error
    assert among[1].error < among[0].error
    assert among[0].seconds == pytest.approx(0.4 * among[1].seconds)


def test_stars_that_every_tree_saw_do_not_count():
    y = np.array([1.0, 2.0, 3.0, 50.0])
    assert unexplained(y, np.array([1.5, 2.0, 2.5, np.nan])) == pytest.approx(0.5 / 2)


@pytest.mark.parametrize("prediction", [[np.nan, np.nan], [1.0, np.nan]])
def test_no_score_is_an_error(prediction):
    with pytest.raises(InputError, match="no out-of-bag score"):
        unexplained(np.array([1.0, 2.0]), np.array(prediction))


def test_the_fewest_trees_within_the_tolerance_are_chosen():
    curves = {0.5: {100: 0.30, 300: 0.25}, None: {100: 0.2020, 300: 0.2005, 750: 0.2000}}
    assert choose(curves, tolerance=0.001) == (300, None)
    assert choose(curves, tolerance=0.0) == (750, None)
    assert choose(curves, tolerance=0.01) == (100, None)


def test_streams_differ_by_every_name_and_repeat():
    seeds = {stream_seed(1, "a", "bc"), stream_seed(1, "ab", "c"), stream_seed(2, "a", "bc"), stream_seed(1, "abc")}
    assert len(seeds) == 4
    assert stream_seed(1, "a", "bc") in seeds
    assert all(0 <= seed < 2**31 for seed in seeds)
