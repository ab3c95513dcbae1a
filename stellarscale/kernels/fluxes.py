"""Fluxes and their weights: which pixels count, a common unit, gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def weighted(flux: NDArray, ivar: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flux and inverse variance, both zero wherever the pixel carries no information.

    A pixel counts when its inverse variance is positive and both numbers are finite.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, n_pix)

    Raises
    ------
    ValueError
        If the shapes differ or are not two-dimensional.
    """
    if flux.ndim != 2 or flux.shape != ivar.shape:
        raise ValueError(f"flux and ivar must be two equal (n, n_pix) arrays, not {flux.shape} and {ivar.shape}")
    flux, ivar = np.asarray(flux, dtype=np.float32), np.asarray(ivar, dtype=np.float32)
    counts = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
    return np.where(counts, flux, np.float32(0)), np.where(counts, ivar, np.float32(0))


def medians(flux: NDArray[np.float32], ivar: NDArray[np.float32]) -> NDArray[np.float64]:
    """Median flux, shape (n,), with gaps bridged in straight lines; NaN for a spectrum without weight.

    Cool stars are ten times brighter in the red than in the blue: a median of the remaining pixels alone would move
    by per cents with each mask, and two equal spectra would not look alike any more.
    """
    whole, n_filled = filled(flux, ivar)
    if not whole.size:
        return np.full(len(flux), np.nan)
    return np.where(n_filled < flux.shape[1], np.median(whole, axis=1), np.nan)


def scaled(
    flux: NDArray[np.float32], ivar: NDArray[np.float32], unit: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Flux divided by a unit per spectrum, shape (n,), and the inverse variance that goes with it."""
    divisor = unit[:, None]
    return (flux / divisor).astype(np.float32), (ivar * divisor**2).astype(np.float32)


def filled(flux: NDArray[np.float32], ivar: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Flux with the pixels without weight interpolated in a straight line between their neighbours.

    For methods that need a number in each pixel of a reference; gaps at an end take the nearest value.

    Returns
    -------
    flux : ndarray of float32, shape (n, n_pix)
        Zero throughout where no pixel has weight.
    n_filled : ndarray of int64, shape (n,)
        Pixels whose value was made up; the caller decides how many are too many.
    """
    result = np.where(ivar > 0, flux, np.float32(0))
    gaps = ivar <= 0
    pixels = np.arange(flux.shape[1])
    for row in np.flatnonzero(gaps.any(axis=1) & ~gaps.all(axis=1)):
        gap = gaps[row]
        result[row, gap] = np.interp(pixels[gap], pixels[~gap], result[row, ~gap])
    return result, np.count_nonzero(gaps, axis=1).astype(np.int64)
