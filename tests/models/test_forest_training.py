"""Training forests, their backends, and packing them for the kernel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from reference.forest_stars import NAMES, SMALL, make_stars
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor

from stellarscale.errors import ConfigError, InputError, ModelError
from stellarscale.kernels.forest import MAX_SLOTS, predict
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models import fit as fitting
from stellarscale.models.forest import ForestConfig, check_features, train
from stellarscale.models.pack import TreeArrays, pack, pack_tree, tree_of


@pytest.fixture(scope="module")
def trained():
    return train(*make_stars(), feature_names=NAMES, config=SMALL)


def test_defaults_are_those_of_the_paper():
    config = ForestConfig()
    assert (config.n_estimators, config.max_features, config.max_depth) == (300, None, 17)
    assert config.bootstrap
    assert config.oob_score


@pytest.mark.parametrize(
    "option, value",
    [
        ("n_estimators", 0),
        ("max_features", 0.0),
        ("max_features", 1.5),
        ("max_depth", 0),
        ("min_samples_leaf", 0),
        ("bootstrap", False),
        ("seed", -1),
        ("backend", "lightgbm"),
        ("n_jobs", 0),
    ],
)
def test_bad_option_is_named(option, value):
    name = "oob_score" if option == "bootstrap" else option
    with pytest.raises(ConfigError, match=rf"'{name}'.*Needed"):
        ForestConfig(**{option: value})


def test_training_equals_scikit_learn(trained):
    x, y = make_stars()
    direct = RandomForestRegressor(40, max_depth=9, oob_score=True, random_state=0, max_features=1.0).fit(x, y)
    np.testing.assert_allclose(predict(trained.packed, x)[0], direct.predict(x), rtol=0, atol=1e-6)
    np.testing.assert_allclose(trained.oob_prediction, direct.oob_prediction_, rtol=0, atol=1e-6)
    assert trained.oob_score == pytest.approx(direct.oob_score_, abs=1e-12)
    np.testing.assert_allclose(trained.feature_importances, direct.feature_importances_)
    for number, member in enumerate(direct.estimators_):
        tree = predict(tree_of(trained.packed, number), x)[0]
        np.testing.assert_array_equal(tree, member.predict(x))


def test_trained_record(trained):
    assert trained.backend == "sklearn"
    assert trained.n_train == 600
    assert trained.feature_names == NAMES
    assert trained.packed.n_trees == 40
    assert trained.fit_seconds > 0
    assert trained.oob_prediction.shape == (600,)
    assert trained.feature_importances.sum() == pytest.approx(1.0)
    assert np.argmax(trained.feature_importances) == 0
    residual = trained.oob_prediction - make_stars()[1]
    assert trained.sigma == pytest.approx(1.4826 * np.median(np.abs(residual - np.median(residual))))


def test_oob_is_honest(trained):
    x, y = make_stars(seed=99)
    fresh = np.std(predict(trained.packed, x)[0] - y)
    own = np.std(predict(trained.packed, make_stars()[0])[0] - make_stars()[1])
    assert np.std(trained.oob_prediction - make_stars()[1]) == pytest.approx(fresh, rel=0.2)
    assert own < 0.7 * fresh


def test_rows_that_every_tree_saw_have_no_oob_prediction():
    x, y = make_stars(200)
    few = train(x, y, feature_names=NAMES, config=dataclasses.replace(SMALL, n_estimators=2))
    assert 0 < np.isnan(few.oob_prediction).sum() < 200
    known = np.isfinite(few.oob_prediction)
    assert np.abs(few.oob_prediction[known] - y[known]).max() < 2000
    assert few.oob_score > 0


def test_without_oob():
    config = dataclasses.replace(SMALL, oob_score=False, n_estimators=3)
    forest = train(*make_stars(100), feature_names=NAMES, config=config)
    assert np.isnan(forest.oob_prediction).all()
    assert np.isnan(forest.oob_score)
    assert np.isnan(forest.sigma)


def test_same_seed_same_forest_on_any_number_of_threads():
    data = make_stars(300)
    one, two, other = (
        train(*data, feature_names=NAMES, config=dataclasses.replace(SMALL, n_estimators=6, n_jobs=n, seed=seed)).packed
        for n, seed in ((1, 0), (2, 0), (1, 1))
    )
    np.testing.assert_array_equal(one.nodes, two.nodes)
    np.testing.assert_array_equal(one.leaf_values, two.leaf_values)
    assert not np.array_equal(one.leaf_values[:50], other.leaf_values[:50])


def test_options_reach_the_trees():
    options = {"n_estimators": 2, "max_depth": 3, "min_samples_leaf": 25, "max_features": 0.5, "backend": "sklearn"}
    config = ForestConfig(**options, oob_score=False)
    estimator, backend = fitting.fit_estimator(*make_stars(400), config=config)
    assert backend == "sklearn"
    assert estimator.max_features == 0.5
    assert all(member.get_depth() <= 3 for member in estimator.estimators_)
    assert min(t.tree_.n_node_samples[t.tree_.children_left < 0].min() for t in estimator.estimators_) >= 10


def test_missing_features_are_learnt_from():
    x, y = make_stars(500)
    x[x[:, 0] > 0.5, 0] = np.nan
    forest = train(x, y, feature_names=NAMES, config=dataclasses.replace(SMALL, backend="auto"))
    assert forest.backend == "sklearn"
    missing = np.isnan(x[:, 0])
    assert predict(forest.packed, x[missing])[0].mean() == pytest.approx(y[missing].mean(), abs=30)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda x, y: (x[:9], y[:9]), "Too few training rows.*Seen: 9.*Needed: at least 10"),
        (lambda x, y: (x[:0], y[:0]), "Too few training rows"),
        (lambda x, y: (x[:, :3], y), "Training arrays disagree.*4 feature names"),
        (lambda x, y: (x, y[:-1]), "Training arrays disagree"),
        (
            lambda x, y: (x, np.where(np.arange(len(y)) == 17, np.nan, y)),
            "Labels must be finite.*row 17.*1 rows",
        ),
        (lambda x, y: (np.where(np.arange(4) == 2, np.inf, x), y), "finite in float32.*row 0, parallax_mas"),
        (lambda x, y: (np.where(np.arange(4) == 1, 1e39, x.astype(float)), y), "finite in float32.*g_abs"),
    ],
)
def test_bad_training_data_is_refused(spoil, message):
    x, y = spoil(*make_stars(50))
    with pytest.raises(InputError, match=message):
        train(x, y, feature_names=NAMES, config=SMALL)


@pytest.mark.parametrize("backend", ["histogram", "sklearnex"])
def test_what_cannot_learn_from_missing_features_refuses_them(backend):
    x, y = make_stars(60)
    x[3, 1] = np.nan
    config = ForestConfig(n_estimators=3, backend=backend, n_jobs=1)
    if backend == "sklearnex":
        pytest.importorskip("sklearnex", reason="scikit-learn-intelex is an optional extra")
    with pytest.raises(ModelError, match=f"missing features.*NaN.*{backend}.*backend: sklearn"):
        train(x, y, feature_names=NAMES, config=config)


def test_asking_for_intelex_without_it_is_an_error(monkeypatch):
    monkeypatch.setattr(fitting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"not installed.*Needed: scikit-learn-intelex"):
        train(*make_stars(60), feature_names=NAMES, config=ForestConfig(backend="sklearnex"))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("backend", ["histogram", "sklearnex"])
def test_backends_agree_in_quality(backend):
    if backend == "sklearnex":
        pytest.importorskip("sklearnex", reason="scikit-learn-intelex is an optional extra")
    x, y = make_stars(3000)
    fresh, truth = make_stars(20_000, seed=1)
    config = ForestConfig(n_estimators=100, n_jobs=2)
    reference = train(x, y, feature_names=NAMES, config=dataclasses.replace(config, backend="sklearn"))
    forest = train(x, y, feature_names=NAMES, config=dataclasses.replace(config, backend=backend))
    assert forest.backend == backend
    assert forest.oob_score == pytest.approx(reference.oob_score, abs=0.002)
    np.testing.assert_allclose(forest.feature_importances, reference.feature_importances, atol=0.01)
    sigma, expected = (robust_sigma(predict(f.packed, fresh)[0] - truth) for f in (forest, reference))
    assert sigma == pytest.approx(expected, rel=0.02)
    known = np.isfinite(forest.oob_spread)
    assert np.median(forest.oob_spread[known]) == pytest.approx(np.nanmedian(reference.oob_spread), rel=0.05)


@pytest.mark.filterwarnings("default")
def test_forests_of_intelex_pack_exactly():
    pytest.importorskip("sklearnex", reason="scikit-learn-intelex is an optional extra")
    x, y = make_stars(2000)
    config = ForestConfig(n_estimators=20, max_depth=9, n_jobs=1, oob_score=False, backend="sklearnex")
    estimator, backend = fitting.fit_estimator(x, y, config=config)
    assert backend == "sklearnex"
    trees = np.array([member.tree_.predict(x)[:, 0] for member in estimator.estimators_])
    mean, std = predict(pack(estimator), x)
    np.testing.assert_allclose(mean, trees.mean(axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(std, trees.std(axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(mean, estimator.predict(x.astype(float)), rtol=0, atol=1e-3)


def test_extra_trees_pack():
    x, y = make_stars(200)
    estimator = ExtraTreesRegressor(5, random_state=0).fit(x, y)
    np.testing.assert_allclose(predict(pack(estimator), x)[0], estimator.predict(x), rtol=0, atol=1e-6)


def test_packing_refuses_what_it_cannot_hold():
    x, y = make_stars(60)
    with pytest.raises(ModelError, match="Needed: a fitted regression forest"):
        pack(RandomForestRegressor())
    with pytest.raises(ModelError, match=r"one label.*tree 0.*classifier"):
        pack(RandomForestClassifier(2).fit(x, (y > 5500) + 0))
    with pytest.raises(ModelError, match="one label"):
        pack(RandomForestRegressor(2).fit(x, np.column_stack([y, y])))
    wide = np.zeros((20, 256), np.float32)
    with pytest.raises(ModelError, match=r"too many features.*Seen: 256.*at most 255"):
        pack(RandomForestRegressor(2).fit(wide, np.arange(20)))


def test_packing_refuses_too_large_a_tree():
    nodes = np.broadcast_to(np.int32(-1), MAX_SLOTS)
    with pytest.raises(ModelError, match=rf"too many nodes.*tree 4.*Seen: {2**24}.*at most {2**24 - 1}"):
        pack_tree(TreeArrays(*[nodes] * 6), 4, 4)


def test_features_must_match_in_name_and_order(trained):
    check_features(trained, list(NAMES))
    with pytest.raises(ModelError, match=r"missing \['ebv'\], unexpected \['w1_0'\].*Needed: \['bp_rp_0'"):
        check_features(trained, [*NAMES[:3], "w1_0"])
    with pytest.raises(ModelError, match=r"missing none, unexpected \['j_0'\]"):
        check_features(trained, [*NAMES, "j_0"])
    with pytest.raises(ModelError, match="another order"):
        check_features(trained, NAMES[::-1])
