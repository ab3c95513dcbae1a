"""The second score: chi^2 of one template on all pixels in float32.

It comes from the residuals of the polynomial that the basis gave, and a step from there to the best polynomial.
Residuals do not cancel, so float32 is good to a few parts in 10^6 at any signal-to-noise, where ``F - b' A^-1 b`` is
not. The step takes its matrix from the basis too, unless the error of that could matter.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from stellarscale.kernels.template_fit import solve
from stellarscale.kernels.template_rank import SUMS

# How far the matrix of the basis may take the score off, as a share of it.
DOUBT = 3e-4
# Steps at most: from a start far off, the first is rounded.
_STEPS = 3


@njit(nogil=True, cache=True)
def pixel_scores(spectrum, flux, numbers, moments, errors, limit, order, score):
    """Chi^2 of some templates on all pixels, to float32 and `DOUBT`; a lower bound where that is above the limit.

    Parameters
    ----------
    spectrum : Spectrum
    flux : ndarray of float32, shape (n_ref, n_pix)
    numbers : ndarray of int64
        Which templates.
    moments : tuple of ndarray of float32, shapes (3, n_ref) and (5, n_ref)
        Sums of ``w y T x^j`` and ``w T^2 x^m`` by the basis.
    errors : ndarray of float32, shape (n_ref,)
        How far those of ``w T^2`` may be off, as a share.
    limit : float
        Above it a score no longer matters.
    order : int
    score : ndarray of float32, shape (n_ref,)
        Filled for the templates asked for.
    """
    y, weight, x = spectrum
    bs, squares = moments
    for i in numbers:
        a = (squares[0, i], squares[1, i], squares[2, i], squares[3, i], squares[4, i])
        start = solve((bs[0, i], bs[1, i], bs[2, i]), a, order)
        if order == 0:
            total, slopes = _slope(y, weight, flux[i], start[0])
        else:
            total, slopes = _slopes(y, weight, x, flux[i], start)
        gain = _times(slopes, solve(slopes, a, order))
        score[i] = total - gain
        if errors[i] < 0.5:  # a matrix off by the share e puts the gain off by e / (1 - e)
            least = total - gain * (1.0 + 2.0 * errors[i])
            if least > limit and least >= gain:
                score[i] = least
                continue
            if 2.0 * gain * errors[i] <= DOUBT * score[i] and score[i] >= gain:
                continue
        score[i] = _from_afar(y, weight, x, flux[i], start, order)


@njit(nogil=True, cache=True)
def _from_afar(y, weight, x, template, start, order):
    """Chi^2 with the matrix from all pixels too; again from where that led if most of the sum is what it fell by."""
    score = np.inf
    for _ in range(_STEPS):
        total, slopes, squares = _residual_sums(y, weight, x, template, start)
        step = solve(slopes, squares, order)
        gain = _times(slopes, step)
        score = total - gain
        if score >= gain:
            break
        start = (start[0] + step[0], start[1] + step[1], start[2] + step[2])
    return score


@njit(nogil=True, cache=True)
def _times(slopes, step):
    """What chi^2 falls by on a step."""
    return slopes[0] * step[0] + slopes[1] * step[1] + slopes[2] * step[2]


@njit(nogil=True, cache=True, fastmath=SUMS)
def _slope(y, weight, template, constant):
    """Chi^2 of a template times a constant, and the sum of ``w r T`` over the residuals r; zeros for more powers."""
    c0 = np.float32(constant)
    total = g0 = np.float32(0)
    for pixel in range(len(y)):
        flux = template[pixel]
        residual = y[pixel] - c0 * flux
        weighted = weight[pixel] * residual
        total += weighted * residual
        g0 += weighted * flux
    return total, (g0, np.float32(0), np.float32(0))


@njit(nogil=True, cache=True, fastmath=SUMS)
def _slopes(y, weight, x, template, coefficients):
    """Chi^2 of a template times a polynomial in x, and the sums of ``w r T x^j`` over the residuals r."""
    c0, c1, c2 = np.float32(coefficients[0]), np.float32(coefficients[1]), np.float32(coefficients[2])
    total = g0 = g1 = g2 = np.float32(0)
    for pixel in range(len(y)):
        place, flux = x[pixel], template[pixel]
        residual = y[pixel] - (c0 + place * (c1 + place * c2)) * flux
        weighted = weight[pixel] * residual
        total += weighted * residual
        slope = weighted * flux
        g0 += slope
        slope *= place
        g1 += slope
        g2 += slope * place
    return total, (g0, g1, g2)


@njit(nogil=True, cache=True, fastmath=SUMS)
def _residual_sums(y, weight, x, template, coefficients):
    """As `_slopes`, with the sums of ``w T^2 x^m``."""
    c0, c1, c2 = np.float32(coefficients[0]), np.float32(coefficients[1]), np.float32(coefficients[2])
    total = g0 = g1 = g2 = a0 = a1 = a2 = a3 = a4 = np.float32(0)
    for pixel in range(len(y)):
        place, flux = x[pixel], template[pixel]
        residual = y[pixel] - (c0 + place * (c1 + place * c2)) * flux
        weighted = weight[pixel] * flux
        total += weight[pixel] * residual * residual
        slope, square = weighted * residual, weighted * flux
        g0 += slope
        slope *= place
        g1 += slope
        g2 += slope * place
        a0 += square
        square *= place
        a1 += square
        square *= place
        a2 += square
        square *= place
        a3 += square
        a4 += square * place
    return total, (g0, g1, g2), (a0, a1, a2, a3, a4)
