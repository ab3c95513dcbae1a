"""Stamps of a star: counts to fluxes, the sky of an image's border, the mean of a band, and the asinh stretch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.forest_walk import jit
from stellarscale.kernels.stats import MAD_TO_SIGMA

MOST_DETECTIONS = 255
"""Detections in the mean of a pixel that the coverage, a byte, can count."""

_MOST_CLIPS = 20

Floats = NDArray[np.float64]


def mask_saturated(counts: ArrayLike, limit: float) -> Floats:
    """Counts with NaN where they reach a limit, the sky included.

    Raises
    ------
    InputError
        If the limit is not above 0.
    """
    if not limit > 0:
        raise InputError("no limit of saturation", seen=limit, needed="counts above 0")
    values = np.asarray(counts, dtype=np.float64)
    return np.where(values >= limit, np.nan, values)


def calibrate(
    counts: ArrayLike, *, sky: float, zero_point: float, to_zero_point: float, extinction_mag: float = 0.0
) -> Floats:
    """Fluxes of one image in the unit of a common zero-point, without sky and dust (paper III, section 2.3).

    Parameters
    ----------
    counts : array_like
        Pixels of an image; NaN stays NaN.
    sky : float
        Background, counts a pixel.
    zero_point : float
        Magnitude of one count.
    to_zero_point : float
        Magnitude of unit flux in the result.
    extinction_mag : float
        Extinction in the band: the flux is that before the dust.

    Returns
    -------
    ndarray of float64
        ``(counts - sky) 10^(-0.4 (zero_point - to_zero_point)) 10^(0.4 extinction_mag)``.

    Raises
    ------
    InputError
        If one of the four numbers is not finite, as where a header has no zero-point.
    """
    numbers = {"sky": sky, "zero_point": zero_point, "to_zero_point": to_zero_point, "extinction_mag": extinction_mag}
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise InputError("counts cannot be made fluxes", where=name, seen=number, needed="a finite number")
    scale = 10.0 ** (-0.4 * (zero_point - to_zero_point - extinction_mag))
    return (np.asarray(counts, dtype=np.float64) - sky) * scale


def border_sky(counts: ArrayLike, *, border_px: int = 4, clip_sigma: float = 3.0) -> tuple[float, float]:
    """Background of an image from its outermost pixels: clipped median, and robust sigma of what was kept.

    Parameters
    ----------
    counts : array_like, shape (height, width)
        Pixels that are not finite are left out.
    border_px : int
        Width of the border; an image of twice that or less is all border.
    clip_sigma : float
        Distance from the median, in robust sigmas (1.4826 times the median absolute deviation), beyond which pixels
        are left out, again and again until none is left out.

    Returns
    -------
    sky, sigma : float
        Counts a pixel.

    Raises
    ------
    InputError
        If the image has not two dimensions, the options are not above 0, or no pixel of the border is finite.
    """
    image = np.asarray(counts, dtype=np.float64)
    if image.ndim != 2 or border_px < 1 or not clip_sigma > 0:
        raise InputError("no border", seen=f"shape {image.shape}, border_px {border_px}, clip_sigma {clip_sigma}")
    inner = np.ones(image.shape, dtype=bool)
    inner[border_px : max(image.shape[0] - border_px, 0), border_px : max(image.shape[1] - border_px, 0)] = False
    values = image[inner]
    values = values[np.isfinite(values)]
    if not values.size:
        raise InputError("no sky in the border of the image", seen="no finite pixel", cause="an image that is all NaN")
    sky, sigma = _clipped(values, float(clip_sigma))
    return float(sky), float(sigma)


@jit
def _clipped(values, clip_sigma):
    """Median and robust sigma of the values within some sigmas of the median."""
    kept, sky, sigma = values, 0.0, 0.0
    for _ in range(_MOST_CLIPS):
        sky = np.median(kept)
        sigma = MAD_TO_SIGMA * np.median(np.abs(kept - sky))
        near = kept[np.abs(kept - sky) <= clip_sigma * sigma]
        if sigma == 0.0 or len(near) == len(kept):
            break
        kept = near
    return sky, sigma


def mean_stack(
    images: NDArray[np.float64], band: ArrayLike, n_bands: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Plain mean of the images of each band, and how many images each pixel has (paper III, section 2.3).

    Parameters
    ----------
    images : ndarray of float64, shape (n, size, size)
        Aligned fluxes; pixels that are not finite are missing.
    band : array_like of int, shape (n,)
        Number of each image's band, from 0 to ``n_bands - 1``.
    n_bands : int
        Bands of the result.

    Returns
    -------
    mean : ndarray of float64, shape (n_bands, size, size)
        NaN where no image has the pixel.
    coverage : ndarray of uint8, shape (n_bands, size, size)
        Images in the mean of each pixel.

    Raises
    ------
    InputError
        If the shapes disagree, a band is out of range or a pixel has more than 255 images.
    """
    stack, bands = np.ascontiguousarray(images, dtype=np.float64), np.asarray(band, dtype=np.int64)
    if stack.ndim != 3 or bands.shape != stack.shape[:1]:
        raise InputError("no stack", seen=f"images {stack.shape}, bands {bands.shape}", needed="a band of each image")
    if len(bands) and not 0 <= bands.min() <= bands.max() < n_bands:
        raise InputError("no such band", seen=f"{bands.min()} to {bands.max()}", needed=f"0 to {n_bands - 1}")
    mean, count = np.zeros((n_bands, *stack.shape[1:])), np.zeros((n_bands, *stack.shape[1:]), dtype=np.int32)
    _mean(stack, bands, mean, count)
    if count.size and count.max() > MOST_DETECTIONS:
        raise InputError(
            "too many detections of a star", seen=count.max(), needed=f"{MOST_DETECTIONS} of a band or fewer"
        )
    return mean, count.astype(np.uint8)


@jit
def _mean(images, band, mean, count):
    for k in range(len(images)):
        total, number = mean[band[k]], count[band[k]]
        for j in range(images.shape[1]):
            for i in range(images.shape[2]):
                value = images[k, j, i]
                finite = abs(value) < math.inf  # false for NaN as well
                total[j, i] += value if finite else 0.0
                number[j, i] += 1 if finite else 0
    for b in range(len(mean)):
        for j in range(mean.shape[1]):
            for i in range(mean.shape[2]):
                mean[b, j, i] = mean[b, j, i] / count[b, j, i] if count[b, j, i] else math.nan


def stretch(flux: ArrayLike, softening: ArrayLike) -> Floats:
    """Inverse hyperbolic sine of fluxes, linear below the softening of a band and logarithmic above it.

    Parameters
    ----------
    flux : array_like, shape (..., n_bands, size, size)
        NaN stays NaN.
    softening : array_like, shape (n_bands,)
        Flux at which the stretch of each band turns; the same for all stars, so that fluxes stay comparable.

    Returns
    -------
    ndarray of float64, shape of ``flux``
        ``asinh(flux / softening)``. Any finite flux fits float16: the largest double over a softening of 1e-3 gives
        717, and float16 reaches 65504. Its eleven bits keep a stretched value of 8 to 16 to 0.004, so a bright pixel's
        flux to 0.4 %.

    Raises
    ------
    InputError
        If there is not one positive softening for each band.
    """
    values = np.asarray(flux, dtype=np.float64)
    return np.arcsinh(values / _per_band(softening, values.shape))


def unstretch(stamp: ArrayLike, softening: ArrayLike) -> Floats:
    """Fluxes of a stretched stamp, the inverse of :func:`stretch`: ``softening sinh(stamp)``, float64.

    Raises
    ------
    InputError
        If there is not one positive softening for each band.
    """
    values = np.asarray(stamp, dtype=np.float64)
    return np.sinh(values) * _per_band(softening, values.shape)


def _per_band(softening: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Softening in the shape that broadcasts over the stamps."""
    values = np.asarray(softening, dtype=np.float64)
    if len(shape) < 3 or values.shape != shape[-3:-2] or not (np.isfinite(values) & (values > 0)).all():
        raise InputError("no stretch", seen=f"softening {values.tolist()} for fluxes {shape}", needed="one a band, > 0")
    return values[:, None, None]
