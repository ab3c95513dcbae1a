"""The work on one spectrum: its arrays, and the three scores of the templates, each for those the last one left."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stellarscale.kernels.template_choose import limit_of, not_above, smallest, worst_of_best
from stellarscale.kernels.template_fit import fit_some
from stellarscale.kernels.template_pixel import DOUBT, pixel_scores
from stellarscale.kernels.template_rank import (
    SUMS,
    bin_power,
    expand,
    first_scores,
    lower_bounds,
    project,
    square_errors,
    weigh,
)

# What float32 sums may be off by, relative to the sum of w y^2.
_FLOAT32 = 1e-6
# How many templates the first score sends on at least.
_FIRST = 16


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
    """The three scores of every template, and what goes with the first: a lower bound, and the error of ``w T^2``.

    Beside them: who is out of the present round, the numbers of those in it, and the k smallest scores.
    """

    first: NDArray[np.float32]
    allowance: NDArray[np.float32]
    bound: NDArray[np.float32]
    error: NDArray[np.float32]
    pixel: NDArray[np.float32]
    chi2: NDArray[np.float64]
    coefficients: NDArray[np.float64]
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
        np.empty(n_ref, kind),
        np.empty(n_ref),
        np.empty((n_ref, 3)),
        np.empty(n_ref, np.bool_),
        np.empty(n_ref, np.int64),
        np.empty(k),
    )
    return spectrum, sums, scores


@njit(nogil=True, cache=True, fastmath=SUMS)
def load(flux, ivar, spectrum):
    """Fill flux and weight, zero where there is no weight, and x.

    X is zero in the weighted middle and near one elsewhere: its powers stay far from each other.

    Returns
    -------
    int
        The number of pixels; with less than two, x is not filled.
    float
        The factor taken out of the flux, a power of two: it keeps float32 in its range and rounds nothing.
    tuple of float
        The pixel where x is zero, and the change of x from pixel to pixel.
    """
    y, weight, x = spectrum
    infinite, zero = np.float32(np.inf), np.float32(0)
    count = first = second = total = total_weight = weight_first = 0.0
    for pixel in range(len(flux)):
        used = (ivar[pixel] > zero) & (ivar[pixel] < infinite) & (abs(flux[pixel]) < infinite)
        y[pixel] = flux[pixel] if used else zero
        weight[pixel] = ivar[pixel] if used else zero
        one, place = 1.0 if used else 0.0, np.float64(pixel)
        count += one
        first += one * place
        second += one * place * place
        value, inverse = np.float64(y[pixel]), np.float64(weight[pixel])
        total += inverse * value * value
        total_weight += inverse
        weight_first += inverse * place
    n_pix = int(count)
    if n_pix < 2:
        return n_pix, 1.0, (0.0, 1.0)
    factor = 2.0 ** np.round(0.5 * np.log2(total / total_weight)) if total > 0 else 1.0
    middle = weight_first / total_weight
    scale = np.sqrt(count / (second - 2.0 * middle * first + count * middle * middle))
    shrink, square = 1.0 / factor, factor * factor
    for pixel in range(len(flux)):
        y[pixel] = y[pixel] * shrink
        weight[pixel] = weight[pixel] * square
        x[pixel] = (pixel - middle) * scale
    return n_pix, factor, (middle, scale)


@njit(nogil=True, cache=True)
def on_pixels(spectrum, n_pix, templates, sums, scores):
    """Give the templates that matter their score on all pixels, their numbers in ``seen``.

    Returns
    -------
    int
        How many they are.
    float
        The sum of ``w y^2``.
    """
    y, weight, x = spectrum
    weigh(y, weight, x, sums.flux_rows, sums.weight_rows)
    project(sums.flux_rows, templates.basis, sums.projected)
    project(sums.weight_rows, templates.squared_basis, sums.squared_projected)
    expand(sums.projected, templates.loadings, sums.b)
    expand(sums.squared_projected, templates.squared_loadings, sums.a)
    total = _bound_all(spectrum, n_pix, templates, sums, scores)
    limit, moments = np.inf, (sums.b, sums.a)
    size, ready = smallest(scores.first, scores.done, max(_FIRST, len(scores.best)), scores.seen), 0
    while size > ready:
        new = scores.seen[ready:size]
        pixel_scores(spectrum, templates.flux, new, moments, scores.error, limit, templates.order, scores.pixel)
        ready = size
        limit = (1.0 + DOUBT) * worst_of_best(scores.pixel, scores.seen[:size], scores.best) + _FLOAT32 * total
        size = not_above(scores.bound, scores.done, limit, scores.seen, size)
    return size, total


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
    square_errors(sums.corrections[0], scores.allowance, np.float32(total), scores.error)
    return total


@njit(nogil=True, cache=True)
def in_float64(spectrum, place, templates, candidates, earlier, scores):
    """Fit the templates that matter in float64; return how many, their numbers in ``seen``.

    ``earlier`` is what `on_pixels` returned. Rounding to float32 puts the residuals off by a vector of at most the
    share `_FLOAT32` of the length of the spectrum.
    """
    n_seen, total = earlier
    scores.done[:] = True
    for i in scores.seen[:n_seen]:
        scores.done[i] = False
    size, ready = smallest(scores.pixel, scores.done, candidates, scores.seen), 0
    while size > ready:
        new = scores.seen[ready:size]
        fit_some(spectrum, place, templates.flux, new, templates.order, scores.chi2, scores.coefficients)
        ready = size
        worst = worst_of_best(scores.chi2, scores.seen[:size], scores.best)
        sure = (1.0 + DOUBT) * (np.sqrt(worst) + _FLOAT32 * np.sqrt(total)) ** 2
        limit = max(sure, limit_of(scores.pixel, scores.chi2, scores.seen[:size], scores.best))
        size = not_above(scores.pixel, scores.done, limit, scores.seen, size)
    return size
