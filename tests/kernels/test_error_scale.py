"""The scale of residuals: coefficients that are known, and what is not noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.conformal_loop import scale_loop

from stellarscale.kernels.error_scale import ScaleModel, fit_scale, scale_of


def test_coefficients_come_back_from_residuals_that_have_them():
    rng = np.random.default_rng(1)
    n = 60_000
    spread, noise, magnitude = rng.gamma(4, 0.05, n), rng.exponential(0.1, (n, 2)), np.full(n, 15.0)
    scale = np.sqrt((0.8 * spread) ** 2 + 0.1**2 + (2 * noise[:, 0]) ** 2)
    model = fit_scale(rng.laplace(scale=scale / np.sqrt(2)), spread, magnitude, noise)
    assert model.spread**0.5 == pytest.approx(0.8, abs=0.04)
    assert model.floor**0.5 == pytest.approx(0.1, abs=0.01)
    assert model.noise[0, 0] ** 0.5 == pytest.approx(2.0, rel=0.03)
    assert model.noise[0, 1] ** 0.5 < 0.15
    np.testing.assert_allclose(scale_of(model, spread, magnitude, noise), scale, rtol=0.1)


def test_a_noise_may_matter_to_bright_stars_only():
    rng = np.random.default_rng(2)
    n = 40_000
    magnitude, noise = rng.uniform(10, 18, n), rng.exponential(0.1, (n, 1))
    scale = np.sqrt(0.05**2 + (3 * noise[:, 0] * (magnitude < 14)) ** 2)
    model = fit_scale(scale * rng.normal(size=n), np.full(n, 0.05), magnitude, noise)
    assert model.noise[0, 0] > 50 * model.noise[-1, 0]


def test_a_spread_that_tells_nothing_weighs_nothing_and_an_honest_one_everything():
    rng = np.random.default_rng(6)
    spread, flat, none = rng.lognormal(0, 1, 5000), np.zeros(5000), np.empty((5000, 0))
    honest = fit_scale(spread * rng.laplace(size=5000), spread, flat, none)
    useless = fit_scale(rng.laplace(size=5000), spread, flat, none)
    assert honest.floor < 0.01 * honest.spread
    assert useless.floor > 20 * useless.spread


@pytest.mark.parametrize("residual", [np.zeros(40), np.ones(40)])
def test_spreads_and_noise_of_zero_give_a_finite_scale(residual):
    zero = np.zeros(40)
    model = fit_scale(residual, zero, zero, np.zeros((40, 2)))
    assert np.all(np.isfinite(model.noise))
    scale = scale_of(model, zero, zero, np.ones((40, 2)))
    assert np.all(np.isfinite(scale) & (scale > 0))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), q=st.integers(1, 4), k=st.integers(0, 3))
def test_scale_equals_the_plain_loop(seed, q, k):
    rng = np.random.default_rng(seed)
    model = ScaleModel(rng.gamma(1.0), rng.gamma(1.0), np.sort(rng.uniform(10, 18, q)), rng.gamma(1.0, size=(q, k)))
    spread, magnitude, noise = rng.gamma(2.0, size=40), rng.uniform(8, 20, 40), rng.gamma(2.0, size=(40, k))
    magnitude[:4], magnitude[4] = np.nan, model.nodes[-1]
    expected = [scale_loop(model, *star) for star in zip(spread, magnitude, noise, strict=True)]
    np.testing.assert_allclose(scale_of(model, spread, magnitude, noise), expected, rtol=1e-12)


def test_same_stars_same_coefficients_to_the_last_bit():
    rng = np.random.default_rng(3)
    arrays = rng.normal(size=3000), rng.gamma(2.0, size=3000), rng.uniform(10, 18, 3000), rng.gamma(2.0, size=(3000, 3))
    one, other = fit_scale(*arrays), fit_scale(*arrays)
    assert (one.spread, one.floor) == (other.spread, other.floor)
    np.testing.assert_array_equal(one.noise, other.noise)
