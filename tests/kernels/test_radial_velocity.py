"""Velocities left between spectra and templates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.velocity_loop import chi2_curve

from stellarscale.kernels.radial_velocity import lagrange_taps, refine_velocity, velocity_grid
from stellarscale.kernels.wavelength import LIGHT_KMS, WaveGrid

GRID = WaveGrid.covering(6000, 8800)


def star(grid, seed, velocity_kms=0.0):
    """A smooth continuum with absorption lines of 2.5 pixels and wide bands, seen at a velocity."""
    rng = np.random.default_rng(seed)
    wave = grid.wave_aa / (1.0 + velocity_kms / LIGHT_KMS)
    flux = 1.0 + 0.5 * (wave - 7400.0) / 1400.0
    for centre, depth in zip(rng.uniform(5950, 8850, 150), rng.uniform(0.02, 0.3, 150), strict=True):
        flux *= 1.0 - depth * np.exp(-0.5 * ((wave - centre) / (2.5e-4 * centre * np.log(10) / 2)) ** 2)
    for centre, depth in zip(rng.uniform(6000, 8800, 6), rng.uniform(0.1, 0.4, 6), strict=True):
        flux *= 1.0 - depth * np.exp(-0.5 * ((wave - centre) / 80.0) ** 2)
    return flux


def observed(truth, snr, n, seed):
    """Noisy copies: another slope and unit, a tenth of the pixels without weight and with nonsense in them."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, len(truth))
    clean = 3e-16 * truth * (1.0 + 0.3 * x - 0.2 * x**2)
    sigma = clean.mean() / snr
    flux = clean + rng.normal(0, sigma, (n, len(truth)))
    ivar = np.full(flux.shape, sigma**-2)
    bad = rng.random(flux.shape) < 0.1
    flux[bad], ivar[bad] = 9e-15, 0.0
    return (flux * 1e16).astype(np.float32), (ivar * 1e-32).astype(np.float32)


@pytest.mark.parametrize("snr", [10, 30, 100])
@pytest.mark.parametrize("velocity", [-31.0, 0.0, 12.5])
def test_known_velocities_come_back_within_their_errors(snr, velocity):
    templates = np.stack([star(GRID, 5), star(GRID, 6)]).astype(np.float32)
    flux, ivar = observed(star(GRID, 6, velocity), snr, 200, seed=snr)
    which = np.ones(200, dtype=np.int32)
    found = refine_velocity(
        flux, ivar, templates, which, step_dex=GRID.step_dex, grid_kms=velocity_grid(50, 5), order=2
    )
    pull = (found.velocity_kms - velocity) / found.err_kms
    assert not found.at_limit.any()
    assert np.std(found.velocity_kms) < 40.0 / snr
    assert abs(np.mean(pull)) < 0.35
    assert 0.8 < np.std(pull) < 1.25


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 2), st.floats(-150, 150))
def test_the_kernel_follows_the_plain_loop(seed, order, velocity):
    grid = WaveGrid(np.log10(6000), 1e-4, 300)
    template = star(grid, seed).astype(np.float32)
    flux, ivar = observed(star(grid, seed, velocity), 20, 1, seed)
    trial = velocity_grid(90, 15)
    found = refine_velocity(
        flux, ivar, template[None], np.zeros(1, dtype=np.int32), step_dex=1e-4, grid_kms=trial, order=order
    )
    curve = chi2_curve(flux[0], ivar[0], template, 1e-4, trial, order)
    best = int(np.argmin(curve))
    assert found.at_limit[0] == (best in (0, len(trial) - 1))
    if found.at_limit[0]:
        assert found.velocity_kms[0] == trial[best]
        assert np.isnan(found.err_kms[0])
        return
    low, mid, high = curve[best - 1 : best + 2]
    curvature = (high - 2 * mid + low) / 15.0**2
    offset = (high - low) / 30.0 / curvature
    assert found.velocity_kms[0] == pytest.approx(trial[best] - offset, abs=1e-3)
    n_used = int((ivar[0, 5:-5] > 0).sum())  # 90 km/s are 1.3 pixels: two and three taps at either end
    scale = max(1.0, (mid - 0.5 * curvature * offset**2) / (n_used - order - 2))
    assert found.err_kms[0] == pytest.approx(np.sqrt(2 * scale / curvature), rel=1e-4)


def test_velocities_beyond_the_grid_are_at_its_limit():
    template = star(GRID, 1).astype(np.float32)
    flux, ivar = observed(star(GRID, 1, 90.0), 50, 3, seed=2)
    found = refine_velocity(
        flux, ivar, template[None], np.zeros(3, np.int32), step_dex=1e-4, grid_kms=velocity_grid(50, 5), order=2
    )
    assert found.at_limit.all()
    assert (found.velocity_kms == 50.0).all()
    assert np.isnan(found.err_kms).all()


def test_nothing_to_fit_gives_nothing():
    template = star(GRID, 1).astype(np.float32)
    flux, ivar = observed(star(GRID, 1), 50, 3, seed=2)
    ivar[1] = 0.0
    found = refine_velocity(
        flux, ivar, template[None], np.array([0, 0, -1], np.int32), step_dex=1e-4, grid_kms=[-10, 0, 10], order=1
    )
    assert np.isfinite(found.velocity_kms).tolist() == [True, False, False]
    assert not found.at_limit.any()


def test_interpolation_is_exact_for_polynomials_of_degree_five():
    fraction = np.array([0.0, 0.25, 0.9])
    nodes = np.arange(-2, 4)
    for degree in range(6):
        np.testing.assert_allclose(lagrange_taps(fraction) @ nodes**degree, fraction**degree, atol=1e-12)


def test_bad_arguments_are_refused():
    flux = np.ones((2, 100), np.float32)
    which = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="no even grid"):
        refine_velocity(flux, flux, flux, which, step_dex=1e-4, grid_kms=[0, 1, 3], order=0)
    with pytest.raises(ValueError, match="do not fit"):
        refine_velocity(flux, flux, flux[:, 1:], which, step_dex=1e-4, grid_kms=[-1, 0, 1], order=0)
    with pytest.raises(ValueError, match="too little of 100"):
        refine_velocity(flux, flux, flux, which, step_dex=1e-4, grid_kms=velocity_grid(3400, 100), order=0)
