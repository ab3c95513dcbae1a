"""Robust statistics against numpy, plain loops and samples of known mean and sigma."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stellarscale.kernels.stats import binned, coverage, gaussian_fit, robust_sigma

FINITE = st.floats(-1e6, 1e6, allow_nan=False, width=64)


def test_robust_sigma_of_a_gaussian_is_its_sigma():
    x = np.random.default_rng(1).normal(3.0, 0.25, 200_000)
    assert robust_sigma(x) == pytest.approx(0.25, rel=0.01)


def test_robust_sigma_by_hand():
    assert robust_sigma([1.0, 2.0, 3.0, 4.0, 100.0]) == pytest.approx(1.4826)


def test_robust_sigma_hardly_moves_with_outliers():
    rng = np.random.default_rng(2)
    core = rng.normal(0, 1, 50_000)
    spoiled = np.concatenate([core, np.full(500, 1e6)])
    assert robust_sigma(spoiled) == pytest.approx(robust_sigma(core), rel=0.03)
    assert np.std(spoiled) > 1e4


@given(arrays(np.float64, st.integers(1, 60), elements=FINITE), st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_robust_sigma_shifts_and_scales(x, shift, scale):
    expected = scale * robust_sigma(x)
    assert robust_sigma(shift + scale * x) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("bad", [[], [np.nan], [1.0, np.inf]])
def test_no_values_or_not_finite_ones_are_refused(bad):
    with pytest.raises(ValueError):
        robust_sigma(bad)
    with pytest.raises(ValueError):
        gaussian_fit(bad)


@pytest.mark.parametrize("mean, sigma", [(0.0, 1.0), (-0.03, 0.09), (12.0, 70.0), (5772.0, 1e-3)])
def test_the_fit_finds_mean_and_sigma(mean, sigma):
    x = np.random.default_rng(3).normal(mean, sigma, 100_000)
    fit = gaussian_fit(x)
    assert fit.converged
    assert fit.mean == pytest.approx(mean, abs=0.02 * sigma)
    assert fit.sigma == pytest.approx(sigma, rel=0.02)
    assert fit.area == pytest.approx(100_000, rel=0.02)
    assert fit.n == 100_000
    assert fit.n_used <= fit.n


def test_the_fit_agrees_with_the_sample_moments():
    x = np.random.default_rng(4).normal(1.0, 2.0, 50_000)
    fit = gaussian_fit(x)
    assert fit.mean == pytest.approx(np.mean(x), abs=0.05)
    assert fit.sigma == pytest.approx(np.std(x), rel=0.03)


def test_outliers_do_not_move_the_fit_but_do_move_the_moments():
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(0.0, 0.1, 20_000), rng.uniform(1, 5, 1000)])
    fit = gaussian_fit(x)
    assert abs(fit.mean) < 0.005
    assert fit.sigma == pytest.approx(0.1, rel=0.03)
    assert fit.area == pytest.approx(20_000, rel=0.03)
    assert np.mean(x) > 0.1
    assert np.std(x) > 0.5


def test_the_fit_measures_the_core_of_a_double_gaussian():
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(0, 1, 90_000), rng.normal(0, 6, 10_000)])
    assert gaussian_fit(x).sigma == pytest.approx(1.0, rel=0.08)
    assert np.std(x) > 1.9


def test_bins_do_not_widen_the_fit():
    x = np.random.default_rng(7).normal(0, 1, 400_000)
    assert gaussian_fit(x, max_bins=10).sigma == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("n", [1, 2, 19])
def test_few_values_give_median_and_robust_sigma(n):
    x = np.arange(n, dtype=np.float64)
    fit = gaussian_fit(x)
    assert not fit.converged
    assert fit.mean == np.median(x)
    assert fit.sigma == robust_sigma(x)
    assert (fit.n, fit.n_used) == (n, n)


def test_equal_values_do_not_converge():
    fit = gaussian_fit(np.full(1000, 7.0))
    assert (fit.mean, fit.sigma, fit.converged) == (7.0, 0.0, False)


def test_two_far_peaks_give_a_finite_answer():
    x = np.concatenate([np.full(500, -1.0), np.full(500, 1.0)])
    fit = gaussian_fit(x)
    assert math.isfinite(fit.mean)
    assert math.isfinite(fit.sigma)


@given(arrays(np.float64, st.integers(1, 200), elements=FINITE))
def test_the_fit_always_answers_inside_the_data(x):
    fit = gaussian_fit(x)
    assert math.isfinite(fit.sigma)
    assert fit.sigma >= 0
    reach = 4 * robust_sigma(x)
    assert np.median(x) - reach <= fit.mean <= np.median(x) + reach
    assert fit.n_used <= fit.n == len(x)


def test_the_fit_does_not_depend_on_the_order_or_the_float_type():
    x = np.random.default_rng(8).normal(0, 1, 5000).astype(np.float32)
    fit = gaussian_fit(x)
    assert gaussian_fit(x[::-1].astype(np.float64)) == fit


def test_binned_against_a_plain_loop():
    rng = np.random.default_rng(9)
    x, edges = rng.uniform(-1, 11, 3000), np.array([0.0, 1.0, 2.5, 7.0, 10.0])
    y = 0.3 * x + rng.normal(0, 0.5, 3000)
    result = binned(x, y, edges)
    for i in range(4):
        inside = y[(x >= edges[i]) & (x < edges[i + 1])]
        assert result.count[i] == len(inside)
        assert result.bias[i] == np.median(inside)
        assert result.sigma[i] == robust_sigma(inside)
    np.testing.assert_allclose(result.centres, [0.5, 1.75, 4.75, 8.5])


def test_edges_belong_to_the_bin_above_and_the_last_to_the_last():
    result = binned([0.0, 1.0, 2.0, 2.0001, -1e-9], np.ones(5), [0.0, 1.0, 2.0], min_count=1)
    assert result.count.tolist() == [1, 2]


def test_thin_bins_are_nan():
    result = binned([0.5, 0.6, 1.5], [1.0, 3.0, 9.0], [0, 1, 2, 3], min_count=2)
    assert result.count.tolist() == [2, 1, 0]
    assert result.bias[0] == 2.0
    assert np.isnan(result.bias[1:]).all()
    assert np.isnan(result.sigma[1:]).all()


def test_binned_of_nothing():
    result = binned([], [], [0, 1])
    assert result.count.tolist() == [0]
    assert np.isnan(result.bias).all()


@given(st.lists(st.floats(-5, 5), max_size=50))
def test_every_value_between_the_edges_is_counted_once(values):
    result = binned(values, values, np.linspace(-3, 3, 7), min_count=1)
    assert result.count.sum() == sum(-3 <= value <= 3 for value in values)


@pytest.mark.parametrize("edges", [[0.0], [0.0, 0.0], [1.0, 0.0], [0.0, np.nan]])
def test_edges_must_increase(edges):
    with pytest.raises(ValueError, match="increasing"):
        binned([0.5], [0.5], edges)


def test_binned_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="same length"):
        binned([0.5, 1.0], [0.5], [0, 1])


@pytest.mark.parametrize("level", [0.5, 0.6827, 0.9545])
def test_honest_errors_give_the_level_back(level):
    rng = np.random.default_rng(10)
    error = rng.uniform(0.1, 5, 100_000)
    assert coverage(rng.normal(0, error), error, level) == pytest.approx(level, abs=0.006)


def test_small_errors_cover_too_little_and_large_ones_too_much():
    residual = np.random.default_rng(11).normal(0, 1, 10_000)
    assert coverage(residual, np.full(10_000, 0.5), 0.6827) < 0.4
    assert coverage(residual, np.full(10_000, 2.0), 0.6827) > 0.94


def test_coverage_by_hand():
    assert coverage([0.0, 0.9, -0.9, 1.1], np.ones(4), 0.6827) == 0.75
    assert coverage([0.0, 1.0], [0.0, 0.0], 0.5) == 0.5


@pytest.mark.parametrize(
    "residual, error, level, says",
    [
        ([1.0], [-1.0], 0.5, "negative"),
        ([1.0], [1.0], 1.0, "level"),
        ([1.0], [1.0], 0.0, "level"),
        ([1.0, 2.0], [1.0], 0.5, "same length"),
        ([], [], 0.5, "no values"),
        ([np.nan], [1.0], 0.5, "finite"),
    ],
)
def test_coverage_refuses_what_makes_no_sense(residual, error, level, says):
    with pytest.raises(ValueError, match=says):
        coverage(residual, error, level)
