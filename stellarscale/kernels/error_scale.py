"""How wrong a prediction is likely to be: from the spread over trees and from the noise of the star's own inputs.

Trees that agree say nothing of noise that their training stars did not have. The squared scale of the residuals is a
sum of terms, each with a coefficient that is not negative: the squared spread, a constant, and the square of each
noise, since an error of the photometry moves a prediction in proportion. By how much depends on the kind of star, and
so on the magnitude: the coefficients of the noise are interpolated between a few magnitudes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.forest_walk import jit

_SHARES = (0.05, 0.5, 0.95)  # of the stars that are brighter than the magnitudes where coefficients stand
_ENOUGH = 1500  # stars; of fewer, one magnitude stands for all
_RANGE = (-14.0, 5.0)  # log of a term's coefficient, in units of the mean squared residual over the mean of the term

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScaleModel:
    """Coefficients of the squared scale of residuals.

    Attributes
    ----------
    spread : float
        Of the squared spread over trees.
    floor : float
        Squared unit of the label: a small spread over trees may be chance.
    nodes : ndarray of float64, shape (q,)
        Magnitudes where the coefficients of the noise stand; they hold beyond the ends.
    noise : ndarray of float64, shape (q, k)
        Of each squared noise.
    """

    spread: float
    floor: float
    nodes: Floats
    noise: Floats


def fit_scale(residual: Floats, spread: Floats, magnitude: Floats, noise: Floats) -> ScaleModel:
    """Coefficients under which the residuals are likeliest, if Laplacian: outliers weigh less than if Gaussian.

    Parameters
    ----------
    residual, spread, magnitude : ndarray of float64, shape (n,)
        Finite; all magnitudes equal where the scale shall not depend on them.
    noise : ndarray of float64, shape (n, k)
        Finite; ``k`` may be 0.

    Returns
    -------
    ScaleModel
    """
    from scipy.optimize import minimize

    size = np.abs(residual)
    nodes = _nodes(magnitude)
    terms = _terms(spread, magnitude, noise, nodes)
    power = float(np.mean(size**2))
    if power < np.finfo(np.float64).tiny:
        return ScaleModel(1.0, 1.0, nodes, np.zeros((len(nodes), noise.shape[1])))
    typical = terms.mean(axis=0)
    unit = power / np.where(typical > 0, typical, 1.0)
    terms *= unit
    start = np.full(terms.shape[1], -np.log(terms.shape[1]))
    found = minimize(_cost, start, (size, terms), method="L-BFGS-B", jac=True, bounds=[_RANGE] * len(start))
    coefficients = np.where(typical > 0, np.exp(found.x) * unit, 0.0)
    return ScaleModel(
        float(coefficients[0]), float(coefficients[1]), nodes, coefficients[2:].reshape(len(nodes), noise.shape[1])
    )


def scale_of(model: ScaleModel, spread: Floats, magnitude: NDArray[np.floating], noise: Floats) -> Floats:
    """Scale of the residuals of stars, shape (n,).

    Parameters
    ----------
    model : ScaleModel
        From :func:`fit_scale`.
    spread : ndarray of float64, shape (n,)
    magnitude : ndarray of float32 or float64, shape (n,)
        NaN takes the mean of the coefficients.
    noise : ndarray of float64, shape (n, k)
        A star of which one is NaN has a NaN.
    """
    return _scale(spread, magnitude, noise, model.spread, model.floor, model.nodes, model.noise)


@jit
def place(nodes, value):
    """Node below a value, and the way from it to the next one; the end nodes hold beyond the ends."""
    last = len(nodes) - 1
    if last == 0:
        return 0, 0.0
    k = 0
    while k < last - 1 and value >= nodes[k + 1]:
        k += 1
    return k, min(max((value - nodes[k]) / (nodes[k + 1] - nodes[k]), 0.0), 1.0)


def _nodes(magnitude: Floats) -> Floats:
    return np.unique(np.quantile(magnitude, _SHARES if len(magnitude) >= _ENOUGH else 0.5))


def _terms(spread: Floats, magnitude: Floats, noise: Floats, nodes: Floats) -> Floats:
    """Squared spread, one, and for each node each squared noise times the node's weight, shape (n, 2 + q k)."""
    weights = np.stack([np.interp(magnitude, nodes, row) for row in np.eye(len(nodes))], axis=1)
    squares = weights[:, :, None] * noise[:, None, :] ** 2
    return np.column_stack([spread**2, np.ones(len(spread)), squares.reshape(len(spread), -1)])


def _cost(exponents: Floats, size: Floats, terms: Floats) -> tuple[float, Floats]:
    """Mean negative log likelihood of a Laplacian of this standard deviation, and its gradient.

    Sums are einsum's: those of a linear algebra library depend on its threads, and the file of a model must not.
    """
    coefficients = np.exp(exponents)
    square = np.einsum("ij,j->i", terms, coefficients)
    ratio = np.sqrt(2.0) * size / np.sqrt(square)
    slope = np.einsum("ij,i->j", terms, (1.0 - ratio) / square) * coefficients / (2.0 * len(size))
    return float(np.mean(0.5 * np.log(square) + ratio)), slope


@jit
def _scale(spread, magnitude, noise, of_spread, floor, nodes, of_noise):
    q, k = of_noise.shape
    mean = np.zeros(k)
    for j in range(k):
        mean[j] = np.mean(of_noise[:, j])
    result = np.empty(len(spread))
    for n in range(len(spread)):
        square = of_spread * spread[n] ** 2 + floor
        known = not np.isnan(magnitude[n])
        i, along = place(nodes, magnitude[n]) if known else (0, 0.0)
        above = min(i + 1, q - 1)
        for j in range(k):
            here = of_noise[i, j] + along * (of_noise[above, j] - of_noise[i, j]) if known else mean[j]
            square += here * noise[n, j] ** 2
        result[n] = np.sqrt(square)
    return result
