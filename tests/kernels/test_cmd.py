from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.kernels.cmd import colour_bins, fit_branch, in_band, offset_from


def branch_stars(n, coefficients, colours, sigma=0.4, seed=0):
    """Stars along a polynomial, most of them blue: inside a bin the mean colour is not the centre."""
    rng = np.random.default_rng(seed)
    x = colours[0] + (colours[1] - colours[0]) * rng.beta(1.2, 3.0, n)
    y = np.polynomial.polynomial.polyval(x, coefficients) + rng.normal(0, sigma, n)
    return x, y


def plain_bins(x, y, width, origin):
    """The same means by a plain loop."""
    members: dict[int, list[int]] = {}
    for place, value in enumerate(x):
        members.setdefault(int(np.floor((value - origin) / width)), []).append(place)
    rows = []
    for number in sorted(members):
        inside = members[number]
        sigma = np.std(y[inside], ddof=1) if len(inside) > 1 else np.nan
        rows.append((origin + width * number, np.mean(x[inside]), np.mean(y[inside]), sigma, len(inside)))
    return np.array(rows).reshape(-1, 5).T


pairs = st.lists(st.tuples(st.floats(-4, 6), st.floats(-10, 20)), max_size=60)


@given(pairs, st.sampled_from([0.1, 0.5, 2.0]), st.sampled_from([0.0, 1.25, -0.3]))
def test_bins_equal_a_plain_loop(stars, width, origin):
    x, y = np.array(stars, dtype=float).reshape(-1, 2).T
    bins = colour_bins(x, y, width=width, origin=origin, min_count=3)
    low, colour, mean, sigma, count = plain_bins(x, y, width, origin)
    np.testing.assert_allclose(bins.low, low, atol=1e-12)
    np.testing.assert_allclose(bins.high, bins.low + width, atol=1e-12)
    np.testing.assert_allclose(bins.colour, colour, atol=1e-9)
    np.testing.assert_allclose(bins.mean, mean, atol=1e-9)
    np.testing.assert_allclose(bins.sigma, sigma, atol=1e-7)
    np.testing.assert_array_equal(bins.count, count)
    np.testing.assert_array_equal(bins.used, bins.count >= 3)


@pytest.mark.parametrize("width", [0.2, 0.5, 1.0])
def test_a_line_is_recovered_whatever_the_bins_though_stars_crowd_at_one_end(width):
    x, y = branch_stars(60_000, (2.0, 2.8), (1.6, 4.2))
    bins = colour_bins(x, y, width=width, min_count=50)
    fit = fit_branch(bins, degree=1, half_width=0.4)
    inner = np.linspace(1.7, 3.5, 10)
    np.testing.assert_allclose(np.polynomial.polynomial.polyval(inner, fit.coefficients), 2.0 + 2.8 * inner, atol=0.05)
    assert in_band(fit, x, y).mean() == pytest.approx(0.683, abs=0.02)


def test_the_half_width_can_be_the_mean_sigma_of_the_bins_used():
    x, y = branch_stars(20_000, (2.0, 0.0), (1.0, 3.0))
    bins = colour_bins(x, y, width=0.5, min_count=500)
    fit = fit_branch(bins, degree=1, half_width=None)
    assert fit.half_width == pytest.approx(0.4, rel=0.05)
    assert fit.half_width == pytest.approx(bins.sigma[bins.count >= 500].mean())


def test_a_cubic_is_recovered():
    truth = (-1.0, -2.0, 1.1, -0.15)
    x, y = branch_stars(40_000, truth, (1.25, 4.0), sigma=0.3)
    fit = fit_branch(colour_bins(x, y, width=0.25, origin=1.25, min_count=30), degree=3, half_width=0.8)
    inner = np.linspace(1.4, 3.4, 10)
    expected = np.polynomial.polynomial.polyval(inner, truth)
    np.testing.assert_allclose(np.polynomial.polynomial.polyval(inner, fit.coefficients), expected, atol=0.06)
    assert fit.half_width == 0.8
    assert len(fit.coefficients) == 4


def test_a_cubic_through_points_on_a_line_keeps_its_four_coefficients():
    x = np.repeat([0.25, 0.75, 1.25, 1.75, 2.25], 4)
    fit = fit_branch(colour_bins(x, 3.0 + 2.0 * x, width=0.5), degree=3, half_width=0.5)
    np.testing.assert_allclose(fit.coefficients, (3.0, 2.0, 0.0, 0.0), atol=1e-9)


def test_sparse_bins_take_no_part_and_the_band_ends_with_the_fit():
    x = np.concatenate([np.full(30, 1.1), np.full(30, 1.6), np.full(30, 2.1), [3.3]])
    y = np.concatenate([np.linspace(-0.1, 0.1, 30) + c for c in (5.0, 6.0, 7.0)] + [np.array([50.0])])
    bins = colour_bins(x, y, width=0.5, min_count=20)
    assert bins.used.tolist() == [True, True, True, False]
    assert np.isnan(bins.sigma[3])
    fit = fit_branch(bins, degree=1, half_width=0.8)
    assert fit.colour == (1.0, 2.5)
    np.testing.assert_allclose(fit.coefficients, (2.8, 2.0), atol=1e-9)
    inside = in_band(fit, np.array([2.5, 2.6, np.nan, 1.5]), np.array([7.8, 8.0, 6.0, np.nan]))
    assert inside.tolist() == [True, False, False, False]
    assert np.isnan(offset_from(fit, np.array([0.9]), np.array([4.6])))[0]


def test_too_few_bins_are_refused_with_their_number():
    bins = colour_bins(np.repeat([0.2, 0.7, 1.2], 30), np.zeros(90), width=0.5, min_count=20)
    with pytest.raises(ValueError, match="degree 3 needs 4 bins, not 3"):
        fit_branch(bins, degree=3, half_width=0.8)
    with pytest.raises(ValueError, match="no spread"):
        fit_branch(bins, degree=1, half_width=None)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        colour_bins(np.array([1.0, bad]), np.array([1.0, 2.0]), width=0.5)
    with pytest.raises(ValueError, match="one length"):
        colour_bins(np.array([1.0]), np.array([1.0, 2.0]), width=0.5)
