"""Where stars fall on the chips of the mock exposures: gnomonic projection, TPV polynomials, one map a row.

Written apart from :mod:`stellarscale.kernels.tpv` on purpose: what reads the mock's headers is tried on another's work.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate.plan import Columns

PV_TERMS = 11
"""Terms of each TPV polynomial up to the third order: 1, x, y, r, x2, xy, y2, x3, x2y, xy2, y3 (r is not used)."""


def gnomonic(ra_deg: NDArray, dec_deg: NDArray, centre_deg: NDArray) -> tuple[NDArray, NDArray]:
    """Standard coordinates (deg) of positions about the centres ``centre_deg``, shape (n, 2)."""
    ra, dec = np.radians(ra_deg - centre_deg[:, 0]), np.radians(dec_deg)
    dec0 = np.radians(centre_deg[:, 1])
    below = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra)
    xi = np.cos(dec) * np.sin(ra) / below
    # sin(dec - dec0) keeps the digits that a difference of products would lose near the centre.
    eta = (np.sin(dec - dec0) + 2.0 * np.sin(dec0) * np.cos(dec) * np.sin(ra / 2.0) ** 2) / below
    return np.degrees(xi), np.degrees(eta)


def distort(x: NDArray, y: NDArray, pv: NDArray) -> tuple[NDArray, NDArray]:
    """Standard coordinates (deg) of intermediate ones (deg) by TPV polynomials, ``pv`` of shape (n, 2, PV_TERMS)."""
    out = []
    for axis, (a, b) in enumerate(((x, y), (y, x))):
        terms = (np.ones_like(a), a, b, np.zeros_like(a), a * a, a * b, b * b, a**3, a * a * b, a * b * b, b**3)
        out.append(np.einsum("nk,kn->n", pv[:, axis], np.stack(terms)))
    return out[0], out[1]


def undistort(xi: NDArray, eta: NDArray, pv: NDArray) -> tuple[NDArray, NDArray]:
    """Inverse of :func:`distort`; the distortions are of a thousandth, so ten repetitions reach rounding errors."""
    x, y = xi.copy(), eta.copy()
    for _ in range(10):
        x1, y1 = distort(x, y, pv)
        x, y = x + xi - x1, y + eta - y1
    return x, y


def sky_to_chip(ra_deg: NDArray, dec_deg: NDArray, wcs: Columns) -> tuple[NDArray, NDArray]:
    """Pixels (from 0) of positions on the chips of their exposures.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray, shape (n,)
        ICRS positions.
    wcs : dict of ndarray
        ``crval`` (n, 2) in deg, ``crpix`` (n, 2) from 1 as in FITS, ``cd`` (n, 2, 2) in deg/px, ``pv``
        (n, 2, PV_TERMS).
    """
    plane = np.stack(undistort(*gnomonic(ra_deg, dec_deg, wcs["crval"]), wcs["pv"]), axis=1)
    pixel = np.linalg.solve(wcs["cd"], plane[:, :, None])[:, :, 0] + wcs["crpix"] - 1.0
    return pixel[:, 0], pixel[:, 1]
