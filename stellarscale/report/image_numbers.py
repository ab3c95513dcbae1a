"""Numbers behind the plots of a report on images: smooth densities, a quadratic with its band, places in the Galaxy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from scipy.special import stdtrit

from stellarscale.kernels.stats import robust_sigma

SUN_RADIUS_KPC, SUN_HEIGHT_KPC = 8.18, 0.02  # GRAVITY Collaboration (2019); Bennett and Bovy (2019)
_CELLS = 160
_SMOOTH = 2.0  # cells

Extent = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Quadratic:
    """A parabola fitted by least squares at some places, and the half width of its 95 per cent confidence band."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    half_width: NDArray[np.float64]


def smooth_counts(x: NDArray, y: NDArray, extent: Extent, cells: tuple[int, int] = (_CELLS, _CELLS)) -> NDArray:
    """Stars per cell, smoothed by a Gaussian of two cells: the density that a kernel estimate gives.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Finite values.
    extent : tuple of float
        Left, right, low, high.
    cells : tuple of int
        Columns and rows.

    Returns
    -------
    ndarray, shape (rows, columns)
        From the lower left.
    """
    left, right, low, high = extent
    counts, _, _ = np.histogram2d(x, y, bins=cells, range=((left, right), (low, high)))
    return gaussian_filter(counts.T, _SMOOTH, mode="constant")


def density_at(counts: NDArray, x: NDArray, y: NDArray, extent: Extent) -> NDArray[np.float64]:
    """A smooth density at points, relative to its peak; 0 outside of the extent."""
    left, right, low, high = extent
    rows, columns = counts.shape
    place = np.array([(y - low) / (high - low) * rows - 0.5, (x - left) / (right - left) * columns - 0.5])
    found = map_coordinates(counts, place, order=1, mode="constant")
    return found / max(float(counts.max()), 1e-300)


def kernel_density(values: NDArray, low: float, high: float, points: int = 400) -> tuple[NDArray, NDArray]:
    """Gaussian kernel estimate of the probability density on a grid.

    The width is Silverman's, of the robust sigma, so that a few outliers do not wash the peak out.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Finite, at least one.
    low, high : float
        Ends of the grid.

    Returns
    -------
    place, density : ndarray, shape (points,)
        Density per unit of the values.
    """
    edges = np.linspace(low, high, points + 1)
    counts, _ = np.histogram(values, bins=edges)
    step = edges[1] - edges[0]
    spread = robust_sigma(values) or float(np.std(values)) or step
    width = max(0.9 * spread * len(values) ** -0.2 / step, 1.0)
    return 0.5 * (edges[1:] + edges[:-1]), gaussian_filter1d(counts / (len(values) * step), width, mode="constant")


def quadratic_band(x: NDArray, y: NDArray, points: int = 200) -> Quadratic | None:
    """Second-order polynomial through stars, with the band that holds the mean with 95 per cent (paper III, Fig. 9).

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Finite values.

    Returns
    -------
    Quadratic or None
        Over the range of x; None for fewer than four stars, or fewer than three places.
    """
    if len(x) < 4 or len(np.unique(x)) < 3:
        return None
    middle, half = 0.5 * float(x.max() + x.min()), 0.5 * float(np.ptp(x))
    design = np.vander((x - middle) / half, 3)
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(x) - 3
    variance = float(np.sum((y - design @ solution) ** 2)) / freedom
    place = np.linspace(-1.0, 1.0, points)
    rows = np.vander(place, 3)
    spread = np.einsum("ij,jk,ik->i", rows, np.linalg.inv(design.T @ design), rows) * variance
    return Quadratic(middle + half * place, rows @ solution, float(stdtrit(freedom, 0.975)) * np.sqrt(spread))


def galactocentric(l_deg: NDArray, b_deg: NDArray, parallax_mas: NDArray) -> tuple[NDArray, NDArray]:
    """Distance from the axis of the Galaxy and height above its plane, from 1 / parallax (paper III, Fig. 16).

    Parameters
    ----------
    l_deg, b_deg : ndarray, shape (n,)
        Galactic longitude and latitude.
    parallax_mas : ndarray, shape (n,)

    Returns
    -------
    radius_kpc, height_kpc : ndarray, shape (n,)
        NaN where the parallax is not above 0.
    """
    parallax = np.asarray(parallax_mas, dtype=np.float64)
    distance = np.divide(1.0, parallax, out=np.full(len(parallax), np.nan), where=parallax > 0)
    longitude, latitude = np.radians(l_deg), np.radians(b_deg)
    along = SUN_RADIUS_KPC - distance * np.cos(latitude) * np.cos(longitude)
    across = distance * np.cos(latitude) * np.sin(longitude)
    return np.hypot(along, across), distance * np.sin(latitude) + SUN_HEIGHT_KPC
