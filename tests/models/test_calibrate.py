"""Errors and novelty of trained forests: coverage of new stars, storage, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from stellarscale.config import Errors
from stellarscale.errors import InputError, ModelError
from stellarscale.kernels.forest import predict
from stellarscale.models import store
from stellarscale.models.calibrate import Told, calibrate
from stellarscale.models.forest import ForestConfig, describe, train

NAMES = ("g_0", "u_v_0", "bp_rp_0")
SETTINGS = Errors(magnitude="g_0", magnitude_bins=5, label_bins=3, min_stars=100, novelty=("u_v_0", "bp_rp_0"))
SEGUE = Path(__file__).resolve().parents[3] / "shared" / "data" / "forest" / "segue_ugriz_feh_valid.csv"


def stars(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Metallicities from two colours whose errors grow with the magnitude, and labels noisier at the poor end."""
    rng = np.random.default_rng(seed)
    fe_h, colour, g = rng.normal(-0.5, 0.5, n), rng.normal(0.8, 0.2, n), 14 + 4 * rng.power(2, n)
    noise = 0.005 * 10 ** (0.2 * (g - 14))
    x = np.column_stack([g, 0.6 + 0.2 * fe_h + 0.3 * colour + 3 * noise * rng.normal(size=n), colour])
    x[:, 2] += noise * rng.normal(size=n)
    return x.astype(np.float32), fe_h + (0.05 + 0.05 * (fe_h < -0.7)) * rng.standard_t(5, n)


@pytest.fixture(scope="module")
def trained():
    x, y = stars(4000, 1)
    return train(x, y, feature_names=NAMES, config=ForestConfig(n_estimators=60, backend="sklearn", n_jobs=2))


def calibrated(trained, settings=SETTINGS, **changes):
    x, y = stars(4000, 1)
    x = changes.pop("x", x)
    given = {"magnitude": x[:, 0], "prediction": trained.oob_prediction, "spread": trained.oob_spread} | changes
    told = Told(label=y, noise=np.empty((len(y), 0)), **given)
    return calibrate(told, x, settings=settings, feature_names=NAMES, n_trees=60)


@pytest.fixture(scope="module")
def calibration(trained):
    return calibrated(trained)


@pytest.fixture
def saved(tmp_path, trained, calibration):
    path = tmp_path / "fe_h.npz"
    return path, store.save(path, trained.packed, describe(trained, label="fe_h"), calibration)


def test_errors_from_out_of_bag_stars_cover_new_stars_also_by_magnitude(trained, calibration):
    x, y = stars(60_000, 2)
    prediction, spread = predict(trained.packed, x)
    edges = np.quantile(x[:, 0], [0.25, 0.5, 0.75])
    for width, level, slack in zip(
        calibration.errors.apply(prediction, spread, x[:, 0]), (0.6827, 0.95), (0.02, 0.01), strict=True
    ):
        hit = np.abs(prediction - y) <= width
        assert np.mean(hit) == pytest.approx(level, abs=slack)
        # 1000 training stars a bin: their own chance is 1.5 and 0.7 %.
        for number in range(4):
            assert np.mean(hit[np.searchsorted(edges, x[:, 0]) == number]) == pytest.approx(level, abs=2.2 * slack)


@pytest.mark.skipif(not SEGUE.is_file(), reason="the real SEGUE table is not there")
def test_errors_cover_the_held_out_stars_of_a_real_table():
    table = np.genfromtxt(SEGUE, delimiter=",", names=True)
    x = np.column_stack([table[name] for name in ("ug", "gr", "ri", "iz")])
    good = np.all(np.abs(x) < 10, axis=1)
    x, y = x[good].astype(np.float32), table["feh"][good]
    held_out = np.random.default_rng(3).random(len(y)) < 0.25
    names = ("u_g", "g_r", "r_i", "i_z")
    config = ForestConfig(n_estimators=50, backend="sklearn", n_jobs=2)
    forest = train(x[~held_out], y[~held_out], feature_names=names, config=config)
    told = Told(forest.oob_prediction, forest.oob_spread, y[~held_out], None, np.empty((len(forest.oob_spread), 0)))
    learned = calibrate(told, x[~held_out], settings=Errors(), feature_names=names, n_trees=50)
    prediction, spread = predict(forest.packed, x[held_out])
    residual = np.abs(prediction - y[held_out])
    err, err95 = learned.errors.apply(prediction, spread, None)
    assert np.mean(residual <= err) == pytest.approx(0.6827, abs=0.02)
    assert np.mean(residual <= err95) == pytest.approx(0.95, abs=0.01)
    outside = learned.novelty.is_novel(x[held_out])
    assert 0 < np.mean(outside) < 0.004
    assert np.median(residual[outside]) > np.median(residual[~outside])


def test_stars_that_did_not_train_calibrate_the_errors_of_noisier_ones(trained):
    """Noise that no training star has: only the further stars tell what it does."""
    rng = np.random.default_rng(8)

    def noisy(n, seed):
        x, y = stars(n, seed)
        noise = rng.exponential(0.1, (n, 1))
        x[:, 1] += noise[:, 0] * rng.normal(size=n)
        return *predict(trained.packed, x), y, x[:, 0], noise

    x, y = stars(4000, 1)
    own = Told(trained.oob_prediction, trained.oob_spread, y, x[:, 0], np.zeros((4000, 1)))
    settings = SETTINGS.model_copy(update={"noise": ("u_err",)})
    given = {"settings": settings, "feature_names": NAMES, "n_trees": 60}
    learned = calibrate(own, x, further=Told(*noisy(3000, 6)), **given).errors
    prediction, spread, y, magnitude, noise = noisy(20_000, 7)
    residual, noisiest = np.abs(y - prediction), noise[:, 0] > 0.2
    for errors, low, high in ((learned, 0.64, 0.74), (calibrate(own, x, **given).errors, 0.0, 0.55)):
        err, _ = errors.apply(prediction, spread, magnitude, noise)
        assert low < np.mean(residual[noisiest] <= err[noisiest]) < high
    assert np.mean(residual[noisiest] <= learned.apply(prediction, spread, magnitude, noise)[1][noisiest]) > 0.93
    with pytest.raises(ModelError, match=r"depend on other noise.*Needed: u_err"):
        learned.apply(prediction, spread, magnitude)


def test_errors_that_grow_with_noise_survive_the_file(tmp_path, trained):
    x, y = stars(4000, 1)
    noise = np.random.default_rng(9).exponential(0.1, (4000, 2))
    told = Told(trained.oob_prediction, trained.oob_spread, y, x[:, 0], noise)
    settings = SETTINGS.model_copy(update={"noise": ("u_err", "error/plx")})
    learned = calibrate(told, x, settings=settings, feature_names=NAMES, n_trees=60)
    path = tmp_path / "fe_h.npz"
    loaded = store.load(path, store.save(path, trained.packed, describe(trained, label="fe_h"), learned))
    assert (loaded.magnitude, loaded.noise) == ("g_0", ("u_err", "error/plx"))
    x = x[:100]
    expected = learned.errors.apply(*predict(trained.packed, x), x[:, 0], noise[:100])
    found = loaded.estimate(x, x[:, 0], noise[:100])
    np.testing.assert_array_equal((found.err, found.err95), expected)


def test_novelty_looks_at_the_inputs_that_the_settings_name(calibration):
    x, _ = stars(3, 4)
    x[0, 0], x[1, 1], x[2, 1] = 40.0, 3.0, np.nan  # a magnitude is no novelty, a colour is
    assert calibration.novelty.is_novel(x).tolist() == [False, True, False]


def test_stars_without_an_out_of_bag_prediction_or_a_magnitude_are_left_out(trained, calibration):
    spoiled = {name: getattr(trained, f"oob_{name}").copy() for name in ("prediction", "spread")}
    x, _ = stars(4000, 1)
    magnitude = x[:, 0].copy()
    spoiled["prediction"][::1000], spoiled["spread"][1::1000], magnitude[2::1000] = np.nan, np.nan, np.nan
    err, err95 = calibrated(trained, **spoiled, magnitude=magnitude).errors.apply(
        np.array([-0.5]), np.array([0.2]), np.array([16.0])
    )
    before, before95 = calibration.errors.apply(np.array([-0.5]), np.array([0.2]), np.array([16.0]))
    assert err == pytest.approx(before, rel=0.05)
    assert err95 == pytest.approx(before95, rel=0.05)


def test_too_few_stars_are_told(trained):
    few = np.full(4000, np.nan)
    few[:19] = 0.0
    with pytest.raises(InputError, match=r"too few stars to calibrate.*Seen: 19 of 4000.*Needed: at least 20"):
        calibrated(trained, prediction=few)


def test_magnitudes_must_be_given_exactly_when_the_settings_name_them(trained, calibration):
    with pytest.raises(InputError, match=r"training\.errors\.magnitude.*no values.*g_0"):
        calibrated(trained, magnitude=None)
    with pytest.raises(InputError, match=r"training\.errors\.magnitude.*Needed: none"):
        calibrated(trained, settings=Errors())
    with pytest.raises(ModelError, match=r"depend on a magnitude.*g_0"):
        calibration.errors.apply(np.zeros(1), np.ones(1), None)


# ---- on disk


def test_a_stored_model_estimates_as_the_one_in_memory(saved, trained, calibration):
    loaded = store.load(*saved)
    x, _ = stars(500, 5)
    x[:20, 1:] += 3
    prediction, spread = predict(trained.packed, x)
    estimate = loaded.estimate(x, x[:, 0])
    assert loaded.magnitude == "g_0"
    np.testing.assert_array_equal(estimate.value, prediction)
    expected = calibration.errors.apply(prediction, spread, x[:, 0])
    np.testing.assert_array_equal([estimate.err, estimate.err95], expected)
    np.testing.assert_array_equal(estimate.novel, calibration.novelty.is_novel(x))
    assert estimate.novel[:20].all()


def test_same_calibration_same_bytes_and_another_one_another_digest(saved, trained, tmp_path):
    other = tmp_path / "again.npz"
    provenance = describe(trained, label="fe_h")
    changed = calibrated(trained, SETTINGS.model_copy(update={"label_bins": 2}))
    assert store.save(other, trained.packed, provenance, calibrated(trained)) == saved[1]
    assert other.read_bytes() == saved[0].read_bytes()
    assert store.save(other, trained.packed, provenance, changed) != saved[1]


def test_a_file_without_calibration_gives_values_and_no_errors(tmp_path, trained):
    path = tmp_path / "plain.npz"
    digest = store.save(path, trained.packed, describe(trained, label="fe_h"))
    loaded = store.load(path, digest)
    x, _ = stars(10, 6)
    estimate = loaded.estimate(x)
    assert loaded.calibration is None
    assert loaded.magnitude is None
    assert np.isfinite(estimate.value).all()
    assert np.isnan([estimate.err, estimate.err95]).all()
    assert not estimate.novel.any()


def test_a_calibration_on_no_magnitude_survives_the_file(tmp_path, trained):
    path = tmp_path / "fe_h.npz"
    learned = calibrated(trained, Errors(), magnitude=None)
    store.save(path, trained.packed, describe(trained, label="fe_h"), learned)
    loaded = store.load(path)
    x, _ = stars(10, 7)
    np.testing.assert_array_equal(loaded.estimate(x).err, learned.errors.apply(*predict(trained.packed, x), None)[0])


def test_a_constant_input_has_no_axis_and_is_stored_all_the_same(tmp_path, trained):
    path = tmp_path / "fe_h.npz"
    flat = np.ones((4000, 3), dtype=np.float32)
    store.save(path, trained.packed, describe(trained, label="fe_h"), calibrated(trained, x=flat))
    assert store.load(path).calibration.novelty.is_novel(np.float32([[9, 1, 1], [1, 1.5, 1]])).tolist() == [False, True]


@pytest.mark.parametrize(
    "name, value",
    [
        ("factors", np.ones((2, 1, 1))),
        ("factors", None),
        ("columns", np.array([0, 7])),
        ("columns", np.array([0.0, 1.0])),
        ("means", np.zeros(3)),
        ("roots", np.zeros((16, 2, 3))),
        ("names", np.frombuffer(b"no json", np.uint8)),
        ("scale_floor", np.array([0.1, 0.2])),
        ("scale_noise", np.ones((1, 3))),
    ],
)
def test_a_damaged_calibration_is_refused(saved, name, value):
    with np.load(saved[0]) as members:
        arrays = {key: members[key] for key in members.files} | {f"calibration_{name}": value}
    np.savez(saved[0], **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(ModelError, match="damaged"):
        store.load(saved[0])


def test_a_calibration_is_small(saved, trained, tmp_path):
    plain = tmp_path / "plain.npz"
    store.save(plain, trained.packed, dataclasses.replace(describe(trained, label="fe_h")))
    assert saved[0].stat().st_size - plain.stat().st_size < 20_000
