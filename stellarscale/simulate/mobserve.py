"""What the telescope makes of a spectrum: velocity, reddening, calibration, sky, noise, masks, dead pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.wavelength import LIGHT_KMS, WaveGrid
from stellarscale.simulate.mspectra import m_star_flux
from stellarscale.simulate.plan import Columns

NATIVE = WaveGrid(3.5678, 1e-4, 3916)
FINER = 4
# The rest-frame grid has the native step divided by a whole number, and room for 1000 km/s at either end.
FINE = WaveGrid(NATIVE.start_dex - 20e-4, NATIVE.step_dex / FINER, (NATIVE.n_pix + 40) * FINER)
I_BAND_AA = (6430.0, 8630.0)
BANDS_AA = {"u": (3700.0, 4000.0), "g": (4000.0, 5500.0), "r": (5600.0, 6900.0), "i": I_BAND_AA, "z": (8300.0, 9100.0)}
BAD_CCD, BRIGHT_SKY, NO_DATA = 1 << 0, 1 << 3, 1 << 5
TILT = 0.10
# Airglow of the night (vacuum Angstrom), observed frame: brightest OH heads and the oxygen lines.
_AIRGLOW = (
    5578.9, 6302.1, 6365.5, 6865.2, 6925.2, 7246.6, 7278.3, 7318.3, 7342.9, 7371.4, 7403.8, 7526.0, 7573.8, 7714.3,
    7718.9, 7752.8, 7762.3, 7796.3, 7823.4, 7843.5, 7855.9, 7915.9, 7966.8, 7995.6, 8016.7, 8027.9, 8064.6, 8284.9,
    8301.0, 8313.1, 8346.9, 8354.5, 8384.7, 8402.1, 8417.5, 8432.4, 8454.6, 8467.7, 8507.2, 8763.1, 8769.9, 8780.4,
    8793.4, 8829.5, 8838.7, 8852.4, 8870.0, 8888.2, 8905.7, 8921.6, 8945.9, 8960.5, 8990.8, 9004.0, 9040.1,
)  # fmt: skip
# Head, scale (Angstrom) and depth of what the air takes away; a tenth of it stays after the correction.
_TELLURIC = ((6869.0, 25.0, 0.5), (7170.0, 60.0, 0.2), (7595.0, 30.0, 1.0), (8130.0, 80.0, 0.25), (8950.0, 120.0, 0.5))


class Observed(NamedTuple):
    """A block of spectra on ``NATIVE``; ``first`` and ``n_pix`` tell which pixels each file has."""

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    andmask: NDArray[np.int16]
    ormask: NDArray[np.int16]
    first: NDArray[np.int64]
    n_pix: NDArray[np.int64]
    snr: dict[str, NDArray[np.float64]]


def observe_block(target: Columns, visits: Columns, rng: np.random.Generator) -> Observed:
    """Spectra of a block of visits as the reduction leaves them.

    Parameters
    ----------
    target : dict of ndarray
        True stars of the visits: labels, ``rv_kms``, ``ebv``.
    visits : dict of ndarray
        ``snr_i`` and ``bad``.
    rng : numpy.random.Generator
        Stream of the block.

    Returns
    -------
    Observed
        Flux in counts of an arbitrary scale, vacuum wavelengths, the observed frame.
    """
    n = len(visits["snr_i"])
    wave = NATIVE.wave_aa
    true = _shifted(m_star_flux(FINE.wave_aa, **_labels_of(target)), target["rv_kms"])
    true *= 10.0 ** (-0.4 * 3.1 * target["ebv"][:, None] * (wave / 5500.0) ** -1.4)
    true *= calibration_error(n, NATIVE.n_pix, TILT, rng) * _air(wave, n, rng)
    sky = airglow(wave)
    variance = (true / np.median(true, axis=1)[:, None] + 0.25 + 1.5 * sky) / throughput(wave)
    sigma = _scaled_to(true, np.sqrt(variance), visits["snr_i"])
    flux = true + sigma * rng.standard_normal(true.shape, dtype=np.float32)
    flux += _sky_residuals(sigma, sky, rng)
    # The reduction knows its noise to a tenth.
    ivar = 1.0 / (sigma * np.exp(rng.normal(0.0, 0.1, n)).astype(np.float32)[:, None]) ** 2
    ratio = true / sigma
    snr = {band: np.median(ratio[:, NATIVE.window(*ends)], axis=1) for band, ends in BANDS_AA.items()}
    andmask, ormask = _masks(flux, ivar, sky, rng)
    _dead_stretches(flux, ivar, rng)
    _spoil(flux, ivar, andmask, ormask, visits["bad"])
    counts = (10.0 ** rng.normal(2.2, 0.45, n)).astype(np.float32)[:, None]
    first = rng.integers(0, 8, n)
    return Observed(flux * counts, ivar / counts**2, andmask, ormask, first, rng.integers(3902, 3910, n), snr)


def _labels_of(target: Columns) -> Columns:
    return {name: target[name] for name in ("teff", "logg", "m_h", "alpha", "activity")}


def _shifted(fine: NDArray[np.float32], rv_kms: NDArray) -> NDArray[np.float32]:
    """Rest-frame spectra on ``FINE`` as seen on ``NATIVE`` at a velocity: linear between fine pixels."""
    start = NATIVE.start_dex - np.log10(1.0 + rv_kms / LIGHT_KMS)
    place = np.clip((start - FINE.start_dex) / FINE.step_dex, 0.0, FINER * 40 - 2)
    out = np.empty((len(fine), NATIVE.n_pix), dtype=np.float32)
    last = FINER * NATIVE.n_pix
    for row, at in enumerate(place):
        pixel, share = int(at), np.float32(at % 1.0)
        left, right = fine[row, pixel : pixel + last : FINER], fine[row, pixel + 1 : pixel + 1 + last : FINER]
        out[row] = left + share * (right - left)
    return out


def calibration_error(n: int, n_pix: int, size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth factors of mean about 1, shape (n, n_pix): the exponential of a random cubic."""
    x = np.linspace(-1.0, 1.0, n_pix)
    basis = np.stack([x, 1.5 * x**2 - 0.5, 2.5 * x**3 - 1.5 * x]) * np.array([1.0, 0.6, 0.25])[:, None]
    return np.exp((size * rng.standard_normal((n, 3)) @ basis).astype(np.float32))


def throughput(wave_aa: NDArray) -> NDArray[np.float32]:
    """Relative efficiency of the two arms, which meet at 5800 Angstrom."""
    blue = np.exp(-0.5 * ((wave_aa - 4900.0) / 480.0) ** 2)
    red = np.exp(-0.5 * ((wave_aa - 7400.0) / 1050.0) ** 2)
    return (0.9 * blue + red + 0.02).astype(np.float32)


def airglow(wave_aa: NDArray) -> NDArray[np.float32]:
    """Emission of the sky, about 1 at the bright lines, stronger to the red."""
    glow = np.zeros(wave_aa.size)
    for number, line in enumerate(_AIRGLOW):
        strength = (0.5 + 0.5 * np.sin(2.4 * number) ** 2) * np.clip((line - 5200.0) / 2500.0, 0.3, 1.3)
        glow += strength * np.exp(-0.5 * ((wave_aa - line) / 1.9) ** 2)
    return glow.astype(np.float32)


def _air(wave_aa: NDArray, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """What the correction of the telluric bands has left over, too much or too little, shape (n, n_pix)."""
    depth = np.zeros(wave_aa.size)
    for head, scale, strength in _TELLURIC:
        x = np.clip((wave_aa - head) / scale, -20.0, 20.0)
        depth += strength * np.where(x > 0.0, np.exp(-x), np.exp(-0.5 * (8.0 * x) ** 2))
    return np.exp(-0.08 * rng.standard_normal((n, 1)) * depth).astype(np.float32)


def _scaled_to(true: NDArray, shape: NDArray, snr_i: NDArray) -> NDArray[np.float32]:
    """Noise of a given shape whose median S/N per pixel in the i band is the wanted one."""
    band = NATIVE.window(*I_BAND_AA)
    median = np.median(true[:, band] / shape[:, band], axis=1)
    return (shape * (median / snr_i)[:, None]).astype(np.float32)


def _sky_residuals(sigma: NDArray, sky: NDArray, rng: np.random.Generator) -> NDArray[np.float32]:
    """Airglow taken off too much or too little: one factor a spectrum, a few sigma in the worst tenth."""
    n = len(sigma)
    size = np.where(rng.random(n) < 0.1, 2.5, 0.5) * rng.standard_normal(n)
    return sigma * sky * size.astype(np.float32)[:, None]


def _masks(
    flux: NDArray, ivar: NDArray, sky: NDArray, rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Mask bits; pixels of a bad CCD column carry garbage and still a weight, cosmic rays carry no bit."""
    n, n_pix = flux.shape
    andmask, ormask = np.zeros((n, n_pix), np.int16), np.zeros((n, n_pix), np.int16)
    bright = (sky > 0.9)[None, :] & (rng.random((n, 1)) < 0.6)
    ormask[bright] = BRIGHT_SKY
    for row in range(n):
        level = np.median(flux[row])
        for _ in range(rng.poisson(0.7)):
            start, length = int(rng.integers(0, n_pix - 20)), int(rng.integers(2, 15))
            andmask[row, start : start + length] |= BAD_CCD
            flux[row, start : start + length] = level * rng.uniform(-1.0, 4.0, length)
        hit = rng.integers(0, n_pix, rng.poisson(1.5))
        flux[row, hit] += level * rng.exponential(0.7, len(hit))
    return andmask, ormask | andmask


def _dead_stretches(flux: NDArray, ivar: NDArray, rng: np.random.Generator) -> None:
    """Pixels without weight and without a bit: the blue end, some gaps, and in a few files up to 27 %.

    In a sixth of the files the arms do not meet: no weight from 5500 to 5900 Angstrom. Half of the files have
    zeros there for flux, the others numbers that mean nothing.
    """
    join = NATIVE.window(5500.0, 5900.0)
    n, n_pix = ivar.shape
    for row in range(n):
        ivar[row, : rng.integers(5, 60)] = 0.0
        if rng.random() < 1.0 / 6.0:
            ivar[row, join] = 0.0
        worst = rng.random() < 0.03
        gaps = int(rng.integers(3, 8)) if worst else rng.poisson(1.0)
        share = rng.uniform(0.10, 0.25) if worst else 0.02
        for _ in range(gaps):
            length = max(int(share * n_pix / gaps * rng.uniform(0.6, 1.0)), 2)
            start = int(rng.integers(0, n_pix - length))
            ivar[row, start : start + length] = 0.0
        if rng.random() < 0.5:
            flux[row, ivar[row] == 0.0] = 0.0


def _spoil(flux: NDArray, ivar: NDArray, andmask: NDArray, ormask: NDArray, bad: NDArray) -> None:
    """The two kinds of bad spectra that make whole files: nothing but masked pixels, and a sky taken off twice."""
    masked = bad == "all_masked"
    ivar[masked], andmask[masked], ormask[masked] = 0.0, NO_DATA, NO_DATA
    negative = bad == "negative_flux"
    flux[negative] -= 3.0 * np.median(flux[negative], axis=1)[:, None]
