"""Chi^2 of spectra to templates, a polynomial profiled out; the k best, and their best combination.

The model of a spectrum is ``p(x) T(x)``: a template times a polynomial of order 0, 1 or 2 that takes up the flux
calibration (LASPM, section 3). A spectrum goes through three scores, each dearer and for fewer templates: one from
a short basis of all templates, one on all pixels in float32, and least squares in float64, which alone decides. A
template is dropped only if its score is behind that of the k-th best by more than six times the scatter that the
scores of this very spectrum have about the next ones; all go through where that is what it takes.

The work is done in one thread and without the interpreter's lock: run as many calls at a time as there are cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from stellarscale.kernels.simplex import minimise_on_simplex
from stellarscale.kernels.template_choose import limit_of, not_above, smallest, sort_by
from stellarscale.kernels.template_fit import chi2_of, fill_residual, fit, gram, move, solve
from stellarscale.kernels.template_prepare import Templates, prepare
from stellarscale.kernels.template_rank import expand, first_scores, project, residual_sums, weigh

__all__ = ["Matches", "Templates", "match_spectra", "prepare"]

# How many templates the first score sends on at least; their scatter must be measured.
_FIRST = 32


@dataclass(frozen=True, eq=False)
class Matches:
    """The best templates of each spectrum.

    A spectrum with fewer than ``order + 2 + k`` pixels of weight, or without templates, has index -1 and NaN
    everywhere; one with fewer than k templates has index -1, weight 0 and NaN in the places left over.

    Attributes
    ----------
    index : ndarray of int32, shape (n, k)
        Numbers of the templates, smallest chi^2 first; equal ones by number.
    weights : ndarray, shape (n, k)
        Weights of the best combination of the models of these templates: not negative, their sum one.
    chi2 : ndarray, shape (n, k)
        Of each template with its own polynomial.
    chi2_combined : ndarray, shape (n,)
        Of the combination.
    n_pix : ndarray of int32, shape (n,)
        Pixels with weight.
    coefficients : ndarray, shape (n, k, order + 1)
        Of the polynomials, constant first; x runs from -1 at the first pixel to 1 at the last.
    scored : ndarray of int32, shape (n, 2)
        Templates that were scored on all pixels, and those by least squares in float64.
    """

    index: NDArray[np.int32]
    weights: NDArray[np.float64]
    chi2: NDArray[np.float64]
    chi2_combined: NDArray[np.float64]
    n_pix: NDArray[np.int32]
    coefficients: NDArray[np.float64]
    scored: NDArray[np.int32]


class _Output(NamedTuple):
    number: NDArray[np.int32]
    weights: NDArray[np.float64]
    chi2: NDArray[np.float64]
    chi2_combined: NDArray[np.float64]
    n_pix: NDArray[np.int32]
    coefficients: NDArray[np.float64]
    scored: NDArray[np.int32]


class _Spectrum(NamedTuple):
    """The spectrum in work: flux near one, weight, and place of its pixels, all float32."""

    y: NDArray[np.float32]
    weight: NDArray[np.float32]
    x: NDArray[np.float32]


class _Moments(NamedTuple):
    """Float32 sums of the spectrum in work: over pixels, over the bases, for every template."""

    flux_rows: NDArray[np.float32]
    weight_rows: NDArray[np.float32]
    projected: NDArray[np.float32]
    squared_projected: NDArray[np.float32]
    b: NDArray[np.float32]
    a: NDArray[np.float32]


class _Scores(NamedTuple):
    """The three scores of every template, who is out of the present round, and the numbers of those in it."""

    first: NDArray[np.float32]
    pixel: NDArray[np.float32]
    chi2: NDArray[np.float64]
    done: NDArray[np.bool_]
    seen: NDArray[np.int64]
    best: NDArray[np.float64]


class _Combination(NamedTuple):
    residuals: NDArray[np.float64]
    gram: NDArray[np.float64]


def match_spectra(
    flux: ArrayLike,
    ivar: ArrayLike,
    templates: Templates,
    *,
    k: int = 5,
    candidates: int = 16,
    groups: ArrayLike | None = None,
    own: ArrayLike | None = None,
) -> Matches:
    """Find the k templates of smallest chi^2 for each spectrum, and their best combination (LASPM, section 3).

    Parameters
    ----------
    flux, ivar : array_like, shape (n, n_pix)
        Spectra and inverse variances on the pixels of the templates; used in float32. A pixel whose inverse
        variance is not positive and finite, or whose flux is not finite, has no weight.
    templates : Templates
        From `prepare`.
    k : int
        How many templates to find and combine.
    candidates : int
        How many templates are fitted in float64 at least.
    groups : array_like of int, shape (n_ref,), optional
    own : array_like of int, shape (n,), optional
        Templates whose group is the spectrum's own do not take part: a star is not matched with itself.

    Raises
    ------
    ValueError
        If shapes do not fit, ``k`` or ``candidates`` is not positive, or only one of groups and own is given.
    """
    spectra, weights = _float32(flux, "flux", templates), _float32(ivar, "ivar", templates)
    if spectra.shape != weights.shape:
        raise ValueError(f"flux and ivar must have the same shape, not {spectra.shape} and {weights.shape}")
    if k < 1 or candidates < 1:
        raise ValueError(f"k and candidates must be positive, not {k} and {candidates}")
    n = len(spectra)
    out = _Output(
        number=np.full((n, k), -1, dtype=np.int32),
        weights=np.full((n, k), np.nan),
        chi2=np.full((n, k), np.nan),
        chi2_combined=np.full(n, np.nan),
        n_pix=np.zeros(n, dtype=np.int32),
        coefficients=np.full((n, k, templates.order + 1), np.nan),
        scored=np.zeros((n, 2), dtype=np.int32),
    )
    group_of_template, group_of_spectrum = _groups(groups, own, len(templates.flux), n)
    _match_all(spectra, weights, templates, group_of_template, group_of_spectrum, max(k, candidates), out)
    return Matches(*out)


def _float32(values: ArrayLike, name: str, templates: Templates) -> NDArray[np.float32]:
    array = np.ascontiguousarray(values, dtype=np.float32)
    n_pix = templates.flux.shape[1]
    if array.ndim != 2 or array.shape[1] != n_pix:
        raise ValueError(f"{name} must have the shape (n, {n_pix}) of the templates, not {array.shape}")
    return array


def _groups(
    groups: ArrayLike | None, own: ArrayLike | None, n_ref: int, n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Groups of templates and spectra; without any, no two are the same."""
    if groups is None and own is None:
        return np.zeros(n_ref, dtype=np.int64), np.ones(n, dtype=np.int64)
    if groups is None or own is None:
        raise ValueError("groups and own must be given together")
    of_templates, of_spectra = np.asarray(groups, dtype=np.int64), np.asarray(own, dtype=np.int64)
    if of_templates.shape != (n_ref,) or of_spectra.shape != (n,):
        seen = f"{of_templates.shape} and {of_spectra.shape}"
        raise ValueError(f"groups and own must have the shapes ({n_ref},) and ({n},), not {seen}")
    return of_templates, of_spectra


@njit(nogil=True, cache=True)
def _match_all(flux, ivar, templates, groups, own, candidates, out):
    n_ref, n_pix = templates.flux.shape
    k, order = out.number.shape[1], templates.order
    spectrum, sums, scores = _work(templates, k)
    combination = _Combination(np.empty((k, n_pix)), np.empty((k, k)))
    for row in range(len(flux)):
        out.n_pix[row], factor = _load(flux[row], ivar[row], spectrum)
        if out.n_pix[row] < order + 2 + k:
            continue
        place = _centre(spectrum)
        for i in range(n_ref):
            scores.done[i] = groups[i] == own[row]
        out.scored[row, 0] = _on_pixels(spectrum, templates, sums, scores)
        n_found = _in_float64(spectrum, place, templates, candidates, out.scored[row, 0], scores)
        out.scored[row, 1] = n_found
        sort_by(scores.chi2, scores.seen[:n_found])
        if n_found > 0:
            _combine(row, spectrum, place, factor, templates, scores, n_found, combination, out)


@njit(nogil=True, cache=True)
def _work(templates, k):
    """Arrays for the work on one spectrum, used again for the next."""
    n_ref, n_pix = templates.flux.shape
    n_b, n_a, kind = templates.order + 1, 2 * templates.order + 1, np.float32
    spectrum = _Spectrum(np.empty(n_pix, kind), np.empty(n_pix, kind), np.empty(n_pix, kind))
    sums = _Moments(
        np.empty((n_b, n_pix), kind),
        np.empty((n_a, n_pix), kind),
        np.empty((n_b, len(templates.basis)), kind),
        np.empty((n_a, len(templates.squared_basis)), kind),
        np.zeros((3, n_ref), kind),
        np.zeros((5, n_ref), kind),
    )
    scores = _Scores(
        np.empty(n_ref, kind),
        np.empty(n_ref, kind),
        np.empty(n_ref),
        np.empty(n_ref, np.bool_),
        np.empty(n_ref, np.int64),
        np.empty(k),
    )
    return spectrum, sums, scores


@njit(nogil=True, cache=True)
def _load(flux, ivar, spectrum):
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
def _centre(spectrum):
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
def _on_pixels(spectrum, templates, sums, scores):
    """Give the templates that matter their score on all pixels; return how many, their numbers in ``seen``."""
    y, weight, x = spectrum
    weigh(y, weight, x, sums.flux_rows, sums.weight_rows)
    project(sums.flux_rows, templates.basis, sums.projected)
    project(sums.weight_rows, templates.squared_basis, sums.squared_projected)
    expand(sums.projected, templates.loadings, sums.b)
    expand(sums.squared_projected, templates.squared_loadings, sums.a)
    first_scores(sums.b, sums.a, scores.first)
    size, ready = smallest(scores.first, scores.done, max(_FIRST, len(scores.best)), scores.seen), 0
    while size > ready:
        for t in range(ready, size):
            i = scores.seen[t]
            scores.pixel[i] = _pixel_score(i, spectrum, templates, sums)
        ready = size
        limit = limit_of(scores.first, scores.pixel, scores.seen[:size], scores.best)
        size = not_above(scores.first, scores.done, limit, scores.seen, size)
    for i in range(len(templates.odd)):
        if templates.odd[i] and not scores.done[i]:
            scores.pixel[i] = _pixel_score(i, spectrum, templates, sums)
            scores.seen[size] = i
            size += 1
    return size


@njit(nogil=True, cache=True)
def _pixel_score(i, spectrum, templates, sums):
    """Chi^2 of a template on all pixels, to float32."""
    b, a, order = sums.b[:, i], sums.a[:, i], templates.order
    start = solve((b[0], b[1], b[2]), (a[0], a[1], a[2], a[3], a[4]), order)
    chi2, slopes, squares = residual_sums(spectrum.y, spectrum.weight, spectrum.x, templates.flux[i], start)
    step = solve(slopes, squares, order)
    return chi2 - (slopes[0] * step[0] + slopes[1] * step[1] + slopes[2] * step[2])


@njit(nogil=True, cache=True)
def _in_float64(spectrum, place, templates, candidates, n_seen, scores):
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


@njit(nogil=True, cache=True)
def _combine(row, spectrum, place, factor, templates, scores, n_found, combination, out):
    """Write the best of the templates in ``seen`` and the weights of their combination."""
    y, weight = spectrum.y, spectrum.weight
    found = min(n_found, out.number.shape[1])
    for t in range(found):
        i = scores.seen[t]
        coefficients = fit(y, weight, place, templates.flux[i], templates.order)
        fill_residual(y, weight, place, templates.flux[i], coefficients, combination.residuals[t])
        move(coefficients, place, len(y), factor / templates.scale[i], out.coefficients[row, t])
        out.number[row, t] = i
        out.chi2[row, t] = scores.chi2[i]
    square = combination.gram[:found, :found]
    gram(combination.residuals[:found], square)
    out.weights[row] = 0.0
    out.chi2_combined[row] = minimise_on_simplex(square, out.weights[row, :found])
