"""What a stamp says of its star and of the stars beside it, in two numbers a band, without any network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STAR_PX = 5.0
"""Pixels no further from the star hold most of its light."""

PEAK_PX = 1.0
"""Pixels no further from the star are its peak."""

AROUND_PX = 10.0
"""Stars no further away change what a stamp says of its own."""


def stamp_summary(stamps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Brightness of the star in each band, and by how much the brightest pixel around it exceeds its own peak.

    A pixel is asinh(flux / softening), so that asinh(mean of sinh(pixels)) is a stretched mean flux whatever the
    softening: about the logarithm of the flux of a bright star, and linear in that of a faint one, which noise may
    make negative. What exceeds the peak is about zero beside no brighter star.

    Parameters
    ----------
    stamps : ndarray, shape (n, n_bands, size, size)
        Stretched pixels; NaN where missing. The star is in the pixel ``size // 2`` of rows and columns.

    Returns
    -------
    ndarray of float64, shape (n, 2 n_bands)
        Brightness in each band, from the mean flux within 5 px; then the brightest pixel within 10 px minus the mean
        within 1 px, both stretched. NaN where no pixel is known.
    """
    middle, reach = stamps.shape[-1] // 2, int(AROUND_PX)
    near = slice(max(middle - reach, 0), middle + reach + 1)
    place = np.arange(stamps.shape[-1])[near] - middle
    distance = np.hypot(place[:, None], place)
    pixels = stamps[..., near, near]
    brightest = np.fmax.reduce(pixels[..., distance <= AROUND_PX], axis=-1).astype(np.float64)
    star, peak = (_mean_flux(pixels[..., distance <= radius]) for radius in (STAR_PX, PEAK_PX))
    return np.concatenate([star, brightest - peak], axis=1)


def _mean_flux(pixels: NDArray[np.floating]) -> NDArray[np.float64]:
    """Stretched mean flux of pixels along the last axis; NaN of none."""
    values = np.ascontiguousarray(pixels, dtype=np.float64)  # summed in one order, whatever the number of stars
    known = np.isfinite(values)
    with np.errstate(over="ignore"):  # an infinite flux is unlike any other, too
        total = np.sinh(np.where(known, values, 0.0)).sum(axis=-1)
    count = known.sum(axis=-1)
    return np.arcsinh(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
