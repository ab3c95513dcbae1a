"""Errors from repeat observations: Eq. 1, the steps, the curve, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stellarscale.errors import InputError
from stellarscale.kernels.repeats import RepeatConfig, RepeatErrors, deviations, fit_repeats
from stellarscale.settings.spectral_errors import RepeatSettings

FLOOR, NOISE = np.array([40.0, 0.05, 0.08]), np.array([800.0, 1.2, 2.0])


def sky(n_stars, seed=0):
    """Stars of 1 to 6 observations whose errors follow the curve."""
    rng = np.random.default_rng(seed)
    star = np.repeat(np.arange(n_stars), rng.integers(1, 7, n_stars))
    snr = rng.uniform(5, 100, len(star))
    truth = rng.uniform([3000, 4, -1], [4000, 5, 0.5], (n_stars, 3))
    return truth[star] + rng.normal(size=(len(star), 3)) * np.hypot(FLOOR, NOISE / snr[:, None]), snr, star


def test_deviations_by_hand():
    labels = np.array([[1.0], [2.0], [6.0], [5.0], [9.0], [4.0]])
    found = deviations(labels, np.full(6, 20.0), np.array(list("aaabbc")))
    assert found.values[:, 0] == pytest.approx(np.sqrt(1.5) * np.array([-2.0, -1.0, 3.0]))
    assert (found.n_stars, len(found.snr)) == (1, 3)


def test_a_noisy_companion_lowers_the_snr_that_a_deviation_belongs_to():
    equal = deviations(np.zeros((3, 1)), np.full(3, 30.0), np.zeros(3, int))
    assert equal.snr == pytest.approx(30.0)
    unequal = deviations(np.zeros((3, 1)), np.array([12.0, 60.0, 60.0]), np.zeros(3, int)).snr
    assert 12.0 < unequal[0] < unequal[1] < 60.0


def test_low_snr_and_missing_labels_do_not_count():
    labels = np.array([[1.0], [2.0], [3.0], [np.nan]])
    found = deviations(labels, np.array([20.0, 20.0, 9.0, 20.0]), np.zeros(4, int), config=RepeatConfig(2))
    assert found.values[:, 0] == pytest.approx(np.sqrt(2) * np.array([-0.5, 0.5]))


def test_the_curve_is_recovered():
    fitted = fit_repeats(*sky(6000))
    for snr in (12.0, 30.0, 90.0):
        assert fitted.errors([snr])[0] == pytest.approx(np.hypot(FLOOR, NOISE / snr), rel=0.08)
    assert np.all(np.diff(fitted.snr) > 0)
    assert np.median(np.diff(fitted.snr)) == pytest.approx(5.0, abs=0.6)
    assert fitted.step_count.sum() == fitted.n_spectra


def test_calibrated_errors_cover_the_truth():
    labels, snr, star = sky(6000)
    fitted = fit_repeats(labels, snr, star)
    fresh = np.random.default_rng(5).normal(size=(20_000, 3)) * np.hypot(FLOOR, NOISE / 25.0)
    inside = np.abs(fresh) < fitted.errors(np.full(20_000, 25.0))
    assert inside.mean(axis=0) == pytest.approx(0.683, abs=0.03)


def test_errors_never_rise_with_snr_and_need_one():
    found = fit_repeats(*sky(1000)).errors([1.0, 5.0, 50.0, 1e4, np.nan, 0.0, -3.0])
    assert np.all(np.diff(found[:4], axis=0) <= 0)
    assert np.isnan(found[4:]).all()


def test_sparse_steps_join_their_neighbours():
    labels, snr, star = sky(60)
    fitted = fit_repeats(labels, snr, star)
    assert fitted.step_count.min() >= 30
    assert fitted.step_count.sum() == fitted.n_spectra


def test_json_keeps_everything():
    fitted = fit_repeats(*sky(300))
    back = RepeatErrors.from_json(json.loads(json.dumps(fitted.to_json())))
    assert np.array_equal(back.errors([7.0, 70.0]), fitted.errors([7.0, 70.0]))
    assert back.to_json() == fitted.to_json()


def test_too_few_repeats_are_counted():
    labels, snr, _ = sky(100)
    with pytest.raises(InputError, match=r"0 spectra of 0 stars.*3 or more observations of S/N >= 10"):
        fit_repeats(labels, snr, np.arange(len(snr)))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="do not belong together"):
        deviations(np.zeros((3, 1)), np.zeros(2), np.zeros(3))


def test_settings_give_the_configuration():
    assert RepeatSettings().config == RepeatConfig()
    with pytest.raises(ValueError):
        RepeatSettings(min_observations=1)
