"""Spectra with nothing in the pixels that carry no information, and sums over the others, in one pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class CleanSpectra(NamedTuple):
    """Flux and ivar float32 (n, n_pix), 0 where a pixel does not count; sums over those that do, each (n,)."""

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    n_pix: NDArray[np.int32]
    weighted: NDArray[np.float64]
    snr2: NDArray[np.float64]


def clean_spectra(flux: NDArray[np.float32], ivar: NDArray[np.float32], window: NDArray[np.bool_]) -> CleanSpectra:
    """Copy spectra with zeros where a pixel lies outside of the window or carries no information.

    Parameters
    ----------
    flux, ivar : ndarray of float32, shape (n, n_pix)
        A pixel counts where both are finite and ``ivar`` is positive.
    window : ndarray of bool, shape (n_pix,)

    Returns
    -------
    CleanSpectra
        ``weighted`` is the sum of flux times ivar, ``snr2`` the mean of flux squared times ivar (0 without pixels).
    """
    result = CleanSpectra(
        np.empty(flux.shape, dtype=np.float32),
        np.empty(flux.shape, dtype=np.float32),
        np.empty(len(flux), dtype=np.int32),
        np.empty(len(flux)),
        np.empty(len(flux)),
    )
    _clean(_read_only(flux), _read_only(ivar), _read_only(window), *result)
    return result


def _read_only(values: NDArray) -> NDArray:
    """A contiguous view that is not written to, so that the loop is compiled once for every caller's arrays."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _clean(flux, ivar, window, clean_flux, clean_ivar, n_pix, weighted, snr2):
    for row in range(flux.shape[0]):
        count, first, second = 0, 0.0, 0.0
        for pixel in range(flux.shape[1]):
            f, w = flux[row, pixel], ivar[row, pixel]
            counts = window[pixel] and w > 0 and w < np.inf and abs(f) < np.inf
            f, w = (f, w) if counts else (np.float32(0), np.float32(0))
            clean_flux[row, pixel], clean_ivar[row, pixel] = f, w
            product = np.float64(f) * np.float64(w)
            count += counts
            first += product
            second += product * np.float64(f)
        n_pix[row], weighted[row], snr2[row] = count, first, second / max(count, 1)
