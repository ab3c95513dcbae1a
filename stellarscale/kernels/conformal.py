"""Errors that cover what they claim: a scale from spread and noise, set right by conformal calibration.

A star's score is its residual over its scale (:mod:`stellarscale.kernels.error_scale`). The half width of its interval
is the scale times the score's quantile among the calibration stars of like magnitude and predicted label: Mondrian
conformal prediction (Vovk, Gammerman & Shafer 2005, ch. 4) with normalised scores (Papadopoulos, Gammerman & Vovk
2008). The quantiles of the cells are interpolated between the cells, and their overall level is set last, on all stars.
Beyond the magnitudes of the calibration stars the quantiles stay and the scale grows with the noise.

An interval is to hold the label that the training catalogue would give the star. Its own errors are part of the
residuals, so that the truth of a star lies inside more often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.error_scale import ScaleModel, fit_scale, place, scale_of
from stellarscale.kernels.forest_walk import jit
from stellarscale.kernels.stats import ONE_SIGMA

LEVELS = (ONE_SIGMA, 0.95)
"""Shares of stars whose truth the two intervals are to hold: one Gaussian sigma, and 95 %."""

FEWEST = 20
"""Stars below which a 95 % interval cannot be told from the largest residual."""

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """What a model says of some stars, each an array of shape (n,); all but the last in the label's unit."""

    value: Floats
    spread: Floats
    err: Floats
    err95: Floats
    novel: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """Factors from scale to error.

    Attributes
    ----------
    scale : ScaleModel
        From spread and noise to scale.
    magnitude, label : ndarray of float64, shapes (m,) and (l,)
        Where the factors stand: medians of the bins; one magnitude when the errors do not depend on it.
    factors : ndarray of float64, shape (2, m, l)
        Half width over scale at 68 and at 95 %.
    overall : ndarray of float64, shape (2,)
        The same for a star without a magnitude.
    """

    scale: ScaleModel
    magnitude: Floats
    label: Floats
    factors: Floats
    overall: Floats


@dataclass(frozen=True)
class Bins:
    """Most bins in magnitude and in label, and the fewest stars that a bin or a cell of its own needs."""

    magnitude: int
    label: int
    min_stars: int


def as_of_whole_forest(residual: Floats, spread: Floats, n_trees: int) -> Floats:
    """Out-of-bag residuals made as small as the whole forest's residuals of new stars.

    A star is out of bag for about ``n_trees / e`` trees, and the mean over so few scatters more than the mean over
    all, by a variance of spread^2 (e - 1) / n_trees. Without this the 68 % intervals of 100 trees cover another 0.6 %
    of the stars held out.

    Parameters
    ----------
    residual, spread : ndarray of float64, shape (n,)
        Out-of-bag, finite; the spread as an estimate of the standard deviation over all trees.
    n_trees : int
        Trees of the forest.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    variance = float(np.mean(residual**2))
    excess = float(np.mean(spread**2)) * (np.e - 1.0) / n_trees
    # Never below half: where so much is the chance of few trees, the excess is hardly known.
    return residual * max(1.0 - excess / variance, 0.25) ** 0.5 if variance > 0 else residual


def fit_errors(
    residual: Floats, spread: Floats, prediction: Floats, magnitude: Floats, noise: Floats, *, bins: Bins
) -> ErrorModel:
    """Calibrate on stars of known residual that the trees did not see.

    Parameters
    ----------
    residual, spread, prediction : ndarray of float64, shape (n,)
        In the label's unit, finite; at least :data:`FEWEST` stars.
    magnitude : ndarray of float64, shape (n,)
        Finite; all equal where the errors shall not depend on it.
    noise : ndarray of float64, shape (n, k)
        Finite; ``k`` may be 0.
    bins : Bins
        Bins hold equal numbers of stars; there are fewer of them where stars are few. A cell of magnitude and label
        with fewer than ``min_stars`` takes the product of its magnitude's and its label's factor.

    Returns
    -------
    ErrorModel
    """
    residual = np.abs(residual)
    scale = fit_scale(residual, spread, magnitude, noise)
    score = residual / scale_of(scale, spread, magnitude, noise)
    row, magnitudes = _binned(magnitude, bins.magnitude, bins.min_stars)
    column, labels = _binned(prediction, bins.label, bins.min_stars)
    shape = (len(magnitudes), len(labels))
    factors = np.ones((2, *shape))
    for factor, level in zip(factors, LEVELS, strict=True):
        for member, size in ((column, (1, shape[1])), (row, (shape[0], 1)), (row * shape[1] + column, shape)):
            rest = score / _interpolate(magnitudes, labels, factor, magnitude, prediction)
            factor *= _quantiles(rest, member, level, bins.min_stars, size[0] * size[1]).reshape(size)
        factor *= _quantile(score / _interpolate(magnitudes, labels, factor, magnitude, prediction), level)
    factors[1] = np.maximum(factors[1], factors[0])
    return ErrorModel(scale, magnitudes, labels, factors, np.array([_quantile(score, level) for level in LEVELS]))


def half_widths(
    model: ErrorModel, prediction: Floats, spread: Floats, magnitude: NDArray[np.floating], noise: Floats
) -> tuple[Floats, Floats]:
    """Half widths of the 68 and 95 % intervals.

    Parameters
    ----------
    model : ErrorModel
        From :func:`fit_errors`.
    prediction, spread : ndarray of float64, shape (n,)
        Of the whole forest; NaN gives NaN.
    magnitude : ndarray of float32 or float64, shape (n,)
        NaN takes the factor of all stars.
    noise : ndarray of float64, shape (n, k)
        As for :func:`fit_errors`; NaN gives NaN.

    Returns
    -------
    err, err95 : ndarray of float64, shape (n,)
    """
    scale = scale_of(model.scale, spread, magnitude, noise)
    return _half_widths(prediction, scale, magnitude, (model.magnitude, model.label), model.factors, model.overall)


def _binned(values: Floats, most: int, min_stars: int) -> tuple[NDArray[np.int64], Floats]:
    """Bin of each value, and the medians of the bins; bins hold equal numbers, and those of equal medians are one."""
    parts = np.array_split(np.argsort(values, kind="stable"), max(1, min(most, len(values) // min_stars)))
    medians, bin_of_part = np.unique([np.median(values[part]) for part in parts], return_inverse=True)
    member = np.empty(len(values), dtype=np.int64)
    for part, number in zip(parts, bin_of_part, strict=True):
        member[part] = number
    return member, medians


def _quantiles(score: Floats, member: NDArray[np.int64], level: float, min_stars: int, n: int) -> Floats:
    """Quantile of the scores of each of ``n`` groups; 1 for a group of fewer than ``min_stars``."""
    order = np.argsort(member, kind="stable")
    bounds = np.searchsorted(member[order], np.arange(n + 1))
    result = np.ones(n)
    for number in np.flatnonzero(np.diff(bounds) >= min_stars):
        result[number] = _quantile(score[order[bounds[number] : bounds[number + 1]]], level)
    return result


def _quantile(score: Floats, level: float) -> float:
    """The (n + 1) level-th smallest score, between two of them where that is no whole number.

    Conformal prediction takes the larger of the two, which covers at least ``level``; the value between covers it on
    average, where a cell of 200 stars would else add up to half a per cent.
    """
    return float(np.quantile(score, level, method="weibull"))


@jit
def _bilinear(table, i, along, j, across):
    below, right = min(i + 1, table.shape[0] - 1), min(j + 1, table.shape[1] - 1)
    top = table[i, j] + across * (table[i, right] - table[i, j])
    bottom = table[below, j] + across * (table[below, right] - table[below, j])
    return top + along * (bottom - top)


@jit
def _interpolate(magnitudes, labels, table, magnitude, label):
    result = np.empty(len(label))
    for n in range(len(label)):
        i, along = place(magnitudes, magnitude[n])
        j, across = place(labels, label[n])
        result[n] = _bilinear(table, i, along, j, across)
    return result


@jit
def _half_widths(prediction, scales, magnitude, nodes, factors, overall):
    err, err95 = np.empty(len(prediction)), np.empty(len(prediction))
    for n in range(len(prediction)):
        scale = scales[n] if not np.isnan(prediction[n]) else np.nan
        if np.isnan(magnitude[n]):
            err[n], err95[n] = scale * overall[0], scale * overall[1]
            continue
        i, along = place(nodes[0], magnitude[n])
        j, across = place(nodes[1], prediction[n])
        err[n] = scale * _bilinear(factors[0], i, along, j, across)
        err95[n] = scale * _bilinear(factors[1], i, along, j, across)
    return err, err95
