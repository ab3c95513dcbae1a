"""Spectra by the hundred thousand without files: noisy copies of the spectra of a reference grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.simulate.mobserve import airglow, calibration_error, throughput

COPY_BLOCK = 4096
_STREAM = (1 << 31) + 100
_TILTS = 64


@dataclass(frozen=True)
class CopyConfig:
    """How far copies are from their references.

    Parameters
    ----------
    snr_median, snr_spread : float
        Of the log-normal distribution of the S/N per pixel, natural logarithm.
    snr_range : tuple of float
        Its limits; the survey analysed spectra from 5 on.
    rv_error_kms : float
        Gaussian error of the velocity that the spectrum was brought to rest with.
    rv_spread_kms : float
        Of the stars' own velocities, which move the sky lines in the rest frame.
    tilt : float
        Relative size of the smooth error of the flux calibration.
    dead_share : float
        Share of the spectra with a long stretch of no weight, up to 27 % of the pixels.
    """

    snr_median: float = 25.0
    snr_spread: float = 0.75
    snr_range: tuple[float, float] = (5.0, 300.0)
    rv_error_kms: float = 5.0
    rv_spread_kms: float = 45.0
    tilt: float = 0.10
    dead_share: float = 0.03


class Copies(NamedTuple):
    """Mock spectra in the rest frame, and what is true of them.

    ``flux`` and ``ivar`` float32 of shape (n, n_pix), ``reference`` int64 (n,) the row copied, ``snr`` float32
    (n,) per pixel, ``rv_error_kms`` float32 (n,).
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    reference: NDArray[np.int64]
    snr: NDArray[np.float32]
    rv_error_kms: NDArray[np.float32]


def mock_spectra(
    flux: NDArray[np.float32],
    grid: WaveGrid,
    *,
    n: int,
    seed: int,
    block: int = 0,
    config: CopyConfig | None = None,
) -> Copies:
    """Spectra such as the survey would take of the stars of a reference grid.

    Parameters
    ----------
    flux : ndarray, shape (n_ref, n_pix)
        Spectra of the references in the rest frame, any unit, finite. Labels of a copy are those of its
        reference.
    grid : WaveGrid
        Their wavelengths.
    n : int
        Number of spectra. Work in blocks of about ``COPY_BLOCK``: six arrays of (n, n_pix) float32 at a time.
    seed, block : int
        Of the random stream: the same two give the same spectra.
    config : CopyConfig, optional
        How far the copies are from their references.

    Returns
    -------
    Copies
        Noise by S/N, velocity error, tilt, weaker pixels with residuals at the sky lines, pixels of weight 0.

    Raises
    ------
    ValueError
        If the references do not lie on the grid.
    """
    if flux.ndim != 2 or flux.shape[1] != grid.n_pix:
        raise ValueError(f"references of shape {flux.shape} on a grid of {grid.n_pix} pixels")
    config = config or CopyConfig()
    rng = np.random.default_rng([seed, _STREAM, block])
    reference = rng.integers(0, len(flux), n)
    snr = np.exp(rng.normal(np.log(config.snr_median), config.snr_spread, n)).clip(*config.snr_range)
    error_kms = config.rv_error_kms * rng.standard_normal(n)
    out = _moved(np.asarray(flux, dtype=np.float32)[reference], error_kms / grid.pixel_kms)
    # Tilts are drawn from a pool: a fresh polynomial for each of a million spectra would double the time.
    tilts = calibration_error(_TILTS, grid.n_pix, config.tilt, rng)
    out *= tilts[rng.integers(0, _TILTS, n)]
    sigma, sky = _noise(out, grid, snr, rng, config)
    ivar = 1.0 / sigma**2
    sky *= (np.where(rng.random(n) < 0.1, 2.5, 0.5) * rng.standard_normal(n)).astype(np.float32)[:, None]
    sky += rng.standard_normal(out.shape, dtype=np.float32)
    sky *= sigma
    out += sky
    _dead(out, ivar, rng, config.dead_share)
    return Copies(out, ivar, reference, snr.astype(np.float32), error_kms.astype(np.float32))


def _moved(flux: NDArray[np.float32], pixels: NDArray) -> NDArray[np.float32]:
    """Spectra moved by a fraction of a pixel to the red: a parabola through three pixels; the ends stay."""
    step = pixels.astype(np.float32)[:, None]
    left, middle, right = flux[:, :-2], flux[:, 1:-1], flux[:, 2:]
    out = flux.copy()
    out[:, 1:-1] -= 0.5 * step * (right - left)
    out[:, 1:-1] += 0.5 * step**2 * (left + right - 2.0 * middle)
    return out


def _noise(
    flux: NDArray, grid: WaveGrid, snr: NDArray, rng: np.random.Generator, config: CopyConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sigma of each pixel, and the airglow at each spectrum's own velocity, both (n, n_pix)."""
    room = 6
    wide = WaveGrid(grid.start_dex - room * grid.step_dex, grid.step_dex, grid.n_pix + 2 * room)
    glow = airglow(wide.wave_aa)
    shift = np.clip(np.round(config.rv_spread_kms * rng.standard_normal(len(snr)) / grid.pixel_kms), -room, room)
    moved = np.stack([glow[at : at + grid.n_pix] for at in range(2 * room + 1)])
    sky = moved[(room + shift).astype(np.int64)]
    level = np.median(flux[:, :: max(grid.n_pix // 200, 1)], axis=1)
    sigma = flux / level[:, None]
    np.clip(sigma, 0.05, None, out=sigma)
    sigma += 0.25
    sigma += np.float32(1.5) * sky
    np.sqrt(sigma, out=sigma)
    shape = np.sqrt(throughput(grid.wave_aa))
    # Where the flux has its median and the telescope its typical throughput, S/N is the one wanted.
    sigma *= (np.median(shape) / shape / np.float32(np.sqrt(1.25))).astype(np.float32)[None, :]
    sigma *= (level / snr).astype(np.float32)[:, None]
    return sigma, sky


def _dead(flux: NDArray, ivar: NDArray, rng: np.random.Generator, share: float) -> None:
    """Pixels of no weight: a gap of up to 20 pixels in half of the spectra, long ones in some; flux 0 in half."""
    n, n_pix = flux.shape
    long = rng.random(n) < share
    length = np.where(long, rng.uniform(0.05, 0.27, n) * n_pix, rng.integers(-20, 21, n)).astype(np.int64)
    start = (rng.random(n) * n_pix).astype(np.int64)
    empty = np.less(rng.random(n), 0.5)
    for row, (first, pixels, zero) in enumerate(zip(start, length, empty, strict=True)):
        gap = slice(first, first + max(pixels, 0))
        ivar[row, gap] = 0.0
        if zero:
            flux[row, gap] = 0.0
