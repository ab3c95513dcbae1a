"""The map of a stamp's pixels: the way by the tangent planes against the way by the sky, and the fitted polynomials."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.stamp_loop import cutout_wcs

from stellarscale.kernels.stamp_map import (
    N_POINTS,
    find_points,
    fit_map,
    largest_error,
    reference_points,
    row_of_map,
    turn_between,
)
from stellarscale.kernels.tpv import pixel_to_sky, sky_to_pixel

NODES = np.linspace(-1, 1, N_POINTS)


def cubic(rng, size):
    """A cubic map and its values at given places from -1 to 1."""
    coefficients = rng.normal(size=(2, 4, 4)) * size
    coefficients[:, np.add.outer(np.arange(4), np.arange(4)) > 3] = 0

    def values(s, t):
        s, t = np.broadcast_arrays(s, t)
        return np.array([np.polynomial.polynomial.polyval2d(s, t, each) for each in coefficients])

    return coefficients, values


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), dec=st.sampled_from([-89.99, -45.0, 0.0, 89.9]), ra=st.sampled_from([0.0, 200.0])
)
def test_no_angles_are_needed(seed, dec, ra):
    rng = np.random.default_rng(seed)
    reference, other = (cutout_wcs(rng, ra, dec, (29, 30), distortion_px=5, order=4) for _ in range(2))
    x, y = np.meshgrid(5 + 23.5 * (NODES + 1), 6 + 23.5 * (NODES + 1))
    points = np.empty((2, N_POINTS, N_POINTS))
    ahead = reference_points((reference.crpix, reference.crval, reference.cd, reference.pv), (5.0, 6.0), 23.5)
    turn = turn_between(other.crval, reference.crval)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-15)
    find_points(ahead, (other.crpix, other.crval, other.cd, other.pv), turn, points)
    np.testing.assert_allclose(points, sky_to_pixel(other, *pixel_to_sky(reference, x, y)), atol=3e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size_px=st.integers(2, 60), size=st.floats(1e-3, 100))
def test_a_cubic_map_is_met_at_every_pixel(seed, size_px, size):
    _, values = cubic(np.random.default_rng(seed), size)
    points = values(NODES[:, None], NODES[None, :])
    fit = fit_map(points)
    assert largest_error(fit, points, 3) < 1e-12 * max(size, 1)
    half = 0.5 * (size_px - 1)
    place = (np.arange(size_px) - half) / half
    columns, rows = np.empty(size_px), np.empty(size_px)
    for s in place[:: max(size_px // 5, 1)]:
        row_of_map(fit, s, half, columns, rows)
        np.testing.assert_allclose((columns, rows), values(s, place), atol=1e-12 * max(size, 1))


def test_the_lower_degrees_of_the_fit_are_those_of_least_squares():
    rng = np.random.default_rng(4)
    _, values = cubic(rng, 1.0)
    points = values(NODES[:, None], NODES[None, :]) + rng.normal(size=(2, N_POINTS, N_POINTS))
    s, t = (each.ravel() for each in np.meshgrid(NODES, NODES, indexing="ij"))
    there = points.reshape(2, -1).T
    for degree, n_terms in ((1, 3), (3, 10)):
        design = np.stack([s**b * t**a for b in range(degree + 1) for a in range(degree + 1 - b)], axis=1)
        assert design.shape[1] == n_terms
        error = there - design @ np.linalg.lstsq(design, there, rcond=None)[0]
        assert largest_error(fit_map(points), points, degree) == pytest.approx(np.hypot(*error.T).max(), rel=1e-10)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_point_without_a_place_is_an_infinite_error(value):
    points = np.stack(np.meshgrid(NODES, NODES))
    points[1, 2, 3] = value
    assert largest_error(fit_map(points), points, 1) == np.inf
