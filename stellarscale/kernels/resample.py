"""Rebinning of spectra between pixel grids: flux density is conserved and the inverse variance carried along."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stellarscale.kernels.wavelength import WaveGrid

LEAST_COVER = 0.5  # of an output pixel's width, for it to carry information
_ROUNDING = 1e-6  # of a width: exact halves must not hang on the last digit


@lru_cache(maxsize=64)
def log_edges(start_dex: float, step_dex: float, n_pix: int) -> NDArray[np.float64]:
    """Edges (n_pix + 1,) in Angstrom of log-linear pixels; ``start_dex`` is the centre of the first.

    They lie halfway between the centres in the logarithm. The array is shared and read-only.
    """
    edges = np.power(10.0, start_dex + step_dex * (np.arange(n_pix + 1) - 0.5))
    edges.flags.writeable = False
    return edges


def grid_edges(grid: WaveGrid) -> NDArray[np.float64]:
    """Edges (n_pix + 1,) in Angstrom of a grid's pixels; shared and read-only."""
    return log_edges(grid.start_dex, grid.step_dex, grid.n_pix)


def rebin(
    flux: NDArray[np.float64], ivar: NDArray[np.float64], edges_aa: NDArray[np.float64], out_aa: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean flux density of a spectrum in other pixels, with its inverse variance.

    Parameters
    ----------
    flux : ndarray of float64, shape (n,)
        Flux per unit of wavelength.
    ivar : ndarray of float64, shape (n,)
        Inverse variance. Pixels where it is not a positive finite number, or the flux not finite, have no weight.
    edges_aa : ndarray of float64, shape (n + 1,)
        Edges of the pixels, rising.
    out_aa : ndarray of float64, shape (m + 1,)
        Edges of the wanted pixels, rising, in the same unit.

    Returns
    -------
    flux, ivar : ndarray of float64, shape (m,)
        Both are 0 where less than half of a pixel's width is covered by pixels with weight.

    Raises
    ------
    ValueError
        If the shapes disagree.

    Notes
    -----
    With ``w`` the widths that pixels share, the flux is ``sum(w f) / sum(w)`` and its variance
    ``sum(w^2 var) / sum(w)^2``, exact for independent pixels. Neighbours of the result that share a pixel are
    correlated; the inverse variances are those of single pixels.
    """
    n = len(edges_aa) - 1
    if flux.shape != (n,) or ivar.shape != (n,) or n < 1 or len(out_aa) < 2:
        raise ValueError(f"{flux.shape} fluxes and {ivar.shape} weights between {n + 1} edges, {len(out_aa)} wanted")
    out_flux, out_ivar = np.empty(len(out_aa) - 1), np.empty(len(out_aa) - 1)
    _rebin(flux, ivar, edges_aa, out_aa, out_flux, out_ivar)
    return out_flux, out_ivar


@njit(nogil=True, cache=True)
def _rebin(flux, ivar, edges, out_edges, out_flux, out_ivar):
    n = len(flux)
    first = np.searchsorted(edges, out_edges[0], side="right") - 1
    first = max(first, 0)
    for j in range(len(out_flux)):
        low, high = out_edges[j], out_edges[j + 1]
        while first < n and edges[first + 1] <= low:
            first += 1
        cover, total, variance = 0.0, 0.0, 0.0
        i = first
        while i < n and edges[i] < high:
            if 0.0 < ivar[i] < np.inf and np.isfinite(flux[i]):
                width = min(high, edges[i + 1]) - max(low, edges[i])
                cover += width
                total += width * flux[i]
                variance += width * width / ivar[i]
            i += 1
        if cover > 0.0 and cover >= (LEAST_COVER - _ROUNDING) * (high - low):
            out_flux[j] = total / cover
            out_ivar[j] = cover * cover / variance
        else:
            out_flux[j] = 0.0
            out_ivar[j] = 0.0
