"""Bayesian search of hyper-parameters: what it finds, that it repeats, and packages that are not there."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

pytest.importorskip("optuna")
pytest.importorskip("xgboost")
pytest.importorskip("lightgbm")
pytest.importorskip("catboost")

from stellarscale.errors import InputError, ModelError
from stellarscale.models.bayes_search import ALGORITHMS, SPACES, USUAL, search_fit


def stars(n=400, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = 5500 + 400 * x[:, 0] - 200 * x[:, 1] * (x[:, 2] > 0) + rng.normal(0, 20, n)
    return x, y


def search(x, y, algorithm, **options):
    given = {"trials": 3, "max_stars": 250, "seed": 4, "n_jobs": 1, **options}
    return search_fit(x, y, algorithm=algorithm, **given)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_finds_a_regressor_that_is_better_than_the_mean(algorithm, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    x, y = stars()
    found = search(x, y, algorithm)
    new_x, new_y = stars(seed=2)
    assert np.std(found.regressor.predict(new_x) - new_y) < 0.5 * np.std(new_y)
    assert len(found.history) == 3
    assert found.score == min(trial["score"] for trial in found.history)
    assert found.params in [trial["params"] for trial in found.history]
    assert list(tmp_path.iterdir()) == [], "no files left behind"
    assert capfd.readouterr() == ("", ""), "nothing printed"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_gives_the_same_and_another_does_not(algorithm):
    x, y = stars(150)
    first, again, other = (search(x, y, algorithm, trials=2, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.regressor.predict(x), again.regressor.predict(x))
    assert first.history == again.history
    assert first.history != other.history


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_trial_is_the_usual_one_and_inside_the_space(algorithm):
    x, y = stars(100)
    found = search(x, y, algorithm, trials=1)
    assert found.params == USUAL[algorithm]
    assert set(found.params) == set(SPACES[algorithm](_Middle()))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_missing_inputs_are_taken(algorithm):
    x, y = stars(200)
    x[::7, 3] = np.nan
    predicted = search(x, y, algorithm, trials=1).regressor.predict(x)
    assert np.isfinite(predicted).all()


def test_the_refit_uses_all_stars_and_the_search_only_some():
    x, y = stars(300)
    few, many = (search(x, y, "random_forest", trials=1, max_stars=most) for most in (60, 300))
    assert few.params == many.params
    assert few.score != many.score
    np.testing.assert_array_equal(few.regressor.predict(x), many.regressor.predict(x))


@pytest.mark.parametrize("missing", ["optuna", "catboost"])
def test_a_missing_package_is_told_when_it_is_asked_for(missing, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else there(name))
    with pytest.raises(ModelError, match=rf"{missing}.*stellarscale\[comparisons\]"):
        search(*stars(50), "catboost")
    if missing == "catboost":
        search(*stars(50), "random_forest", trials=1)


def test_bad_stars_are_refused():
    x, y = stars(50)
    with pytest.raises(InputError, match="too few"):
        search(x[:10], y[:10], "xgboost")
    with pytest.raises(InputError, match="not finite"):
        search(x, np.where(np.arange(50) == 3, np.nan, y), "xgboost")
    x[0, 0] = np.inf
    with pytest.raises(InputError, match="infinite"):
        search(x, y, "xgboost")


class _Middle:
    """A trial that notes nothing and draws the lower end."""

    def suggest_int(self, name, low, high, **_):
        return low

    def suggest_float(self, name, low, high, **_):
        return low
