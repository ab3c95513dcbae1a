"""Gaussian-process regression of several outputs on few inputs, unmoved by outlying outputs.

One covariance for all outputs: a linear term (it carries the trend to where points are sparse) plus a Matern
function of order 3/2 whose length is a multiple of the median distance between points. Each output's noise is the one
under which its own points, each left out in turn, are predicted best. Points far from their left-out prediction get
more noise, by Cauchy's weights: a wrong label then bends its neighbourhood little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stellarscale.kernels.stats import MAD_TO_SIGMA

NOISES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Variances of noise that are tried, in units of the output's own robust variance."""
_REWEIGHTS = 2
_CUT = 2.0  # robust sigmas at which a point's noise has doubled
_FAR = 3.0  # robust sigmas beyond which a miss costs no more
_ROOT3 = np.sqrt(3.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Process:
    """A fitted process.

    Attributes
    ----------
    points : ndarray of float32, shape (n, k)
    length : float
        Of the Matern function.
    slope : float
        Factor of the linear term.
    centre : ndarray of float64, shape (m,)
        Values far from all points.
    factors : ndarray of float64, shape (n, m)
        What each point's covariance is multiplied with.
    missed : ndarray of float64, shape (n, m)
        Value less prediction of each point when it is left out.
    noise : ndarray of float64, shape (m,)
        Chosen for each output.
    """

    points: NDArray[np.float32]
    length: float
    slope: float
    centre: Floats
    factors: Floats
    missed: Floats
    noise: Floats


def fit_process(points: Floats, values: Floats, *, length: float = 1.0) -> Process:
    """Fit values on points.

    Parameters
    ----------
    points : ndarray of float64, shape (n, k)
        Mean about zero; finite.
    values : ndarray of float64, shape (n, m)
        Finite.
    length : float
        Of the Matern function in units of the median distance between points.
    """
    inputs = points.astype(np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0)
    reach = length * float(np.sqrt(np.median(distances)))
    slope = 1.0 / float(squares.mean())
    scaled = _ROOT3 * np.sqrt(distances) / reach
    covariance = (1.0 + scaled) * np.exp(-scaled) + slope * (points @ points.T)
    centre = np.median(values, axis=0)
    fitted = [_best_noise(covariance, column) for column in (values - centre).T]
    factors, missed, noise = (np.array(part) for part in zip(*fitted, strict=True))
    return Process(inputs, reach, slope, centre, np.ascontiguousarray(factors.T), missed.T.copy(), noise)


def _best_noise(covariance: Floats, values: Floats) -> tuple[Floats, Floats, float]:
    """Factors, misses and noise under which the points predict each other best."""
    unit = MAD_TO_SIGMA * float(np.median(np.abs(values)))
    unit = unit if unit > 0 else max(float(np.std(values)), 1e-12)
    tried = [(*_fit(covariance, values / unit, noise), noise) for noise in NOISES]
    far = _FAR * min(float(np.median(np.abs(missed))) for _, missed, _ in tried) * MAD_TO_SIGMA
    costs = [float(np.minimum(np.abs(missed), far).mean()) for _, missed, _ in tried]
    factors, missed, noise = tried[int(np.argmin(costs))]
    return factors * unit, missed * unit, noise


def _fit(covariance: Floats, values: Floats, noise: float) -> tuple[Floats, Floats]:
    """Factors and misses of each point when left out (in closed form), after the reweighting."""
    weight = np.ones(len(values))
    for _ in range(_REWEIGHTS + 1):
        inverse = _inverse(covariance, noise / weight)
        factors = inverse @ values
        missed = factors / np.diag(inverse)
        sigma = max(MAD_TO_SIGMA * float(np.median(np.abs(missed))), 1e-12)
        weight = 1.0 / (1.0 + (missed / (_CUT * sigma)) ** 2)
    return factors, missed


def _inverse(covariance: Floats, noise: Floats) -> Floats:
    """Inverse of a covariance with noise on its diagonal; half the work of one that does not know the symmetry."""
    from scipy.linalg import lapack

    matrix = covariance.copy(order="F")
    matrix.flat[:: len(matrix) + 1] += noise
    factor, failed = lapack.dpotrf(matrix, lower=True, overwrite_a=True)
    if failed:
        raise ValueError("the covariance of the points is not positive: points lie upon one another")
    lower, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)
    return np.tril(lower) + np.tril(lower, -1).T


def predict(process: Process, points: Floats) -> tuple[Floats, Floats]:
    """Values at points, and how far the fitted points nearby were from theirs when left out.

    Parameters
    ----------
    process : Process
    points : ndarray of float64, shape (n, k)
        A point with a NaN has NaN values.

    Returns
    -------
    values, spread : ndarray of float64, shape (n, m)
    """
    inputs = np.ascontiguousarray(points, dtype=np.float32)
    reached = inputs @ process.points.T
    sizes = np.einsum("ij,ij->i", process.points, process.points)
    covariance, weight = _covariances(inputs, reached, sizes, np.float32(process.length), np.float32(process.slope))
    factors = process.factors.astype(np.float32)
    values = process.centre + covariance @ factors
    spread = np.sqrt((weight @ process.missed.astype(np.float32) ** 2) / weight.sum(axis=1, keepdims=True))
    return values, spread.astype(np.float64)


@njit(nogil=True, cache=True, fastmath=True)
def _covariances(inputs, reached, sizes, length, slope):
    """Covariance of each input with each point (in place of the products), and the weight of the point's miss."""
    n, n_points = reached.shape
    weight = np.empty((n, n_points), np.float32)
    for s in range(n):
        own = np.float32(0.0)
        for value in inputs[s]:
            own += value * value
        for i in range(n_points):
            distance = np.sqrt(max(own + sizes[i] - np.float32(2.0) * reached[s, i], np.float32(0.0)))
            r = np.float32(1.7320508) * distance / length
            matern = (np.float32(1.0) + r) * np.exp(-r)
            reached[s, i] = matern + slope * reached[s, i]
            squared = matern * matern
            weight[s, i] = squared * squared * squared * squared + np.float32(1e-30)
    return reached, weight
