"""Taking a smooth multiplicative scale off a spectrum, so that spectra of unlike flux calibration compare.

The scale is the exponential of a polynomial in pixel number and so always positive. It is fixed by moments: flux over
scale must have, weight by weight, the same sums against 1, x, x^2 as a spectrum that is flat already. That is the
minimum of a convex function, so there is one answer and Newton's steps find it; a ratio of polynomials has neither.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

BINS = 64
"""The scale is smooth: its moments are taken over this many bins of pixels."""
_STEPS = 30
_TINY = 1e-9

Floats = NDArray[np.float64]


def flatten(flux: NDArray, *, order: int) -> Floats:
    """Spectra over their own scales: mean flux one (to about 1e-3) and, from order 1 on, no slope, no curvature.

    Parameters
    ----------
    flux : ndarray, shape (n, n_pix)
        Finite in every pixel, positive on the whole.
    order : int
        Of the polynomial in the exponent: 0, 1 or 2.

    Returns
    -------
    ndarray of float64, shape (n, n_pix)

    Raises
    ------
    ValueError
        If the order is another one, a value is not finite or a spectrum's mean is not positive.
    """
    spectra = np.ascontiguousarray(flux, dtype=np.float64)
    if order not in (0, 1, 2):
        raise ValueError(f"order must be 0, 1 or 2, not {order}")
    if not np.all(np.isfinite(spectra)):
        raise ValueError("flux must be finite in every pixel")
    if np.any(spectra.mean(axis=1) <= 0):
        raise ValueError(f"spectrum {int(np.argmin(spectra.mean(axis=1)))} has no positive mean flux")
    return _flatten(spectra, order)


@njit(nogil=True, cache=True)
def _flatten(spectra, order):
    n, n_pix = spectra.shape
    flat, ones = np.empty((n, n_pix)), np.ones(n_pix)
    coefficients = np.zeros(order + 1)
    for s in range(n):
        find_scale(spectra[s], ones, ones, coefficients)
        for pixel in range(n_pix):
            flat[s, pixel] = spectra[s, pixel] / scale_at(coefficients, pixel, n_pix)
    return flat


@njit(nogil=True, cache=True)
def position(place, n_pix):
    """Abscissa of a place in pixels: -1 at the first pixel, 1 at the last."""
    return 2.0 * place / max(n_pix - 1, 1) - 1.0


@njit(nogil=True, cache=True)
def scale_at(coefficients, pixel, n_pix):
    """The scale at a pixel: ``exp(c0 + c1 x + c2 x^2)``."""
    x = position(pixel, n_pix)
    power, exponent = 1.0, 0.0
    for c in coefficients:
        exponent += c * power
        power *= x
    return np.exp(exponent)


@njit(nogil=True, cache=True)
def find_scale(flux, share, model, coefficients):
    """Fill in the coefficients under which ``share * (flux / scale - model)`` has no moment of any order.

    Parameters
    ----------
    flux, share, model : ndarray, shape (n_pix,)
        ``share`` is 0 where a pixel does not count and 1 where it does in full; ``model`` is flat already.
    coefficients : ndarray of float64, shape (order + 1,)
        Written to.

    Returns
    -------
    bool
        False when the pixels that count hold no positive flux; the coefficients mean nothing then.
    """
    n_pix, n_bins, m = len(flux), min(BINS, len(flux)), len(coefficients)
    seen, wanted = np.zeros(n_bins), np.zeros(n_bins)
    for pixel in range(n_pix):
        b = pixel * n_bins // n_pix
        if share[pixel] > 0:
            seen[b] += share[pixel] * flux[pixel]
            wanted[b] += share[pixel] * model[pixel]
    seen = np.maximum(seen, 0.0)  # noise below zero over a whole bin would end the convexity
    coefficients[:] = 0.0
    if not (np.sum(seen) > 0 and np.sum(wanted) > 0):
        return False
    coefficients[0] = np.log(np.sum(seen) / np.sum(wanted))
    for _ in range(_STEPS):
        gradient, curvature = _derivatives(seen, wanted, n_pix, coefficients)
        step = np.linalg.solve(curvature, gradient)
        largest = np.max(np.abs(step))
        for i in range(m):
            coefficients[i] += step[i] / max(largest, 1.0)
        if largest < _TINY:
            break
    return True


@njit(nogil=True, cache=True)
def _derivatives(seen, wanted, n_pix, coefficients):
    """Moments of what the scale leaves over, and the curvature of the convex function they belong to."""
    n_bins, m = len(seen), len(coefficients)
    gradient, curvature = np.zeros(m), np.zeros((m, m))
    for b in range(n_bins):
        middle = (b + 0.5) * n_pix / n_bins - 0.5
        x = position(middle, n_pix)
        left = seen[b] / scale_at(coefficients, middle, n_pix)
        for i in range(m):
            gradient[i] += (left - wanted[b]) * x**i
            for j in range(m):
                curvature[i, j] += left * x ** (i + j)
    for i in range(m):
        curvature[i, i] += 1e-12 * curvature[0, 0]
    return gradient, curvature
