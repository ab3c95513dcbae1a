"""Plain synthetic M-star-like spectra, smooth in the labels, for tests of the empirical sample."""

from __future__ import annotations

import numpy as np

from stellarscale.kernels.wavelength import WaveGrid

GRID = WaveGrid.covering(3900.0, 8800.0)
SMALL = WaveGrid.covering(3900.0, 8800.0, 1e-3)
BANDS = [
    (4760.0, 60.0, 0.5),
    (4950.0, 80.0, 0.6),
    (5450.0, 90.0, 0.6),
    (6150.0, 60.0, 0.6),
    (6800.0, 90.0, 1.0),
    (7100.0, 90.0, 1.2),
    (7600.0, 100.0, 1.1),
    (8450.0, 90.0, 0.8),
]


def spectra(labels, grid=SMALL):
    """Noiseless flux (n, n_pix) of labels (n, 3): bands that deepen as Teff falls, lines that follow logg and [M/H]."""
    wave = grid.wave_aa
    labels = np.atleast_2d(labels).astype(float)
    cool = ((4000.0 - labels[:, 0]) / 800.0)[:, None]
    logg, m_h = ((labels[:, 1] - 4.8) / 0.3)[:, None], labels[:, 2][:, None]
    flux = (wave / 7000.0) ** (2.0 + 2.5 * cool)
    for centre, width, depth in BANDS:
        profile = np.exp(-0.5 * ((wave - centre) / width) ** 2)
        flux = flux * np.exp(-depth * (0.2 + cool) * (1.0 + 0.5 * m_h) * profile)
    for line, strength in ((5890.0, 0.4), (8183.0, 0.3), (7699.0, 0.3), (6800.0, 0.2)):
        flux = flux * np.exp(-strength * (1.0 + 0.6 * logg) * np.exp(-0.5 * ((wave - line) / 25.0) ** 2))
    for line, strength in ((8542.0, 0.25), (8662.0, 0.2), (6500.0, 0.2), (5170.0, 0.3)):
        flux = flux * np.exp(-strength * (1.0 + m_h) * np.exp(-0.5 * ((wave - line) / 20.0) ** 2))
    return flux


def observed(flux, snr, rng, *, masked=0.0):
    """Flux and ivar, float32, at a S/N per pixel (n,) of the median flux; a share of pixels without weight is NaN."""
    sigma = (np.median(flux, axis=1) / snr)[:, None]
    noisy = flux + sigma * rng.standard_normal(flux.shape)
    ivar = np.broadcast_to(1.0 / sigma**2, flux.shape).copy()
    gone = rng.random(flux.shape) < masked
    noisy[gone], ivar[gone] = np.nan, 0.0
    return noisy.astype(np.float32), ivar.astype(np.float32)


def labels_of(n, rng, *, spread=1.0):
    """Labels (n, 3) over the M dwarfs: Teff 3200-4000 K, logg 4.5-5.1, [M/H] -0.5 to 0.3."""
    low, high = np.array([3200.0, 4.5, -0.5]), np.array([4000.0, 5.1, 0.3])
    middle = 0.5 * (low + high)
    return middle + spread * (rng.random((n, 3)) - 0.5) * (high - low)
