"""Interpolation in the SFD98 dust maps (Schlegel, Finkbeiner & Davis 1998), two Lambert ZEA hemispheres."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class DustMaps(NamedTuple):
    """North and south Galactic hemispheres, E(B-V) in mag, square arrays indexed [y, x]."""

    north: NDArray[np.float32]
    south: NDArray[np.float32]


def ebv_sfd98(maps: DustMaps, lon_deg: NDArray, lat_deg: NDArray) -> NDArray[np.float64]:
    """E(B-V) at Galactic positions by bilinear interpolation, not scaled by 0.86.

    Parameters
    ----------
    maps : DustMaps
        Square maps of the same size; 4096 pixels in the published ones.
    lon_deg, lat_deg : ndarray, shape (n,)
        Galactic longitude and latitude in degrees.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    result = np.empty(len(lon), dtype=np.float64)
    for sign, image in ((1, maps.north), (-1, maps.south)):
        here = np.flatnonzero(lat_deg >= 0) if sign > 0 else np.flatnonzero(lat_deg < 0)
        half = image.shape[0] / 2.0
        radius = half * np.sqrt(np.maximum(1.0 - sign * np.sin(lat[here]), 0.0))
        x = half - 0.5 + radius * np.cos(lon[here])
        y = half - 0.5 - sign * radius * np.sin(lon[here])
        result[here] = _bilinear(image, x, y)
    return result


def _bilinear(image: NDArray[np.float32], x: NDArray, y: NDArray) -> NDArray[np.float64]:
    top = image.shape[0] - 1
    x, y = np.clip(x, 0, top), np.clip(y, 0, top)
    x0, y0 = np.minimum(x.astype(np.int64), top - 1), np.minimum(y.astype(np.int64), top - 1)
    fx, fy = x - x0, y - y0
    low = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    high = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
    return low * (1 - fy) + high * fy


# Rows: directions of the Galactic x, y, z axes in ICRS (Hipparcos Catalogue, vol. 1, eq. 1.5.11).
_TO_GALACTIC = np.array(
    [
        [-0.0548755604162154, -0.8734370902348850, -0.4838350155487132],
        [+0.4941094278755837, -0.4448296299600112, +0.7469822444972189],
        [-0.8676661490190047, -0.1980763734312015, +0.4559837761750669],
    ]
)


def galactic(ra_deg: NDArray, dec_deg: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Galactic longitude (0 to 360) and latitude in degrees of ICRS positions in degrees."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    x, y, z = _TO_GALACTIC @ np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))
