"""Magnitudes: extinction, absolute magnitudes and polynomial lines in the colour - magnitude diagram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def deredden(mag: NDArray, ebv: NDArray, coefficient: float) -> NDArray[np.float64]:
    """Magnitude freed of extinction, ``mag - R E(B-V)``.

    Parameters
    ----------
    mag, ebv : ndarray, shape (n,)
        Magnitude and E(B-V) in mag, NaN where unknown; E(B-V) on the scale of SFD98, unscaled.
    coefficient : float
        R of the band (paper I, Table 1).
    """
    return np.asarray(mag, dtype=np.float64) - coefficient * np.asarray(ebv, dtype=np.float64)


def absolute_magnitude(mag: NDArray, parallax_mas: NDArray) -> NDArray[np.float64]:
    """Absolute magnitude ``m + 5 log10(parallax / 1000) + 5``; NaN where the parallax is not positive.

    Parameters
    ----------
    mag : ndarray, shape (n,)
        Dereddened magnitude.
    parallax_mas : ndarray, shape (n,)
        Parallax in mas.
    """
    positive = np.where(np.asarray(parallax_mas) > 0, parallax_mas, np.nan).astype(np.float64)
    return np.asarray(mag, dtype=np.float64) + 5.0 * np.log10(positive / 1000.0) + 5.0


def line(colour: NDArray, coefficients: Sequence[float]) -> NDArray[np.float64]:
    """Value of a polynomial in the colour, lowest power first."""
    value = np.polynomial.polynomial.polyval(np.asarray(colour, dtype=np.float64), list(coefficients))
    return value.astype(np.float64, copy=False)
