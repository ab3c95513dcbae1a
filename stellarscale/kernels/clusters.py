"""Members of a star cluster: an over-density of proper motions, one parallax, one line in the colour-magnitude diagram.

The motions of a cluster and of the field behind it are two Gaussians (Sanders 1971, A&A 14, 226), each seen through the
errors of the stars; the fit is extreme deconvolution (Bovy, Hogg & Roweis 2011, AnApS 5, 1657).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.stats import MAD_TO_SIGMA

LEAST_SIGMA = 0.02  # mas/yr: systematic errors of Gaia's motions on small scales
START_SIGMA = 0.3  # mas/yr
MOST_SIGMA = 1.0  # mas/yr: wider than this is no cluster but structure of the field
LEAST_FIELD_SIGMA = 1.5  # mas/yr: where hardly any field star is around, its Gaussian must not shrink onto the cluster


@dataclass(frozen=True, eq=False)
class MotionFit:
    """Cluster and field as two Gaussians in proper motion.

    Attributes
    ----------
    mean : ndarray, shape (2,)
        Motion of the cluster (pmra with cos dec, pmdec), mas/yr.
    sigma : float
        Its intrinsic dispersion per axis, mas/yr.
    share : float
        Fraction of the stars that belong to the cluster.
    field_mean, field_covariance : ndarray, shapes (2,) and (2, 2)
        The field, mas/yr and (mas/yr)^2.
    probability : ndarray, shape (n,)
        Of each star to belong to the cluster.
    contrast : float
        Density of cluster stars over that of field stars at the motion of the cluster.
    converged : bool
        Whether the fit settled on an over-density near the motion it started from.
    """

    mean: NDArray[np.float64]
    sigma: float
    share: float
    field_mean: NDArray[np.float64]
    field_covariance: NDArray[np.float64]
    probability: NDArray[np.float64]
    contrast: float
    converged: bool


def fit_motions(
    motion: NDArray[np.float64],
    error: NDArray[np.float64],
    start: tuple[float, float],
    *,
    max_steps: int = 200,
    tolerance: float = 1e-6,
) -> MotionFit:
    """Separate a cluster from the field by proper motion.

    Parameters
    ----------
    motion, error : ndarray, shape (n, 2)
        Proper motions and their standard errors, mas/yr; finite, n of 5 or more.
    start : (float, float)
        Motion that the literature gives the cluster.
    max_steps : int
        Most steps of the expectation-maximisation.
    tolerance : float
        It ends when the log-likelihood of a star changes by less.

    Raises
    ------
    ValueError
        If the arrays do not fit, hold values that are not finite, or are too short.
    """
    _check(motion, error)
    noise = np.zeros((len(motion), 2, 2))
    noise[:, [0, 1], [0, 1]] = error**2
    means = np.array([start, np.median(motion, axis=0)])
    covariances = np.array([np.eye(2) * START_SIGMA**2, np.diag(np.var(motion, axis=0) + START_SIGMA**2)])
    share = np.array([0.2, 0.8])
    before = -np.inf
    for _ in range(max_steps):
        density, expected, spread = _expect(motion, noise, means, covariances)
        weighted = density * share
        total = weighted.sum(axis=1)
        membership = weighted / total[:, None]
        share = np.clip(membership.mean(axis=0), 1e-6, None)
        share /= share.sum()
        means, covariances = _maximise(membership, expected, spread)
        likelihood = float(np.mean(np.log(total)))
        if abs(likelihood - before) < tolerance:
            break
        before = likelihood
    density, *_ = _expect(motion, noise, means, covariances)
    weighted = density * share
    return _result(weighted[:, 0] / weighted.sum(axis=1), means, covariances, share, np.asarray(start))


def _check(motion: NDArray, error: NDArray) -> None:
    if motion.shape != error.shape or motion.ndim != 2 or motion.shape[1] != 2:
        raise ValueError(f"motions and errors must both have the shape (n, 2), not {motion.shape} and {error.shape}")
    if len(motion) < 5:
        raise ValueError(f"{len(motion)} stars are too few to tell a cluster from the field")
    if not (np.isfinite(motion).all() and np.isfinite(error).all()):
        raise ValueError("motions and errors must be finite")


def _expect(
    motion: NDArray, noise: NDArray, means: NDArray, covariances: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Density of each star under each component (n, 2), and its true motion given that: means and covariances."""
    density, expected, spread = [], [], []
    for mean, covariance in zip(means, covariances, strict=True):
        inverse, determinant = _inverse(covariance + noise)
        offset = motion - mean
        pulled = np.einsum("nij,nj->ni", inverse, offset)
        distance = np.einsum("ni,ni->n", offset, pulled)
        # The floor keeps a star that neither component explains from dividing by zero.
        density.append(np.exp(np.maximum(-0.5 * distance, -600.0)) / (2.0 * np.pi * np.sqrt(determinant)))
        expected.append(mean + pulled @ covariance)
        spread.append(covariance - covariance @ inverse @ covariance)
    return np.stack(density, axis=1), np.stack(expected, axis=1), np.stack(spread, axis=1)


def _inverse(matrices: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inverses and determinants of symmetric 2 x 2 matrices, shape (n, 2, 2)."""
    a, b, d = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 1]
    determinant = a * d - b * b
    rows = np.stack([d, -b, -b, a], axis=1) / determinant[:, None]
    return rows.reshape(-1, 2, 2), determinant


def _maximise(
    membership: NDArray, expected: NDArray, spread: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and covariances; the cluster's is round and as narrow as clusters are, the field's is wide."""
    weight = np.maximum(membership.sum(axis=0), 1e-9)
    means = np.einsum("nk,nki->ki", membership, expected) / weight[:, None]
    offset = expected - means
    second = np.einsum("nki,nkj->nkij", offset, offset) + spread
    covariances = np.einsum("nk,nkij->kij", membership, second) / weight[:, None, None]
    round_variance = 0.5 * np.trace(covariances[0])
    covariances[0] = np.eye(2) * np.clip(round_variance, LEAST_SIGMA**2, MOST_SIGMA**2)
    values, vectors = np.linalg.eigh(covariances[1])
    covariances[1] = (vectors * np.maximum(values, LEAST_FIELD_SIGMA**2)) @ vectors.T
    return means, covariances


def _result(probability: NDArray, means: NDArray, covariances: NDArray, share: NDArray, start: NDArray) -> MotionFit:
    sigma = float(np.sqrt(covariances[0, 0, 0]))
    offset = means[0] - means[1]
    inverse, determinant = _inverse(covariances[1][None])
    field = share[1] * np.exp(-0.5 * offset @ inverse[0] @ offset) / np.sqrt(determinant[0])
    contrast = float(share[0] / covariances[0, 0, 0] / max(float(field), 1e-300))
    near = float(np.hypot(*(means[0] - start))) < 3.0 * max(sigma, START_SIGMA)
    converged = near and sigma < 0.99 * MOST_SIGMA and contrast > 1.0
    return MotionFit(means[0], sigma, float(share[0]), means[1], covariances[1], probability, contrast, converged)


def same_parallax(
    parallax: NDArray[np.float64], error: NDArray[np.float64], chosen: NDArray[np.bool_], *, sigmas: float
) -> NDArray[np.bool_]:
    """Stars whose parallax agrees with the median of the chosen ones.

    The members themselves give the parallax of the cluster, so that zero-points cancel.

    Parameters
    ----------
    parallax, error : ndarray, shape (n,)
        mas. A star without a parallax is not told apart by it, and agrees.
    chosen : ndarray of bool, shape (n,)
        Probable members.
    sigmas : float
        Largest difference in standard errors.
    """
    known = np.isfinite(parallax) & np.isfinite(error)
    if not (known & chosen).any():
        return np.ones(len(parallax), dtype=bool)
    centre = np.median(parallax[known & chosen])
    return ~known | (np.abs(parallax - centre) <= sigmas * error)


def on_ridge(
    colour: NDArray[np.float64],
    magnitude: NDArray[np.float64],
    *,
    sigmas: float,
    least_sigma: float = 0.03,
    neighbours: int = 25,
    rounds: int = 3,
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Stars on the ridge line of a colour-magnitude diagram: the running median of colour along the magnitude.

    Where the sequence is wide or level (turn-off, subgiants) the running scatter is wide too, and nothing is lost.

    Parameters
    ----------
    colour, magnitude : ndarray, shape (n,)
        Of the probable members, mag; a star with a value that is not finite is not on the ridge.
    sigmas : float
        Largest distance in units of the running scatter (1.4826 MAD, at least ``least_sigma`` mag).
    neighbours : int
        Stars that a running median is taken over.
    rounds : int
        How often outliers are left out and the line drawn again.

    Returns
    -------
    ndarray of bool, ndarray of float, both shape (n,)
        Which stars are on the ridge, and its colour at each star's magnitude (NaN where there is none).
    """
    keep = np.isfinite(colour) & np.isfinite(magnitude)
    ridge = np.full(len(colour), np.nan)
    finite = keep.copy()
    for _ in range(rounds):
        inside = np.flatnonzero(keep)
        if len(inside) < 5:
            break
        inside = inside[np.argsort(magnitude[inside], kind="stable")]
        middle, scatter = _running(colour[inside], min(neighbours, len(inside)))
        ridge[finite] = np.interp(magnitude[finite], magnitude[inside], middle)
        width = np.interp(magnitude[finite], magnitude[inside], np.maximum(scatter, least_sigma))
        keep[finite] = np.abs(colour[finite] - ridge[finite]) <= sigmas * width
    return keep, ridge


def _running(values: NDArray[np.float64], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and robust sigma over the ``size`` values around each; the ends share the outermost window."""
    windows = np.lib.stride_tricks.sliding_window_view(values, size)
    middle = np.median(windows, axis=1)
    scatter = MAD_TO_SIGMA * np.median(np.abs(windows - middle[:, None]), axis=1)
    place = np.clip(np.arange(len(values)) - size // 2, 0, len(middle) - 1)
    return middle[place], scatter[place]
