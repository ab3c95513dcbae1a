"""Training, packing, storing and opening forests."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor

from stellarscale.errors import ConfigError, InputError, ModelError
from stellarscale.kernels.forest import MAX_SLOTS, predict
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models import fit as fitting
from stellarscale.models import store
from stellarscale.models.forest import ForestConfig, check_features, describe, train
from stellarscale.models.pack import TreeArrays, pack, pack_tree, tree_of

NAMES = ("bp_rp_0", "g_abs", "parallax_mas", "ebv")
SMALL = ForestConfig(n_estimators=40, max_depth=9, backend="sklearn", n_jobs=1)


def make_stars(n_rows=600, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, len(NAMES))).astype(np.float32)
    return x, 5500.0 + 400.0 * x[:, 0] + 150.0 * x[:, 1] ** 2 + rng.normal(scale=20.0, size=n_rows)


@pytest.fixture(scope="module")
def trained():
    return train(*make_stars(), feature_names=NAMES, config=SMALL)


@pytest.fixture(scope="module")
def provenance(trained):
    return describe(trained, label="teff", unit="K", class_names=["dwarf"], config_digest="abc")


@pytest.fixture
def saved(tmp_path, trained, provenance):
    path = tmp_path / "teff_dwarf.npz"
    return path, store.save(path, trained.packed, provenance)


# --- configuration


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


# --- training


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


# --- backends


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


# --- packing


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


# --- features


def test_features_must_match_in_name_and_order(trained):
    check_features(trained, list(NAMES))
    with pytest.raises(ModelError, match=r"missing \['ebv'\], unexpected \['w1_0'\].*Needed: \['bp_rp_0'"):
        check_features(trained, [*NAMES[:3], "w1_0"])
    with pytest.raises(ModelError, match=r"missing none, unexpected \['j_0'\]"):
        check_features(trained, [*NAMES, "j_0"])
    with pytest.raises(ModelError, match="another order"):
        check_features(trained, NAMES[::-1])


def test_features_of_a_stored_forest(saved):
    with pytest.raises(ModelError, match=r"missing \['bp_rp_0'\]"):
        check_features(store.load(saved[0]), NAMES[1:])


# --- files


def test_round_trip(saved, trained, provenance):
    path, digest = saved
    opened = store.load(path, digest)
    x, _ = make_stars(seed=5)
    for before, after in zip(predict(trained.packed, x), predict(opened.packed, x), strict=True):
        np.testing.assert_array_equal(before, after)
    assert opened.provenance == provenance
    assert opened.feature_names == NAMES
    assert opened.digest == digest == store.digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    record = opened.provenance
    assert (record.label, record.unit, record.class_names, record.config_digest) == (
        "teff",
        "K",
        ("dwarf",),
        "abc",
    )
    assert record.n_train == 600
    assert record.hyperparameters["max_depth"] == 9
    assert set(record.versions) >= {"scikit-learn", "numpy"}


def test_arrays_are_mapped_aligned_and_read_only(saved):
    packed = store.load(saved[0]).packed
    for name in ("nodes", "tree_start", "leaf_values", "leaf_start", "depth"):
        array = getattr(packed, name)
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        assert isinstance(owner, np.memmap), name
        assert array.ctypes.data % 64 == 0, name
        assert not array.flags.writeable, name


def test_numpy_reads_the_file_and_nothing_in_it_is_pickled(saved, trained):
    with np.load(saved[0], allow_pickle=False) as members:
        np.testing.assert_array_equal(members["nodes"], trained.packed.nodes)
        assert members["provenance"].dtype == np.uint8
        assert json.loads(bytes(members["provenance"]))["format_version"] == store.FORMAT_VERSION
    with zipfile.ZipFile(saved[0]) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_same_content_same_bytes(saved, tmp_path, trained, provenance):
    again = tmp_path / "other.npz"
    assert store.save(again, trained.packed, provenance) == saved[1]
    assert again.read_bytes() == saved[0].read_bytes()
    with zipfile.ZipFile(again) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    other = store.save(again, trained.packed, dataclasses.replace(provenance, label="logg"))
    assert other != saved[1]


def test_oob_values_that_are_not_known_survive(tmp_path, trained, provenance):
    path = tmp_path / "m.npz"
    store.save(path, trained.packed, dataclasses.replace(provenance, oob_score=float("nan"), sigma=float("nan")))
    assert np.isnan(store.load(path).provenance.oob_score)


def test_process_opens_a_digest_once(saved):
    path, digest = saved
    assert store.load(path, digest) is store.load(str(path), digest)


def test_load_without_digest_sees_a_new_file(saved, trained, provenance):
    path, _ = saved
    assert store.load(path).provenance.label == "teff"
    store.save(path, trained.packed, dataclasses.replace(provenance, label="logg"))
    assert store.load(path).provenance.label == "logg"


def test_wrong_digest(saved):
    path, digest = saved
    with pytest.raises(
        ModelError, match=rf"not the one.*Where: {path}.*Seen: sha256 {digest}.*Needed: sha256 00.*cause"
    ):
        store.load(path, "00")


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"cannot be read.*none\.npz"):
        store.load(tmp_path / "none.npz")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file(saved, kept):
    path, digest = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelError, match=r"damaged.*Where: .*teff_dwarf.npz.*Seen: .*Needed: .*cut short"):
        store.load(path)
    with pytest.raises(ModelError, match="not the one that was asked for"):
        store.load(path, digest)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_flipped_bit(saved, place):
    path, _ = saved
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 16
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        store.load(path)


def rewrite(path, **changes):
    """Write the file again, well-formed, with some members changed (None: left out)."""
    with np.load(path) as members:
        arrays = {name: members[name] for name in members.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def tampered_record(path, **changes):
    with np.load(path) as members:
        record = json.loads(bytes(members["provenance"])) | changes
    rewrite(path, provenance=np.frombuffer(json.dumps(record).encode(), np.uint8))


def test_another_format_version(saved):
    tampered_record(saved[0], format_version=99, new_field=1)
    with pytest.raises(ModelError, match=r"another format version.*Seen: 99.*Needed: 3.*train again"):
        store.load(saved[0])


def test_plain_savez_file_loads_too(saved, trained):
    rewrite(saved[0])
    x, _ = make_stars(20)
    np.testing.assert_array_equal(predict(store.load(saved[0]).packed, x)[0], predict(trained.packed, x)[0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"leaf_values": None}, "damaged.*leaf_values"),
        ({"provenance": None}, "damaged"),
        ({"provenance": np.frombuffer(b"not json", np.uint8)}, "damaged"),
        ({"provenance": np.frombuffer(b"[1, 2]", np.uint8)}, "damaged"),
        ({"depth": np.array([object()])}, "damaged"),
        ({"nodes": np.zeros(4, np.uint64)}, "do not cover"),
    ],
)
def test_wrong_members(saved, changes, message):
    rewrite(saved[0], **changes)
    with pytest.raises(ModelError, match=message):
        store.load(saved[0])


def test_fewer_names_than_the_nodes_use(saved):
    tampered_record(saved[0], feature_names=list(NAMES[:2]))
    with pytest.raises(ModelError, match="outside its tree"):
        store.load(saved[0])


def test_compressed_file_is_refused(saved):
    with np.load(saved[0]) as members:
        arrays = {name: members[name] for name in members.files}
    np.savez_compressed(saved[0], **arrays)
    with pytest.raises(ModelError, match=r"damaged.*compressed"):
        store.load(saved[0])


def test_names_must_fit_when_saving(tmp_path, trained, provenance):
    with pytest.raises(ModelError, match=r"Feature names do not fit.*Seen: 2.*Needed: 4"):
        store.save(tmp_path / "m.npz", trained.packed, dataclasses.replace(provenance, feature_names=NAMES[:2]))
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_the_old_file(saved, trained, provenance, monkeypatch):
    path, digest = saved

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        store.save(path, trained.packed, dataclasses.replace(provenance, label="logg"))
    assert store.digest(path) == digest
    assert [p.name for p in path.parent.iterdir()] == [path.name]
