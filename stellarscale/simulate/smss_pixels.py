"""Pixels of the mock exposures: Moffat stars on a noisy sky, cosmic rays, saturation, lost pixels, aperture sums."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.forest_walk import jit
from stellarscale.simulate.smss_exposures import FULL_WELL, GAIN, READ_NOISE_E

APERTURE_ARCSEC = 5.0
RAY_SHARE, RAY_ON_STAR, RAY_SEEN_SHARE = 0.04, 0.15, 0.9
LOST_SHARE = 0.04


class Box(NamedTuple):
    """Pixels of a chip, the ends exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int


class Sums(NamedTuple):
    """What an aperture about each of n stars holds, all shape (n,).

    Parameters
    ----------
    counts : ndarray
        Sum over the sky.
    own : ndarray
        Share of the star's flux that the aperture takes in.
    others : ndarray
        Flux of the other stars over its own, both within the aperture.
    lost_px : ndarray
        Pixels that are missing or off the image.
    variance : ndarray
        Of ``counts``.
    peak : ndarray
        Largest pixel, sky included.
    """

    counts: NDArray[np.float64]
    own: NDArray[np.float64]
    others: NDArray[np.float64]
    lost_px: NDArray[np.float64]
    variance: NDArray[np.float64]
    peak: NDArray[np.float64]


class Exposed(NamedTuple):
    """Counts of a part of a chip, NaN where pixels are lost, and the pixels that a cosmic ray struck, shape (h, w)."""

    image: NDArray[np.float32]
    struck: NDArray[np.bool_]


@jit
def moffat(dx: float, dy: float, psf: NDArray) -> float:
    """Share of a star's flux in the pixel at an offset (px) from it; ``psf`` is xx, xy, yy and the exponent."""
    form = psf[0] * dx * dx + 2.0 * psf[1] * dx * dy + psf[2] * dy * dy
    norm = (psf[3] - 1.0) / np.pi * np.sqrt(psf[0] * psf[2] - psf[1] * psf[1])
    return norm * np.exp(-psf[3] * np.log1p(form))


@jit
def add_stars(image: NDArray, corner: NDArray, place: NDArray, flux: NDArray, psf: NDArray) -> None:
    """Add stars to an image in place.

    Parameters
    ----------
    image : ndarray, shape (h, w)
        Counts.
    corner : ndarray of float64, shape (2,)
        Chip pixel (x, y, from 0) of ``image[0, 0]``.
    place, flux : ndarray of float64, shapes (n, 2) and (n,)
        Chip pixels and total counts of the stars.
    psf : ndarray of float64, shape (4,)
        As in :func:`moffat`.
    """
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            total = 0.0
            for star in range(len(flux)):
                dx, dy = corner[0] + column - place[star, 0], corner[1] + row - place[star, 1]
                total += flux[star] * moffat(dx, dy, psf)
            image[row, column] += total


@jit
def _sums(
    image: NDArray, corner: NDArray, place: NDArray, flux: NDArray, psf: NDArray, sky: float, radius: float
) -> NDArray:
    out = np.zeros((6, len(flux)))
    reach = int(np.ceil(radius)) + 1
    for star in range(len(flux)):
        x, y = place[star, 0], place[star, 1]
        other = 0.0
        for row in range(int(np.floor(y)) - reach, int(np.floor(y)) + reach + 2):
            for column in range(int(np.floor(x)) - reach, int(np.floor(x)) + reach + 2):
                # A pixel on the rim counts by about the share of it that is within the circle.
                weight = min(max(radius + 0.5 - np.hypot(column - x, row - y), 0.0), 1.0)
                if weight == 0.0:
                    continue
                out[1, star] += weight * moffat(column - x, row - y, psf)
                for near in range(len(flux)):
                    if near != star:
                        other += weight * flux[near] * moffat(column - place[near, 0], row - place[near, 1], psf)
                i, j = row - int(corner[1]), column - int(corner[0])
                inside = 0 <= i < image.shape[0] and 0 <= j < image.shape[1]
                if not inside or not np.isfinite(image[i, j]):
                    out[3, star] += 1.0
                    continue
                out[0, star] += weight * (image[i, j] - sky)
                out[4, star] += weight * (max(image[i, j], 0.0) / GAIN + (READ_NOISE_E / GAIN) ** 2)
                out[5, star] = max(out[5, star], image[i, j])
        out[2, star] = other / (flux[star] * out[1, star])
    return out


def aperture_sums(
    image: NDArray, corner: NDArray, place: NDArray, flux: NDArray, *, psf: NDArray, sky: float, radius_px: float
) -> Sums:
    """Sums over an aperture about each star, as a survey measures them, and what truth says of its contents.

    Parameters
    ----------
    image, corner, place, flux, psf : ndarray
        As in :func:`add_stars`, the image with noise and NaN where pixels are missing.
    sky : float
        Counts a pixel to take off.
    radius_px : float
        Radius of the aperture.
    """
    return Sums(*_sums(image, corner, place, flux, psf, sky, radius_px))


def expose(box: Box, place: NDArray, flux: NDArray, *, psf: NDArray, sky: float, rng: np.random.Generator) -> Exposed:
    """Expose a part of a chip, with every flaw.

    Parameters
    ----------
    box : Box
        The part.
    place, flux, psf : ndarray
        As in :func:`add_stars`.
    sky : float
        Counts a pixel.
    rng : numpy.random.Generator
        For noise and flaws.
    """
    image = np.full((box.y1 - box.y0, box.x1 - box.x0), sky, dtype=np.float32)
    corner = np.array([box.x0, box.y0], dtype=float)
    add_stars(image, corner, place, flux, psf)
    sigma = np.sqrt(image / GAIN + np.float32((READ_NOISE_E / GAIN) ** 2))
    image += sigma * rng.standard_normal(image.shape, dtype=np.float32)
    struck = np.zeros(image.shape, dtype=bool)
    if rng.random() < RAY_SHARE:
        at = place[0] - corner if rng.random() < RAY_ON_STAR else rng.random(2) * image.shape[::-1]
        _strike(image, struck, at, rng)
    np.minimum(image, np.float32(FULL_WELL), out=image)
    if rng.random() < LOST_SHARE:
        _lose(image, rng)
    return Exposed(image, struck)


def rays_seen(struck: NDArray[np.bool_], at: NDArray, radius_px: float, rng: np.random.Generator) -> int:
    """Struck pixels within a circle about ``at`` that the survey's pipeline flags: all, or in one case of ten none."""
    row, column = struck.nonzero()
    near = np.hypot(column - at[0], row - at[1]) <= radius_px
    return int(near.sum()) if near.any() and rng.random() < RAY_SEEN_SHARE else 0


def _strike(image: NDArray, struck: NDArray, at: NDArray, rng: np.random.Generator) -> None:
    """A straight track of one to a dozen bright pixels from a place on."""
    length, angle = rng.uniform(1.0, 12.0), rng.uniform(0.0, 2.0 * np.pi)
    steps = np.arange(0.0, length, 0.5)
    column = np.round(at[0] + steps * np.cos(angle)).astype(int)
    row = np.round(at[1] + steps * np.sin(angle)).astype(int)
    inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
    charge = rng.uniform(300.0, 6000.0) * np.exp(rng.normal(0.0, 0.4, len(steps)))
    image[row[inside], column[inside]] += charge[inside]
    struck[row[inside], column[inside]] = True


def _lose(image: NDArray, rng: np.random.Generator) -> None:
    """A dead column, or a dead patch of two to five pixels square."""
    row, column = (int(rng.integers(0, side)) for side in image.shape)
    if rng.random() < 0.5:
        image[:, column] = np.nan
    else:
        size = int(rng.integers(2, 6))
        image[row : row + size, column : column + size] = np.nan
