"""One spectrum against one template in float64: the polynomial, the residuals and chi^2 that decide."""

from __future__ import annotations

import numpy as np
from numba import njit

from stellarscale.kernels.template_rank import SUMS

_SINGULAR = 1e-12


@njit(nogil=True, cache=True, fastmath=SUMS)
def moments(y, weight, place, template):
    """Sums of ``w y T x^j`` (j = 0, 1, 2) and ``w T^2 x^m`` (m = 0..4), x = (pixel - place[0]) * place[1]."""
    b0 = b1 = b2 = a0 = a1 = a2 = a3 = a4 = 0.0
    middle, scale = place
    for pixel in range(len(y)):
        x = (pixel - middle) * scale
        t = np.float64(template[pixel])
        wt = weight[pixel] * t
        product = wt * y[pixel]
        b0 += product
        product *= x
        b1 += product
        b2 += product * x
        square = wt * t
        a0 += square
        square *= x
        a1 += square
        square *= x
        a2 += square
        square *= x
        a3 += square
        a4 += square * x
    return (b0, b1, b2), (a0, a1, a2, a3, a4)


@njit(nogil=True, cache=True)
def fit_some(spectrum, place, flux, numbers, order, chi2, coefficients):
    """Fill chi^2 of some templates and the coefficients in x of the polynomials that make it smallest."""
    y, weight = spectrum.y, spectrum.weight
    for i in numbers:
        b, a = moments(y, weight, place, flux[i])
        best = solve(b, a, order)
        chi2[i] = chi2_of(y, weight, place, flux[i], best)
        coefficients[i, 0], coefficients[i, 1], coefficients[i, 2] = best


@njit(nogil=True, cache=True)
def solve(b, a, order):
    """Coefficients of the polynomial in x from its moments, by LDL'; zero where the pixels cannot tell a term."""
    b0, b1, b2 = b
    a0, a1, a2, a3, a4 = a
    if not a0 > 0:
        return 0.0, 0.0, 0.0
    l1, l2 = a1 / a0, a2 / a0
    d1 = a2 - l1 * a1
    e = a3 - l2 * a1
    z1 = b1 - l1 * b0
    if order < 1 or not d1 > _SINGULAR * a2:
        return b0 / a0, 0.0, 0.0
    l3 = e / d1
    d2 = a4 - l2 * a2 - l3 * e
    c2 = 0.0
    if order > 1 and d2 > _SINGULAR * a4:
        c2 = (b2 - l2 * b0 - l3 * z1) / d2
    c1 = z1 / d1 - l3 * c2
    return b0 / a0 - l1 * c1 - l2 * c2, c1, c2


@njit(nogil=True, cache=True, fastmath=SUMS)
def chi2_of(y, weight, place, template, coefficients):
    """Chi^2 from the residuals of one template times its polynomial."""
    c0, c1, c2 = coefficients
    middle, scale = place
    total = 0.0
    for pixel in range(len(y)):
        x = (pixel - middle) * scale
        residual = y[pixel] - (c0 + x * (c1 + x * c2)) * template[pixel]
        total += weight[pixel] * residual * residual
    return total


@njit(nogil=True, cache=True, fastmath=SUMS)
def fill_residual(y, place, template, coefficients, out):
    """Residuals of one template times its polynomial."""
    c0, c1, c2 = coefficients
    middle, scale = place
    for pixel in range(len(y)):
        x = (pixel - middle) * scale
        out[pixel] = y[pixel] - (c0 + x * (c1 + x * c2)) * template[pixel]


@njit(nogil=True, cache=True)
def move(coefficients, place, n_pix, factor, out):
    """Write the coefficients in x from -1 to 1 over all pixels, times a factor."""
    c0, c1, c2 = coefficients
    middle, scale = place
    half = 0.5 * (n_pix - 1)
    stretch, shift = half * scale, (half - middle) * scale
    moved = (c0 + shift * (c1 + shift * c2), stretch * (c1 + 2.0 * shift * c2), stretch * stretch * c2)
    for power in range(len(out)):
        out[power] = factor * moved[power]


@njit(nogil=True, cache=True, fastmath=SUMS)
def gram(residuals, weight, weighted, out):
    """Weighted products of every pair of rows; ``weighted`` (n_pix,) is overwritten."""
    for i in range(len(residuals)):
        for pixel in range(len(weight)):
            weighted[pixel] = weight[pixel] * residuals[i, pixel]
        for j in range(i + 1):
            second = residuals[j]
            total = 0.0
            for pixel in range(len(weight)):
                total += weighted[pixel] * second[pixel]
            out[i, j] = total
            out[j, i] = total
