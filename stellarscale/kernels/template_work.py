"""The work on one spectrum: its arrays, and the three scores of the templates, each for those the last one left."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stellarscale.kernels.template_choose import limit_of, not_above, smallest, worst_of_best
from stellarscale.kernels.template_fit import chi2_of, fit, solve
from stellarscale.kernels.template_rank import (
    bin_power,
    expand,
    first_scores,
    lower_bounds,
    project,
    residual_sums,
    weigh,
)

# What float32 sums may be off by, relative to the sum of w y^2.
_FLOAT32 = 1e-6
# How many templates the first score sends on at least.
_FIRST = 32


class Spectrum(NamedTuple):
    """The spectrum in work: flux near one, weight, and place of its pixels, all float32."""

    y: NDArray[np.float32]
    weight: NDArray[np.float32]
    x: NDArray[np.float32]


class Moments(NamedTuple):
    """Float32 sums of the spectrum in work: over pixels, over the bases, for every template."""

    flux_rows: NDArray[np.float32]
    weight_rows: NDArray[np.float32]
    projected: NDArray[np.float32]
    squared_projected: NDArray[np.float32]
    b: NDArray[np.float32]
    a: NDArray[np.float32]
    bin_row: NDArray[np.float32]
    corrections: NDArray[np.float32]


class Scores(NamedTuple):
    """The three scores of every template and the lower bound that goes with the first.

    Beside them: who is out of the present round, the numbers of those in it, and the k smallest scores.
    """

    first: NDArray[np.float32]
    allowance: NDArray[np.float32]
    bound: NDArray[np.float32]
    pixel: NDArray[np.float32]
    chi2: NDArray[np.float64]
    done: NDArray[np.bool_]
    seen: NDArray[np.int64]
    best: NDArray[np.float64]


@njit(nogil=True, cache=True)
def work(templates, k):
    """Arrays for the work on one spectrum, used again for the next."""
    n_ref, n_pix = templates.flux.shape
    n_b, n_a, kind = templates.order + 1, 2 * templates.order + 1, np.float32
    spectrum = Spectrum(np.empty(n_pix, kind), np.empty(n_pix, kind), np.empty(n_pix, kind))
    sums = Moments(
        np.empty((n_b, n_pix), kind),
        np.empty((n_a, n_pix), kind),
        np.empty((n_b, len(templates.basis)), kind),
        np.empty((n_a, len(templates.squared_basis)), kind),
        np.zeros((3, n_ref), kind),
        np.zeros((5, n_ref), kind),
        np.empty((1, len(templates.rest)), kind),
        np.empty((1, n_ref), kind),
    )
    scores = Scores(
        np.empty(n_ref, kind),
        np.empty(n_ref, kind),
        np.empty(n_ref, kind),
        np.empty(n_ref, kind),
        np.empty(n_ref),
        np.empty(n_ref, np.bool_),
        np.empty(n_ref, np.int64),
        np.empty(k),
    )
    return spectrum, sums, scores


@njit(nogil=True, cache=True)
def load(flux, ivar, spectrum):
    """Fill flux and weight, zero where there is no weight; return the number of pixels and the factor taken out.

    The factor is a power of two: it keeps float32 in its range and rounds nothing.
    """
    n_pix, total, total_weight = 0, 0.0, 0.0
    for pixel in range(len(flux)):
        y, weight = np.float64(flux[pixel]), np.float64(ivar[pixel])
        if weight > 0 and np.isfinite(weight) and np.isfinite(y):
            n_pix += 1
            total += weight * y * y
            total_weight += weight
    factor = 2.0 ** np.round(0.5 * np.log2(total / total_weight)) if total > 0 else 1.0
    for pixel in range(len(flux)):
        y, weight = np.float64(flux[pixel]), np.float64(ivar[pixel])
        used = weight > 0 and np.isfinite(weight) and np.isfinite(y)
        spectrum.y[pixel] = y / factor if used else 0.0
        spectrum.weight[pixel] = weight * factor * factor if used else 0.0
    return n_pix, factor


@njit(nogil=True, cache=True)
def centre(spectrum):
    """Fill x, zero in the weighted middle and near one elsewhere: the powers of x stay far from each other.

    Returns
    -------
    tuple of float
        The pixel where x is zero, and the change of x from pixel to pixel.
    """
    total, first = 0.0, 0.0
    for pixel in range(len(spectrum.weight)):
        weight = np.float64(spectrum.weight[pixel])
        total += weight
        first += weight * pixel
    middle = first / total
    n, square = 0, 0.0
    for pixel in range(len(spectrum.weight)):
        if spectrum.weight[pixel] > 0:
            n += 1
            square += (pixel - middle) ** 2
    scale = np.sqrt(n / square)
    for pixel in range(len(spectrum.weight)):
        spectrum.x[pixel] = (pixel - middle) * scale
    return middle, scale


@njit(nogil=True, cache=True)
def on_pixels(spectrum, n_pix, templates, sums, scores):
    """Give the templates that matter their score on all pixels; return how many, their numbers in ``seen``."""
    y, weight, x = spectrum
    weigh(y, weight, x, sums.flux_rows, sums.weight_rows)
    project(sums.flux_rows, templates.basis, sums.projected)
    project(sums.weight_rows, templates.squared_basis, sums.squared_projected)
    expand(sums.projected, templates.loadings, sums.b)
    expand(sums.squared_projected, templates.squared_loadings, sums.a)
    total = _bound_all(spectrum, n_pix, templates, sums, scores)
    size, ready = smallest(scores.first, scores.done, max(_FIRST, len(scores.best)), scores.seen), 0
    while size > ready:
        for t in range(ready, size):
            i = scores.seen[t]
            scores.pixel[i] = _pixel_score(i, spectrum, templates, sums)
        ready = size
        limit = worst_of_best(scores.pixel, scores.seen[:size], scores.best) + _FLOAT32 * total
        size = not_above(scores.bound, scores.done, limit, scores.seen, size)
    return size


@njit(nogil=True, cache=True)
def _bound_all(spectrum, n_pix, templates, sums, scores):
    """Give all templates their first score and the lower bound of their chi^2; return the sum of w y^2."""
    total, uneven = bin_power(spectrum.y, spectrum.weight, templates.edges, sums.bin_row[0])
    first_scores(np.float32(total), sums.b, sums.a, scores.first)
    expand(sums.bin_row, templates.off, sums.corrections)
    for i in range(len(scores.first)):
        scores.first[i] -= sums.corrections[0, i]
        scores.allowance[i] = templates.off_slack[i] * uneven + _FLOAT32 * total
    expand(sums.bin_row, templates.rest, sums.corrections)
    for i in range(len(scores.first)):
        sums.corrections[0, i] += templates.rest_slack[i] * uneven
    lower_bounds(scores.first, sums.corrections[0], scores.allowance, n_pix, scores.bound)
    return total


@njit(nogil=True, cache=True)
def _basis_fit(i, sums, order):
    """Coefficients of the polynomial of one template by the basis."""
    b, a = sums.b[:, i], sums.a[:, i]
    return solve((b[0], b[1], b[2]), (a[0], a[1], a[2], a[3], a[4]), order)


@njit(nogil=True, cache=True)
def _pixel_score(i, spectrum, templates, sums):
    """Chi^2 of a template on all pixels, to float32."""
    start = _basis_fit(i, sums, templates.order)
    chi2, slopes, squares = residual_sums(spectrum.y, spectrum.weight, spectrum.x, templates.flux[i], start)
    step = solve(slopes, squares, templates.order)
    return chi2 - (slopes[0] * step[0] + slopes[1] * step[1] + slopes[2] * step[2])


@njit(nogil=True, cache=True)
def in_float64(spectrum, place, templates, candidates, n_seen, scores):
    """Fit the templates that matter in float64; return how many, their numbers in ``seen``."""
    y, weight = spectrum.y, spectrum.weight
    scores.done[:] = True
    for i in scores.seen[:n_seen]:
        scores.done[i] = False
    size, ready = smallest(scores.pixel, scores.done, candidates, scores.seen), 0
    while size > ready:
        for t in range(ready, size):
            i = scores.seen[t]
            template = templates.flux[i]
            scores.chi2[i] = chi2_of(y, weight, place, template, fit(y, weight, place, template, templates.order))
        ready = size
        limit = limit_of(scores.pixel, scores.chi2, scores.seen[:size], scores.best)
        size = not_above(scores.pixel, scores.done, limit, scores.seen, size)
    return size
