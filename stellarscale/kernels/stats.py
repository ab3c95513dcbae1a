"""Robust statistics of residuals: MAD sigma, Gaussian fits, trends in bins, coverage of errors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import ndtr, ndtri

MAD_TO_SIGMA = 1.4826
FEWEST_FOR_A_FIT = 20
ONE_SIGMA = 0.682689492137086
"""Probability that a Gaussian value lies within one standard deviation of its mean."""


@dataclass(frozen=True)
class GaussianFit:
    """A Gaussian fitted to a histogram of values.

    Attributes
    ----------
    mean, sigma : float
        In the unit of the values; the median and the robust sigma where ``converged`` is false.
    n, n_used : int
        Values given, and values inside the range that was fitted.
    converged : bool
        Whether mean and sigma come from the fit.
    area : float
        Number of values under the whole fitted curve: the size of the Gaussian core.
    """

    mean: float
    sigma: float
    n: int
    n_used: int
    converged: bool
    area: float


@dataclass(frozen=True, eq=False)
class Binned:
    """Bias and sigma of values in bins; NaN where a bin has too few values.

    Attributes
    ----------
    edges : ndarray, shape (m + 1,)
    count : ndarray of int64, shape (m,)
    bias, sigma : ndarray, shape (m,)
        Median and robust sigma of the values in each bin.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    bias: NDArray[np.float64]
    sigma: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


def robust_sigma(x: ArrayLike) -> float:
    """Standard deviation of the core of a sample: 1.4826 times the median absolute deviation from the median.

    Raises
    ------
    ValueError
        If there are no values, or one is not finite.
    """
    values = _values(x)
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def gaussian_fit(x: ArrayLike, *, clip_sigma: float = 4.0, max_bins: int = 200) -> GaussianFit:
    """Fit a Gaussian to the histogram of values by least squares (paper I, section 3.3 and Fig. 6).

    The histogram covers the median +- ``clip_sigma`` robust sigmas. Each bin is compared with the integral of
    the curve over the bin, so the width of the bins does not widen the result.

    Parameters
    ----------
    x : array_like, shape (n,)
        Finite values.
    clip_sigma : float
        Half width of the fitted range in robust sigmas.
    max_bins : int
        Most bins of the histogram; fewer values get fewer bins (about the square root of their number).

    Returns
    -------
    GaussianFit
        With ``converged=False``, the median and the robust sigma: when there are fewer than 20 values, when
        half of them or more are equal, or when the least squares find no curve inside the range.

    Raises
    ------
    ValueError
        If there are no values, or one is not finite.
    """
    values = _values(x)
    centre, width = float(np.median(values)), robust_sigma(values)
    inside = values[np.abs(values - centre) <= clip_sigma * width]
    fallback = GaussianFit(centre, width, len(values), len(inside), False, float(len(inside)))
    if len(values) < FEWEST_FOR_A_FIT or width <= 0:
        return fallback
    bins = int(np.clip(2 * np.sqrt(len(inside)), 10, max_bins))
    low, high = centre - clip_sigma * width, centre + clip_sigma * width
    counts, edges = np.histogram(inside, bins=bins, range=(low, high))
    solution = _least_squares(edges, counts, (centre, width, float(len(inside))))
    if solution is None:
        return fallback
    mean, sigma, area = solution
    if not (low < mean < high and sigma < clip_sigma * width and area > 0):
        return fallback
    return GaussianFit(mean, sigma, len(values), len(inside), True, area)


def _least_squares(
    edges: NDArray[np.float64], counts: NDArray[np.int64], start: tuple[float, float, float]
) -> tuple[float, float, float] | None:
    """Mean, sigma and area of the curve whose integral over each bin is closest to the counts, if any."""
    centre, width, area = start

    # Fitted in units of the robust estimate: kelvin and dex alike give numbers near one to the solver.
    def expected(scaled_edges: NDArray, mean: float, log_sigma: float, height: float) -> NDArray:
        return height * np.diff(ndtr((scaled_edges - mean) / np.exp(log_sigma)))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            (mean, log_sigma, height), _ = curve_fit(
                expected, (edges - centre) / width, counts / area, p0=(0.0, 0.0, 1.0), maxfev=2000
            )
    except (RuntimeError, OptimizeWarning):
        return None
    return (
        centre + width * float(mean),
        width * float(np.exp(np.clip(log_sigma, -50, 50))),
        area * float(height),
    )


def binned(x: ArrayLike, y: ArrayLike, edges: ArrayLike, *, min_count: int = 3) -> Binned:
    """Median and robust sigma of ``y`` in bins of ``x`` (paper I, Fig. 8).

    Parameters
    ----------
    x, y : array_like, shape (n,)
        Finite values.
    edges : array_like, shape (m + 1,)
        Increasing edges; bins hold their lower edge, the last one both. Values outside belong to no bin.
    min_count : int
        Bins with fewer values get NaN.

    Raises
    ------
    ValueError
        If x and y differ in length, or the edges do not increase.
    """
    where, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    limits = np.asarray(edges, dtype=np.float64)
    if where.shape != values.shape:
        raise ValueError(f"x and y must have the same length, not {where.shape} and {values.shape}")
    if len(limits) < 2 or not np.all(np.diff(limits) > 0):
        raise ValueError("edges must be two or more increasing numbers")
    index = np.searchsorted(limits, where, side="right") - 1
    index[where == limits[-1]] = len(limits) - 2
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(len(limits)))
    count = np.diff(bounds)
    bias, sigma = np.full(len(count), np.nan), np.full(len(count), np.nan)
    for bin_ in np.flatnonzero(count >= max(min_count, 1)):
        chosen = values[order[bounds[bin_] : bounds[bin_ + 1]]]
        bias[bin_], sigma[bin_] = np.median(chosen), robust_sigma(chosen)
    return Binned(limits, count.astype(np.int64), bias, sigma)


def coverage(residual: ArrayLike, error: ArrayLike, level: float) -> float:
    """Fraction of residuals inside the central interval that Gaussian errors give for a probability.

    Parameters
    ----------
    residual, error : array_like, shape (n,)
        Estimate minus truth, and the standard deviation claimed for it; same unit, errors not negative.
    level : float
        Probability of the interval, between 0 and 1: 0.6827 is +- one sigma. Honest errors give it back.

    Raises
    ------
    ValueError
        If there are no values, a value is not finite, an error is negative or ``level`` is not a probability.
    """
    values, errors = _values(residual), _values(error)
    if values.shape != errors.shape:
        raise ValueError(f"residuals and errors must have the same length, not {values.shape} and {errors.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    if np.any(errors < 0):
        raise ValueError("errors must not be negative")
    return float(np.mean(np.abs(values) <= ndtri(0.5 + 0.5 * level) * errors))


def _values(x: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(x, dtype=np.float64).ravel()
    if len(values) == 0:
        raise ValueError("no values given")
    if not np.all(np.isfinite(values)):
        raise ValueError("values must be finite")
    return values
