"""A branch of the colour - absolute magnitude diagram: means in colour bins, a polynomial, a band around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.photometry import line


@dataclass(frozen=True, eq=False)
class ColourBins:
    """Absolute magnitudes in colour bins, by increasing colour; bins without stars are left out.

    Attributes
    ----------
    low, high : ndarray, shape (m,)
        Ends of each bin, mag; a bin holds its lower end.
    colour, mean, sigma : ndarray, shape (m,)
        Mean colour, mean magnitude and standard deviation of the magnitude (NaN where there is one star).
    count : ndarray of int64, shape (m,)
        Stars in each bin.
    used : ndarray of bool, shape (m,)
        Bins with enough stars for the fit.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    colour: NDArray[np.float64]
    mean: NDArray[np.float64]
    sigma: NDArray[np.float64]
    count: NDArray[np.int64]
    used: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Branch:
    """A polynomial through the means of a branch and the band around it.

    Attributes
    ----------
    bins : ColourBins
        What was fitted.
    coefficients : tuple of float
        Polynomial in the colour, lowest power first.
    half_width : float
        Half width of the band in magnitude.
    colour : tuple of float
        Colours between which the fit holds: the ends of the outermost bins used.
    """

    bins: ColourBins
    coefficients: tuple[float, ...]
    half_width: float
    colour: tuple[float, float]


def colour_bins(
    colour: NDArray, magnitude: NDArray, *, width: float, origin: float = 0.0, min_count: int = 2
) -> ColourBins:
    """Mean and standard deviation of the magnitudes in bins of colour (paper II, section 2.1.1).

    Parameters
    ----------
    colour, magnitude : ndarray, shape (n,)
        Finite values, mag.
    width, origin : float
        Bins are ``width`` wide and one of them begins at ``origin``.
    min_count : int
        Bins with fewer stars are not ``used``.

    Raises
    ------
    ValueError
        If the arrays differ in shape, or a value is not finite.
    """
    x, y = np.asarray(colour, dtype=np.float64), np.asarray(magnitude, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"colours and magnitudes must be of one length, not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("colours and magnitudes must be finite")
    number, place = np.unique(np.floor((x - origin) / width), return_inverse=True)
    count = np.bincount(place, minlength=len(number)).astype(np.int64)
    mean_x = np.bincount(place, x, minlength=len(number)) / count
    mean_y = np.bincount(place, y, minlength=len(number)) / count
    squares = np.bincount(place, (y - mean_y[place]) ** 2, minlength=len(number))
    sigma = np.sqrt(squares / np.where(count > 1, count - 1, np.nan))
    low = origin + width * number
    return ColourBins(low, low + width, mean_x, mean_y, sigma, count, count >= max(min_count, 1))


def fit_branch(bins: ColourBins, *, degree: int, half_width: float | None) -> Branch:
    """Least-squares polynomial through the means of the bins used, every bin with the same weight.

    The means stand at the mean colour of their bins, not at the centres: with a steep gradient of numbers inside a
    bin the centre would bend the relation. Paper II, sections 2.1.1 and 2.1.2, says neither where the means stand
    nor how they are weighted.

    Parameters
    ----------
    bins : ColourBins
        Means, from :func:`colour_bins`.
    degree : int
        Of the polynomial.
    half_width : float or None
        Of the band, mag; None takes the mean of the standard deviations in the bins used.

    Raises
    ------
    ValueError
        If fewer than ``degree + 1`` bins are used, or the half width comes out as zero.
    """
    used = bins.used
    if np.count_nonzero(used) < degree + 1:
        raise ValueError(f"a polynomial of degree {degree} needs {degree + 1} bins, not {np.count_nonzero(used)}")
    fitted = np.polynomial.Polynomial.fit(bins.colour[used], bins.mean[used], degree).convert().coef
    # convert() drops trailing zeros, which an exactly straight cubic has.
    coefficients = np.pad(fitted, (0, degree + 1 - len(fitted)))
    half = float(np.mean(bins.sigma[used])) if half_width is None else half_width
    if not half > 0:
        raise ValueError("the magnitudes in the bins have no spread: give the half width of the band")
    ends = (float(bins.low[used][0]), float(bins.high[used][-1]))
    return Branch(bins, tuple(float(value) for value in coefficients), half, ends)


def offset_from(branch: Branch, colour: NDArray, magnitude: NDArray) -> NDArray[np.float64]:
    """Magnitude minus that of the polynomial, shape (n,); NaN where the colour is beyond the bins of the fit."""
    x = np.asarray(colour, dtype=np.float64)
    known = (x >= branch.colour[0]) & (x <= branch.colour[1])
    offset = np.asarray(magnitude, dtype=np.float64) - line(x, branch.coefficients)
    return np.where(known, offset, np.nan)


def in_band(branch: Branch, colour: NDArray, magnitude: NDArray) -> NDArray[np.bool_]:
    """Which stars lie within the half width of the polynomial, shape (n,); NaN never does."""
    return np.abs(offset_from(branch, colour, magnitude)) <= branch.half_width
