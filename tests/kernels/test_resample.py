"""Rebinning against a plain loop, and the two things it promises: the flux is conserved, the variance is true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.resample_loop import rebin_loop

from stellarscale.kernels.resample import grid_edges, log_edges, rebin
from stellarscale.kernels.wavelength import WaveGrid

GRID = WaveGrid.covering(6000, 6400)


def rising(rng, n, low, high):
    return low + (high - low) * np.sort(rng.random(n)) + 1e-9 * np.arange(n)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 30), m=st.integers(1, 30), low=st.floats(90, 110))
def test_equals_the_loop(seed, n, m, low):
    rng = np.random.default_rng(seed)
    edges, wanted = rising(rng, n + 1, 100, 110), rising(rng, m + 1, low, low + 10 * rng.random() + 0.1)
    flux, ivar = rng.normal(size=n), rng.exponential(size=n)
    ivar[rng.random(n) < 0.3] = rng.choice([0.0, -1.0, np.nan, np.inf])
    flux[rng.random(n) < 0.1] = rng.choice([np.nan, np.inf])
    for mine, other in zip(rebin(flux, ivar, edges, wanted), rebin_loop(flux, ivar, edges, wanted), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)


def test_the_same_pixels_come_back_unchanged():
    rng = np.random.default_rng(0)
    flux, ivar = rng.normal(size=GRID.n_pix), rng.exponential(size=GRID.n_pix) + 0.1
    out_flux, out_ivar = rebin(flux, ivar, grid_edges(GRID), grid_edges(GRID))
    np.testing.assert_allclose(out_flux, flux, rtol=1e-12)
    np.testing.assert_allclose(out_ivar, ivar, rtol=1e-12)


@pytest.mark.parametrize("step", [2e-5, 1e-4, 3.3e-4])
def test_the_integral_of_the_flux_is_conserved(step):
    rng = np.random.default_rng(1)
    edges = log_edges(np.log10(6050.0), step, int(0.01 / step))
    flux = rng.normal(5, 1, len(edges) - 1)
    inside = GRID.n_pix // 20 * np.arange(21)  # coarse pixels, with the ends of the spectrum inside of the outer ones
    wanted = grid_edges(GRID)[inside]
    wanted = np.concatenate([[edges[0]], wanted[(wanted > edges[0]) & (wanted < edges[-1])], [edges[-1]]])
    out, ivar = rebin(flux, np.ones(len(flux)), edges, wanted)
    assert (ivar > 0).all()
    assert np.sum(out * np.diff(wanted)) == pytest.approx(np.sum(flux * np.diff(edges)), rel=1e-12)


@pytest.mark.parametrize("shift, step", [(0.5, 1e-4), (0.2, 1e-4), (0.3, 2.3e-5), (0.1, 2.7e-4)])
def test_noise_has_the_variance_that_is_claimed(shift, step):
    rng = np.random.default_rng(2)
    edges = log_edges(np.log10(5990) + shift * step, step, int(0.035 / step))
    sigma = 1 + 0.5 * np.sin(np.arange(len(edges) - 1) / 50)
    scaled = []
    for _ in range(100):
        out, ivar = rebin(rng.normal(0, sigma), sigma**-2, edges, grid_edges(GRID))
        scaled.append(out * np.sqrt(ivar))
    assert np.std(scaled) == pytest.approx(1, abs=0.02)
    assert np.abs(np.mean(scaled)) < 0.02


def test_pixels_without_weight_give_nothing_and_half_a_width_is_enough():
    edges = np.arange(9.0)
    flux, ivar = np.array([1, 2, np.nan, 4, 5e30, 6, 7, 8]), np.array([1, 1, 1, 1, 0, 1, 1, 1.0])
    out, weight = rebin(flux, ivar, edges, np.array([0, 2, 4, 6, 7.5, 9.5, 12, 20]))
    np.testing.assert_allclose(out, [1.5, 4, 6, (7 + 0.5 * 8) / 1.5, 0, 0, 0])
    assert weight[1] == weight[2] == 1
    assert weight[3] == pytest.approx(1.5**2 / 1.25)
    assert (weight[4:] == 0).all()


def test_pixels_beyond_the_spectrum_have_no_weight():
    edges = log_edges(np.log10(6100), 1e-4, 100)
    flux, ivar = rebin(np.ones(100), np.ones(100), edges, grid_edges(GRID))
    wave = GRID.wave_aa
    outside = (wave < 6099) | (wave > edges[-1] + 1)
    assert (ivar[outside] == 0).all()
    assert (flux[outside] == 0).all()
    assert (ivar[(wave > 6101) & (wave < edges[-1] - 1)] > 0).all()


def test_edges_are_shared_and_cannot_be_changed():
    assert grid_edges(GRID) is grid_edges(GRID)
    with pytest.raises(ValueError, match="read-only"):
        grid_edges(GRID)[0] = 0
    centres = np.sqrt(grid_edges(GRID)[1:] * grid_edges(GRID)[:-1])
    np.testing.assert_allclose(centres, GRID.wave_aa, rtol=1e-12)


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) fluxes"):
        rebin(np.ones(3), np.ones(3), np.arange(3.0), np.arange(3.0))
