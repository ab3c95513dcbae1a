"""Noisy copies of a reference grid: the survey's noise, and the same spectra for the same seed and block."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.simulate.mcopies import CopyConfig, mock_spectra
from stellarscale.simulate.mspectra import m_star_flux

GRID = WaveGrid.covering(6000.0, 8800.0)
REFERENCES = m_star_flux(GRID.wave_aa, np.linspace(3100, 4100, 40), np.where(np.arange(40) % 4, 4.8, 1.0), 0.0)


def test_the_same_seed_and_block_give_the_same_spectra():
    first = mock_spectra(REFERENCES, GRID, n=50, seed=3, block=2)
    again = mock_spectra(REFERENCES, GRID, n=50, seed=3, block=2)
    other = mock_spectra(REFERENCES, GRID, n=50, seed=3, block=3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.flux, other.flux)


def test_the_inverse_variance_tells_the_noise():
    plain = CopyConfig(rv_error_kms=0.0, tilt=0.0, dead_share=0.0)
    seen = mock_spectra(REFERENCES, GRID, n=400, seed=1, config=plain)
    weight = seen.ivar > 0
    pull = (seen.flux - REFERENCES[seen.reference]) * np.sqrt(seen.ivar)
    # Residuals of the airglow widen the wings, not the core.
    assert np.median(pull[weight]) == pytest.approx(0.0, abs=0.02)
    assert 1.4826 * np.median(np.abs(pull[weight])) == pytest.approx(1.0, abs=0.03)


def test_signal_to_noise_is_the_one_told():
    seen = mock_spectra(REFERENCES, GRID, n=600, seed=1)
    median = np.median(np.where(seen.ivar > 0, REFERENCES[seen.reference] * np.sqrt(seen.ivar), np.nan), axis=1)
    ratio = (median / seen.snr)[np.isfinite(median)]
    assert 0.9 < np.median(ratio) < 1.05
    assert seen.snr.min() >= 5.0
    assert 20.0 < np.median(seen.snr) < 30.0


def test_velocity_errors_move_the_spectrum():
    fine = WaveGrid(GRID.start_dex, GRID.step_dex / 10, GRID.n_pix * 10)
    labels = ([3500.0], [4.8], [0.0])
    config = CopyConfig(rv_error_kms=20.0, tilt=0.0, dead_share=0.0, snr_median=1e4, snr_range=(1e4, 1e4))
    seen = mock_spectra(m_star_flux(GRID.wave_aa, *labels), GRID, n=20, seed=4, config=config)
    exact = m_star_flux(fine.wave_aa, *labels)[0]
    for flux, error in zip(seen.flux, seen.rv_error_kms, strict=True):
        moved = np.interp(GRID.log10_aa - error / GRID.pixel_kms * GRID.step_dex, fine.log10_aa, exact)
        inner = slice(5, -5)
        assert np.median(np.abs(flux[inner] / moved[inner] - 1)) < 2e-3
    assert 10.0 < seen.rv_error_kms.std() < 30.0


def test_some_pixels_have_no_weight_and_none_is_nan():
    seen = mock_spectra(REFERENCES, GRID, n=1000, seed=6)
    dead = (seen.ivar == 0).mean(axis=1)
    assert 0.2 < dead.max() <= 0.28
    assert 0.3 < (dead > 0).mean() < 0.7
    assert np.isfinite(seen.flux).all()
    assert np.isfinite(seen.ivar).all()
    assert (seen.ivar >= 0).all()
    assert seen.flux.dtype == seen.ivar.dtype == np.float32


def test_references_on_another_grid_are_refused():
    with pytest.raises(ValueError, match="1663 pixels"):
        mock_spectra(REFERENCES[:, :100], GRID, n=3, seed=1)
