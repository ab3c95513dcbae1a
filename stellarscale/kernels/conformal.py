"""Errors that cover what they claim: the spread over trees, scaled by conformal calibration.

A star's score is its residual over (spread + damping). The half width of its interval is (spread + damping) times the
score's quantile among the calibration stars of like magnitude and predicted label: Mondrian conformal prediction
(Vovk, Gammerman & Shafer 2005, ch. 4) with normalised scores (Papadopoulos, Gammerman & Vovk 2008). The quantiles of
the cells are interpolated between the cells, and their overall level is set last, on all stars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.forest_walk import jit
from stellarscale.kernels.stats import ONE_SIGMA

LEVELS = (ONE_SIGMA, 0.95)
"""Shares of stars whose truth the two intervals are to hold: one Gaussian sigma, and 95 %."""

FEWEST = 20
"""Stars below which a 95 % interval cannot be told from the largest residual."""

_DAMPINGS = np.geomspace(0.01, 30.0, 41)  # tried, in units of the median spread

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """What a model says of some stars, each an array of shape (n,); the first three in the label's unit."""

    value: Floats
    err: Floats
    err95: Floats
    novel: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """Factors from spread to error.

    Attributes
    ----------
    damping : float
        Added to every spread, in the label's unit: a small spread over trees may be chance.
    magnitude, label : ndarray of float64, shapes (m,) and (l,)
        Where the factors stand: medians of the bins; one magnitude when the errors do not depend on it.
    factors : ndarray of float64, shape (2, m, l)
        Half width over (spread + damping) at 68 and at 95 %.
    overall : ndarray of float64, shape (2,)
        The same for a star without a magnitude.
    """

    damping: float
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


def fit_errors(residual: Floats, spread: Floats, prediction: Floats, magnitude: Floats, *, bins: Bins) -> ErrorModel:
    """Calibrate on stars of known residual that the trees did not see.

    Parameters
    ----------
    residual, spread, prediction : ndarray of float64, shape (n,)
        In the label's unit, finite; at least :data:`FEWEST` stars.
    magnitude : ndarray of float64, shape (n,)
        Finite; all equal where the errors shall not depend on it.
    bins : Bins
        Bins hold equal numbers of stars; there are fewer of them where stars are few. A cell of magnitude and label
        with fewer than ``min_stars`` takes the product of its magnitude's and its label's factor.

    Returns
    -------
    ErrorModel
    """
    residual = np.abs(residual)
    damping = _damping(residual, spread)
    score = residual / (spread + damping)
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
    return ErrorModel(damping, magnitudes, labels, factors, np.array([_quantile(score, level) for level in LEVELS]))


def half_widths(
    model: ErrorModel, prediction: Floats, spread: Floats, magnitude: NDArray[np.floating]
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

    Returns
    -------
    err, err95 : ndarray of float64, shape (n,)
    """
    return _half_widths(
        prediction, spread, magnitude, model.damping, (model.magnitude, model.label), model.factors, model.overall
    )


def _damping(residual: Floats, spread: Floats) -> float:
    """The damping under which residuals are likeliest, if Laplacian of a width that goes with (spread + damping)."""
    typical = float(np.median(spread)) or float(np.mean(spread)) or 1.0
    if not residual.any():
        return typical
    cost = []
    for damping in _DAMPINGS * typical:
        width = spread + damping
        cost.append(np.log(np.mean(residual / width)) + np.mean(np.log(width)))
    return float(_DAMPINGS[np.argmin(cost)] * typical)


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
def _place(nodes, value):
    """Node below a value, and the way from it to the next one; the end nodes hold beyond the ends."""
    last = len(nodes) - 1
    if last == 0:
        return 0, 0.0
    k = 0
    while k < last - 1 and value >= nodes[k + 1]:
        k += 1
    return k, min(max((value - nodes[k]) / (nodes[k + 1] - nodes[k]), 0.0), 1.0)


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
        i, along = _place(magnitudes, magnitude[n])
        j, across = _place(labels, label[n])
        result[n] = _bilinear(table, i, along, j, across)
    return result


@jit
def _half_widths(prediction, spread, magnitude, damping, nodes, factors, overall):
    err, err95 = np.empty(len(prediction)), np.empty(len(prediction))
    for n in range(len(prediction)):
        scale = spread[n] + damping if not np.isnan(prediction[n]) else np.nan
        if np.isnan(magnitude[n]):
            err[n], err95[n] = scale * overall[0], scale * overall[1]
            continue
        i, along = _place(nodes[0], magnitude[n])
        j, across = _place(nodes[1], prediction[n])
        err[n] = scale * _bilinear(factors[0], i, along, j, across)
        err95[n] = scale * _bilinear(factors[1], i, along, j, across)
    return err, err95
