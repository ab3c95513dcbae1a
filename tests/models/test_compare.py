"""Other methods than the forest: each learns, gives the same twice, and says what it cannot do."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from stellarscale.errors import ConfigError, ModelError
from stellarscale.models import polynomial
from stellarscale.models.compare import Method, make, methods
from stellarscale.models.polynomial import PolynomialRegressor
from stellarscale.models.scaling import Scaling
from stellarscale.settings.training import Comparator, ForestSettings

has_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch (extra 'images') is not here")
has_xgboost = pytest.mark.skipif(importlib.util.find_spec("xgboost") is None, reason="xgboost (extra 'ml') is not here")
LOSSES = ("mse", "l1", "smooth_l1", "log_cosh")
BRIEF = {"hidden": (24, 12), "epochs": 40, "batch_size": 64, "learning_rate": 0.01}
KNN = "sklearn.neighbors.KNeighborsRegressor"


@pytest.fixture(scope="module")
def stars():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(900, 3)).astype(np.float32)
    return x, 5000 + 600.0 * x[:, 0] - 200.0 * x[:, 1] * x[:, 2]  # of standard deviation 630


def made(kind, *, estimator=None, loss=None, seed=1, n_jobs=1, **options):
    method = Method("it", kind, estimator, loss, options)
    return make(method, forest=ForestSettings(n_estimators=15, max_depth=9), seed=seed, n_jobs=n_jobs)


KINDS = [
    pytest.param("polynomial", {"degree": 2}, 30, id="polynomial"),
    pytest.param("extra_trees", {}, 200, id="extra trees"),
    pytest.param("estimator", {"estimator": KNN, "n_neighbors": 5}, 200, id="k nearest neighbours"),
    pytest.param("xgboost", {"n_estimators": 60}, 200, id="xgboost", marks=has_xgboost),
    *(pytest.param("network", {"loss": loss, **BRIEF}, 100, id=loss, marks=has_torch) for loss in LOSSES),
]


@pytest.mark.parametrize(("kind", "options", "sigma"), KINDS)
def test_a_method_learns_and_gives_the_same_twice(stars, kind, options, sigma):
    x, y = stars
    first, second = (made(kind, n_jobs=threads, **options).fit(x[:600], y[:600]).predict(x[600:]) for threads in (1, 2))
    assert first.shape == (300,)
    assert first.dtype == np.float64
    assert np.std(first - y[600:]) < sigma
    np.testing.assert_array_equal(first, second)


def test_a_polynomial_is_found_exactly_and_blocks_make_no_difference(stars, monkeypatch):
    x, y = stars
    whole = PolynomialRegressor(degree=2, ridge=1e-12).fit(x, y)
    inside = np.abs(x).max(axis=1) < 2  # beyond the outermost stars the inputs are clipped
    monkeypatch.setattr(polynomial, "_BLOCK_ELEMENTS", 70)
    blocks = PolynomialRegressor(degree=2, ridge=1e-12).fit(x, y)
    np.testing.assert_allclose(whole.predict(x)[inside], blocks.predict(x)[inside], rtol=1e-9)
    assert np.std((whole.predict(x) - y)[inside]) < 20


def test_wrong_magnitudes_do_not_bend_a_polynomial(stars):
    x, y = stars
    spoiled = x.copy()
    spoiled[0] = 9999
    fitted = PolynomialRegressor(degree=2, ridge=1e-6).fit(np.repeat(spoiled, 2, axis=0)[1:], np.repeat(y, 2)[1:])
    assert np.std(fitted.predict(x[1:]) - y[1:]) < 50


def test_a_column_that_does_not_vary_is_only_shifted():
    scaling = Scaling.of(np.array([[1.0, 7.0], [3.0, 7.0]]))
    np.testing.assert_array_equal(scaling.standardise(np.array([[3.0, 8.0]])), [[1.0, 1.0]])
    np.testing.assert_array_equal(scaling.restore(np.array([[1.0, 1.0]])), [[3.0, 8.0]])


@has_torch
def test_a_network_leaves_the_shared_state_of_torch_alone(stars):
    import torch

    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fitted = made("network", loss="mse", **{**BRIEF, "epochs": 1}).fit(*stars)
    fitted.predict(stars[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@has_torch
def test_another_seed_is_another_network(stars):
    x, y = stars
    first, second = (made("network", loss="mse", seed=seed, **{**BRIEF, "epochs": 2}).fit(x, y) for seed in (1, 2))
    assert not np.array_equal(first.predict(x), second.predict(x))


@pytest.mark.parametrize("kind", ["polynomial", pytest.param("network", marks=has_torch)])
def test_missing_inputs_are_refused_where_they_cannot_be_used(stars, kind):
    x = stars[0].copy()
    x[7, 1] = np.nan
    with pytest.raises(ModelError, match=r"1 of 900 stars with a missing input"):
        made(kind, loss="l1" if kind == "network" else None).fit(x, stars[1])


@pytest.mark.parametrize(("kind", "package", "extra"), [("network", "torch", "images"), ("xgboost", "xgboost", "ml")])
def test_a_package_that_is_not_there_is_named_with_its_extra(monkeypatch, kind, package, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=rf"{package}, which is not installed.*stellarscale\[{extra}\]"):
        made(kind, loss="mse" if kind == "network" else None)


@has_xgboost
def test_boosted_trees_are_kept_without_code_and_read_again(stars, tmp_path):
    import xgboost

    boosted = made("xgboost", n_estimators=10).fit(*stars)
    path = tmp_path / "model.ubj"
    path.write_bytes(boosted.ubjson())
    again = xgboost.Booster(model_file=path).inplace_predict(stars[0])
    np.testing.assert_array_equal(again, boosted.predict(stars[0]))


def test_extra_trees_have_the_size_of_the_forest_unless_told_otherwise(stars):
    assert len(made("extra_trees").fit(*stars).estimator.estimators_) == 15
    assert len(made("extra_trees", n_estimators=4).fit(*stars).estimator.estimators_) == 4


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("sklearn.neighbors.KNeighborsRegresor", {}, "cannot be made"),
        ("sklearn.nothing.Here", {}, "cannot be made"),
        ("sklearn.neighbors.KNeighborsClassifier", {}, "not a regressor"),
        ("sklearn.datasets.load_iris", {}, "not a regressor"),
        ("os.system", {}, "not allowed"),
        ("sklearnish.Model", {}, "not allowed"),
        (KNN, {"neighbours": 3}, "n_neighbors"),
    ],
)
def test_a_wrong_estimator_or_option_is_told(name, options, told):
    with pytest.raises(ConfigError, match=told):
        made("estimator", estimator=name, **options)


@has_xgboost
def test_a_wrong_option_of_boosted_trees_is_told():
    with pytest.raises(ConfigError, match="n_trees"):
        made("xgboost", n_trees=10)


def test_a_network_stands_for_one_method_per_loss():
    comparator = Comparator(name="net", kind="network", options={"losses": ["l1", "mse"]})
    assert [(method.name, method.loss) for method in methods(comparator)] == [("net_l1", "l1"), ("net_mse", "mse")]
    assert [method.name for method in methods(Comparator(name="poly", kind="polynomial"))] == ["poly"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "polynomial", "options": {"degre": 2}}, "did you mean 'degree'"),
        ({"kind": "network", "options": {"losses": ["l3"]}}, "losses"),
        ({"kind": "estimator", "estimator": "os.system"}, "not a regressor of sklearn"),
        ({"kind": "estimator"}, "give `estimator`"),
        ({"kind": "polynomial", "name": "a/b"}, "pattern"),
    ],
)
def test_a_job_with_wrong_settings_of_a_method_is_refused_before_any_work(settings, told):
    with pytest.raises(ValueError, match=told):
        Comparator(**{"name": "it", **settings})
