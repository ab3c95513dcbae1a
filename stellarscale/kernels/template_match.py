"""Chi^2 of spectra to templates, a polynomial profiled out; the k best, and their best combination.

The model of a spectrum is ``p(x) T(x)``: a template times a polynomial of order 0, 1 or 2 that takes up the flux
calibration (LASPM, section 3). A spectrum goes through three scores, each dearer and for fewer templates: one from
a short basis of all templates, one on all pixels in float32, and least squares in float64, which alone decides. The
first score drops a template only if a lower bound of its chi^2 is above the k-th best on all pixels; the second, if it
is above the k-th best of the third by more than its error, told in advance, and by more than six times the scatter of
the differences seen. All go through where it takes that.

The work is done in one thread and without the interpreter's lock: run as many calls at a time as there are cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from stellarscale.kernels.simplex import minimise_on_simplex
from stellarscale.kernels.template_choose import sort_by
from stellarscale.kernels.template_fit import fill_residual, gram, move
from stellarscale.kernels.template_prepare import Templates, prepare
from stellarscale.kernels.template_work import in_float64, load, on_pixels, work

__all__ = ["Matches", "Templates", "match_spectra", "prepare"]


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


class _Combination(NamedTuple):
    residuals: NDArray[np.float64]
    weighted: NDArray[np.float64]
    gram: NDArray[np.float64]


def match_spectra(
    flux: ArrayLike,
    ivar: ArrayLike,
    templates: Templates,
    *,
    k: int = 5,
    candidates: int = 8,
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
    spectrum, sums, scores = work(templates, k)
    combination = _Combination(np.empty((k, n_pix)), np.empty(n_pix), np.empty((k, k)))
    for row in range(len(flux)):
        out.n_pix[row], factor, place = load(flux[row], ivar[row], spectrum)
        if out.n_pix[row] < order + 2 + k:
            continue
        for i in range(n_ref):
            scores.done[i] = groups[i] == own[row]
        earlier = on_pixels(spectrum, out.n_pix[row], templates, sums, scores)
        n_found = in_float64(spectrum, place, templates, candidates, earlier, scores)
        out.scored[row, 0], out.scored[row, 1] = earlier[0], n_found
        sort_by(scores.chi2, scores.seen[:n_found])
        if n_found > 0:
            _combine(row, spectrum, place, factor, templates, scores, n_found, combination, out)


@njit(nogil=True, cache=True)
def _combine(row, spectrum, place, factor, templates, scores, n_found, combination, out):
    """Write the best of the templates in ``seen`` and the weights of their combination."""
    y, weight = spectrum.y, spectrum.weight
    found = min(n_found, out.number.shape[1])
    for t in range(found):
        i = scores.seen[t]
        c = scores.coefficients[i]
        coefficients = (c[0], c[1], c[2])
        fill_residual(y, place, templates.flux[i], coefficients, combination.residuals[t])
        move(coefficients, place, len(y), factor / templates.scale[i], out.coefficients[row, t])
        out.number[row, t] = i
        out.chi2[row, t] = scores.chi2[i]
    square = combination.gram[:found, :found]
    gram(combination.residuals[:found], weight, combination.weighted, square)
    out.weights[row] = 0.0
    out.chi2_combined[row] = minimise_on_simplex(square, out.weights[row, :found])
