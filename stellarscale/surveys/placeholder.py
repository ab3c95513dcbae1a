"""Evenly spread positions for tables that have none, so that they can live in a partitioned catalogue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PLASTIC = 1.32471795724474602596  # root of x^3 = x + 1


def spread_positions(first: int, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (rows,) of the points ``first``, ``first + 1``, ... of an evenly spread sequence.

    Returns
    -------
    ra_deg, dec_deg : ndarray of float64, shape (rows,)
        Right ascension in [0, 360), declination in [-90, 90]. They mean nothing on the sky.

    Notes
    -----
    The additive recurrence R2 (Roberts 2018), mapped to the sphere by equal areas.
    """
    number = np.arange(first, first + rows, dtype=np.float64)
    u = np.mod(0.5 + number / _PLASTIC, 1.0)
    v = np.mod(0.5 + number / _PLASTIC**2, 1.0)
    return 360.0 * u, np.rad2deg(np.arcsin(2.0 * v - 1.0))
