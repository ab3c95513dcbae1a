"""Calibrated errors against plain loops, and on stars whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.conformal_loop import half_widths_loop, quantile_loop

from stellarscale.kernels.conformal import LEVELS, Bins, as_of_whole_forest, fit_errors, half_widths

BINS = Bins(magnitude=8, label=5, min_stars=100)


def stars(n: int, seed: int):
    """Heavy-tailed residuals that grow with magnitude and at low labels, and a spread that tells half of it."""
    rng = np.random.default_rng(seed)
    magnitude, label = rng.uniform(10, 18, n), rng.normal(0, 1, n)
    sigma = 0.02 * np.exp(0.25 * (magnitude - 10)) * (1 + 0.8 * (label < -1))
    residual = 0.7 * sigma * rng.standard_t(5, n)
    spread = 0.05 * np.sqrt(sigma / 0.05) * rng.lognormal(0, 0.2, n)
    return residual, spread, label, magnitude


def none(n: int):
    """Noise of stars whose errors do not depend on any."""
    return np.empty((n, 0))


def fit(residual, spread, label, magnitude, bins=BINS):
    return fit_errors(residual, spread, label, magnitude, none(len(label)), bins=bins)


def covered(model, residual, spread, label, magnitude):
    return [np.abs(residual) <= width for width in half_widths(model, label, spread, magnitude, none(len(label)))]


def test_intervals_cover_new_stars_overall_and_in_bins_of_magnitude_and_label():
    model = fit(*stars(20_000, 1))
    new = stars(100_000, 2)
    inside = covered(model, *new)
    for hit, level, slack in zip(inside, LEVELS, (0.02, 0.01), strict=True):
        assert np.mean(hit) == pytest.approx(level, abs=slack / 2)
        for quantity in (new[3], new[2]):
            edges = np.quantile(quantity, [0.2, 0.4, 0.6, 0.8])
            for number in range(5):
                mine = np.searchsorted(edges, quantity) == number
                assert np.mean(hit[mine]) == pytest.approx(level, abs=slack)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(40, 600),
    bins=st.builds(Bins, st.integers(1, 6), st.integers(1, 6), st.integers(20, 150)),
)
def test_exchangeable_stars_are_covered_within_chance(seed, n, bins):
    rng = np.random.default_rng(seed)
    residual, spread = rng.standard_cauchy(n + 4000), rng.gamma(2.0, size=n + 4000)
    label, magnitude = rng.normal(size=n + 4000), rng.normal(size=n + 4000)
    arrays = (residual, spread, label, magnitude)
    model = fit(*(array[:n] for array in arrays), bins)
    for hit, level in zip(covered(model, *(array[n:] for array in arrays)), LEVELS, strict=True):
        # Chance of the calibration stars, of which interpolation and cells use up some, and of the new ones.
        chance = np.sqrt(level * (1 - level) * (1 / n + 1 / 4000))
        assert abs(np.mean(hit) - level) < 5.5 * chance + 0.03


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bins=st.builds(Bins, st.integers(1, 5), st.integers(1, 5), st.just(20)))
def test_half_widths_equal_the_plain_loop(seed, bins):
    rng = np.random.default_rng(seed)
    model = fit_errors(*stars(1600, seed), rng.gamma(2.0, size=(1600, 2)), bins=bins)
    prediction, spread, magnitude = rng.normal(0, 2, 50), rng.gamma(2.0, size=50), rng.uniform(8, 20, 50)
    noise = rng.gamma(2.0, size=(50, 2))
    for array in (prediction, spread, magnitude, noise[:, 0]):
        array[rng.integers(0, 50, 5)] = np.nan
    prediction[:5], magnitude[:5] = model.label[0], model.magnitude[-1]
    expected = half_widths_loop(model, prediction, spread, magnitude, noise)
    found = half_widths(model, prediction, spread, magnitude, noise)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    known = np.isfinite(found[0])
    assert np.all(found[1][known] >= found[0][known])
    assert np.all(found[0][known] >= 0)


@given(st.lists(st.floats(0, 100), min_size=20, max_size=60), st.sampled_from(LEVELS))
def test_one_cell_takes_the_conformal_quantile_of_all_stars(values, level):
    residual, spread = np.array(values), np.ones(len(values))
    model = fit(residual, spread, np.zeros(len(values)), np.zeros(len(values)))
    width = half_widths(model, np.zeros(1), np.ones(1), np.zeros(1), none(1))[LEVELS.index(level)][0]
    assert width == pytest.approx(max(quantile_loop(residual, level), 0.0), rel=1e-9, abs=1e-12)


def test_a_star_without_magnitude_takes_the_factor_of_all_and_one_without_prediction_gets_no_error():
    model = fit(*stars(2000, 3))
    prediction, spread = np.array([0.0, np.nan, 0.0]), np.array([0.1, 0.1, np.nan])
    err, err95 = half_widths(model, prediction, spread, np.array([np.nan, 14.0, 14.0]), none(3))
    scale = np.sqrt(model.scale.spread * 0.1**2 + model.scale.floor)
    np.testing.assert_allclose([err[0], err95[0]], scale * model.overall)
    assert np.isnan([err[1:], err95[1:]]).all()


def test_few_stars_make_few_bins_and_many_make_as_many_as_asked():
    few, many = fit(*stars(250, 4)), fit(*stars(20_000, 4))
    assert few.factors.shape == (2, 2, 2)
    assert many.factors.shape == (2, 8, 5)


def test_cells_without_enough_stars_borrow_from_their_magnitude_and_label():
    residual, spread, label, magnitude = stars(4000, 5)
    label = magnitude + 0.01 * label  # only the diagonal cells are filled
    model = fit(residual, spread, label, magnitude)
    factors = model.factors[0]
    corner = factors[0, -1] * factors[-1, 0]
    assert np.isfinite(factors).all()
    assert corner == pytest.approx(factors[0, 1] * factors[-1, 0] * factors[0, -1] / factors[0, 1])
    assert np.all(factors > 0)


@pytest.mark.parametrize("residual", [np.zeros(50), np.full(50, 2.0)])
def test_spreads_of_zero_give_finite_errors(residual):
    zero = np.zeros(50)
    model = fit(residual, zero, zero, zero)
    err, err95 = half_widths(model, zero, zero, zero, none(50))
    np.testing.assert_allclose(err, residual)
    np.testing.assert_allclose(err95, residual)


def test_out_of_bag_residuals_are_made_as_small_as_those_of_the_whole_forest():
    rng = np.random.default_rng(7)
    n, n_trees = 20_000, 30
    truth = rng.normal(0, 1, n)
    trees = truth[:, None] + rng.normal(0, 1.0, (n, 1)) + rng.normal(0, 2.0, (n, n_trees))
    out_of_bag = rng.random((n, n_trees)) < np.exp(-1)
    mean = np.where(out_of_bag, trees, 0).sum(axis=1) / np.maximum(out_of_bag.sum(axis=1), 1)
    made = as_of_whole_forest(mean - truth, trees.std(axis=1), n_trees)
    whole = trees.mean(axis=1) - truth
    assert np.std(mean - truth) > 1.05 * np.std(whole)
    assert np.std(made) == pytest.approx(np.std(whole), rel=0.02)


def test_intervals_grow_with_noise_beyond_the_magnitudes_of_the_calibration_stars():
    """Calibrated where few stars are noisy, applied to stars that all are: what the cuts of a training sample do."""
    rng = np.random.default_rng(9)

    def noisy(n, magnitude):
        noise = np.column_stack([0.01 * 10 ** (0.2 * (magnitude - 14)), rng.exponential(0.05, n)])
        sigma = np.sqrt(0.1**2 + (3 * noise[:, 0]) ** 2 + (2 * noise[:, 1]) ** 2)
        return sigma * rng.normal(size=n), rng.normal(0.08, 0.01, n), rng.normal(size=n), magnitude, noise

    residual, spread, label, magnitude, noise = noisy(20_000, 18 - rng.exponential(1.5, 20_000))
    model = fit_errors(residual, spread, label, magnitude, noise, bins=BINS)
    residual, spread, label, magnitude, noise = noisy(20_000, rng.uniform(18, 20, 20_000))
    blind = fit(*noisy(20_000, 18 - rng.exponential(1.5, 20_000))[:4])
    assert np.mean(covered(blind, residual, spread, label, magnitude)[0]) < 0.58
    for width, level, slack in zip(
        half_widths(model, label, spread, magnitude, noise), LEVELS, (0.03, 0.015), strict=True
    ):
        assert np.mean(np.abs(residual) <= width) == pytest.approx(level, abs=slack)


def test_the_order_of_the_stars_does_not_matter():
    arrays = stars(3000, 8)
    order = np.random.default_rng(8).permutation(3000)
    one, other = fit(*arrays), fit(*(array[order] for array in arrays))
    np.testing.assert_allclose(one.factors, other.factors, rtol=1e-3)  # as far as the fit of the scale converges
