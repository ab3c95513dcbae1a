"""Cluster and field are told apart as they were drawn; a field without a cluster gives none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarscale.kernels.clusters import fit_motions, on_ridge, same_parallax

CENTRE = (-2.6, -4.7)


def sky(members, field, *, seed=1, sigma=0.1, centre=CENTRE):
    """Motions and errors (n, 2) of a cluster and the field around it, members first."""
    rng = np.random.default_rng(seed)
    true = np.concatenate([rng.normal(centre, sigma, (members, 2)), rng.normal([-1.0, -2.0], [4.0, 3.0], (field, 2))])
    error = rng.uniform(0.02, 0.25, true.shape)
    return true + rng.normal(0, error), error


def test_members_are_told_from_the_field():
    motion, error = sky(150, 600)
    fit = fit_motions(motion, error, (-2.7, -4.6))
    chosen = fit.probability > 0.7
    assert fit.converged
    np.testing.assert_allclose(fit.mean, CENTRE, atol=0.05)
    assert fit.sigma == pytest.approx(0.1, abs=0.03)
    assert fit.share == pytest.approx(0.2, abs=0.03)
    assert chosen[:150].mean() > 0.9
    assert chosen[150:].mean() < 0.03


def test_the_probabilities_add_up_to_the_members():
    motion, error = sky(100, 400, seed=4)
    fit = fit_motions(motion, error, CENTRE)
    assert fit.probability.sum() == pytest.approx(100, abs=12)


def test_noise_of_the_stars_is_not_taken_for_the_dispersion():
    rng = np.random.default_rng(2)
    motion, error = sky(400, 50, sigma=0.0)
    error[:] = 0.2
    motion[:400] = CENTRE + rng.normal(0, 0.2, (400, 2))
    assert fit_motions(motion, error, CENTRE).sigma < 0.07


def test_hardly_any_field_star_leaves_the_cluster_whole():
    motion, error = sky(150, 1)
    fit = fit_motions(motion, error, CENTRE)
    assert fit.converged
    assert (fit.probability[:150] > 0.7).all()


def test_a_field_alone_is_no_cluster():
    motion, error = sky(0, 800, seed=3)
    fit = fit_motions(motion, error, (3.4, 4.0))
    assert not fit.converged or (fit.probability > 0.7).sum() < 20


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), shift=st.floats(-20, 20), members=st.integers(40, 200))
def test_the_fit_moves_with_the_sky(seed, shift, members):
    motion, error = sky(members, 300, seed=seed)
    here = fit_motions(motion, error, CENTRE)
    there = fit_motions(motion + shift, error, (CENTRE[0] + shift, CENTRE[1] + shift))
    assert here.probability.min() >= 0
    assert here.probability.max() <= 1
    np.testing.assert_allclose(there.mean - shift, here.mean, atol=1e-4)
    np.testing.assert_allclose(there.probability, here.probability, atol=1e-3)


@pytest.mark.parametrize(
    "motion, error, message",
    [
        (np.zeros((10, 2)), np.zeros((9, 2)), "shape"),
        (np.zeros((4, 2)), np.ones((4, 2)), "too few"),
        (np.full((10, 2), np.nan), np.ones((10, 2)), "finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(motion, error, message):
    with pytest.raises(ValueError, match=message):
        fit_motions(motion, error, CENTRE)


def test_parallaxes_agree_with_the_members_not_with_a_zero_point():
    parallax = np.array([0.50, 0.52, 0.48, 0.50, 5.0, np.nan])
    agree = same_parallax(parallax, np.full(6, 0.05), np.array([True] * 4 + [False] * 2), sigmas=3.0)
    assert agree.tolist() == [True, True, True, True, False, True]
    assert same_parallax(parallax, np.full(6, 0.05), np.zeros(6, bool), sigmas=3.0).all()


def test_stars_off_the_ridge_line_are_left_out():
    rng = np.random.default_rng(5)
    magnitude = rng.uniform(12, 17, 300)
    colour = 0.2 * (magnitude - 10) + rng.normal(0, 0.02, 300)
    colour[::30] += 0.6
    keep, ridge = on_ridge(colour, magnitude, sigmas=4.0)
    assert not keep[::30].any()
    assert keep.sum() >= 285
    clean = np.delete(np.arange(300), np.arange(0, 300, 30))
    np.testing.assert_allclose(ridge[clean], 0.2 * (magnitude[clean] - 10), atol=0.15)


def test_a_wide_part_of_the_sequence_is_kept():
    rng = np.random.default_rng(6)
    magnitude = np.concatenate([np.full(60, 13.0) + rng.normal(0, 0.05, 60), rng.uniform(14, 17, 200)])
    level = np.linspace(0.6, 1.1, 60)  # a subgiant branch: every colour at one magnitude
    colour = np.concatenate([level, 0.15 * (magnitude[60:] - 10) + rng.normal(0, 0.02, 200)])
    keep, _ = on_ridge(colour, magnitude, sigmas=4.0)
    assert keep[:60].mean() > 0.9


def test_missing_colours_are_on_no_ridge():
    colour = np.array([0.5, np.nan, 0.5, 0.5, 0.5, 0.5, 0.5])
    keep, ridge = on_ridge(colour, np.arange(7.0), sigmas=4.0)
    assert keep.tolist() == [True, False, True, True, True, True, True]
    assert np.isnan(ridge[1])
    assert not on_ridge(np.full(3, np.nan), np.zeros(3), sigmas=4.0)[0].any()
