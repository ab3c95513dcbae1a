"""Pixels and sky of an image: the tangent plane (TAN), and TAN with the registered TPV polynomial of 40 terms an axis.

Between a pixel and the sky lie the intermediate coordinates ``u, v = CD (pixel - CRPIX)`` in degrees, the polynomial
that makes them the tangent-plane coordinates ``xi, eta``, and the direction ``centre + xi east + eta north``. The
polynomial has no inverse in closed form: Newton's method solves it to better than 1e-9 of a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.forest_walk import jit
from stellarscale.kernels.sphere import RADIANS_PER_DEGREE, ra_in_circle

N_TERMS = 40
"""Coefficients of an axis: PVi_0 to PVi_39."""

_RADIAL = (3, 11, 23, 39)  # terms in r, r^3, r^5 and r^7; all others are monomials
_TOLERANCE_PX = 1e-7  # length of the last Newton step; the error after it is about its square
_MOST_STEPS = 40

Floats = NDArray[np.float64]


def identity_pv() -> Floats:
    """Coefficients (2, 40) that change nothing: PV1_1 = PV2_1 = 1, the registered defaults of missing keywords."""
    pv = np.zeros((2, N_TERMS))
    pv[:, 1] = 1.0
    return pv


@dataclass(frozen=True, eq=False)
class ImageWcs:
    """World coordinates of an image: RA---TPV, or RA---TAN with the coefficients of :func:`identity_pv`.

    Attributes
    ----------
    crpix : ndarray, shape (2,)
        Reference pixel, counted from 1 as in FITS; axis 1 (columns, x) first.
    crval : ndarray, shape (2,)
        Right ascension and declination there, degrees.
    cd : ndarray, shape (2, 2)
        CDi_j, degrees a pixel.
    pv : ndarray, shape (2, 40)
        PVi_j.

    Raises
    ------
    InputError
        If a shape is wrong, a number not finite, the declination no angle, or the matrix has no inverse.
    """

    crpix: Floats
    crval: Floats
    cd: Floats
    pv: Floats

    def __post_init__(self) -> None:
        for name, shape in (("crpix", (2,)), ("crval", (2,)), ("cd", (2, 2)), ("pv", (2, N_TERMS))):
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.shape != shape:
                raise InputError("no world coordinates", where=name, seen=f"shape {values.shape}", needed=str(shape))
            if not math.isfinite(np.vdot(values, values)) and not np.isfinite(values).all():  # squares may overflow
                raise InputError("no world coordinates", where=name, seen=values.tolist(), needed="finite numbers")
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        if abs(self.crval[1]) > 90:
            raise InputError("no declination", where="crval", seen=self.crval[1], needed="-90 to 90 degrees")
        (a, b), (c, d) = self.cd.tolist()
        if abs(a * d - b * c) <= 1e-12 * (a * a + b * b + c * c + d * d):
            raise InputError("pixels have no area on the sky", where="cd", seen=self.cd.tolist(), needed="an inverse")


def pixel_to_sky(wcs: ImageWcs, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Sky positions of pixels.

    Parameters
    ----------
    wcs : ImageWcs
        World coordinates of the image.
    x, y : array_like, broadcast
        Columns and rows; the centre of the first pixel is 0, 0.

    Returns
    -------
    ra, dec : ndarray
        Degrees, right ascension in [0, 360).
    """
    flat_x, flat_y, shape = _together(x, y)
    ra, dec = np.empty(flat_x.size), np.empty(flat_x.size)
    _to_sky(wcs.crpix, wcs.crval, wcs.cd, wcs.pv, flat_x, flat_y, ra, dec)
    return ra.reshape(shape), dec.reshape(shape)


def sky_to_pixel(wcs: ImageWcs, ra: ArrayLike, dec: ArrayLike) -> tuple[Floats, Floats]:
    """Pixels of sky positions, the inverse of :func:`pixel_to_sky`.

    Parameters
    ----------
    wcs : ImageWcs
        World coordinates of the image.
    ra, dec : array_like, broadcast
        Degrees.

    Returns
    -------
    x, y : ndarray
        Columns and rows; the centre of the first pixel is 0, 0. NaN where a position is not in front of the tangent
        plane or a coordinate is not finite, and where Newton's method does not converge, which takes a polynomial
        that is no distortion, or a position far outside the image.
    """
    flat_ra, flat_dec, shape = _together(ra, dec)
    x, y = np.empty(flat_ra.size), np.empty(flat_ra.size)
    _to_pixels(wcs.crpix, wcs.crval, wcs.cd, wcs.pv, flat_ra, flat_dec, x, y)
    return x.reshape(shape), y.reshape(shape)


def _together(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats, tuple[int, ...]]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        first, second = np.broadcast_arrays(first, second)
    return first.flatten(), second.flatten(), first.shape


@jit
def terms(pv):
    """PV (2, 40) as coefficients of u^a v^b (2, 8, 8) and of r, r^3, r^5, r^7 (2, 4), and the degree of the first."""
    poly, radial = np.zeros((2, 8, 8)), np.zeros((2, 4))
    highest = 1
    for axis in range(2):
        number = 0
        for degree in range(8):
            for b in range(degree + 1):  # PV1 counts from u^degree to v^degree, PV2 the other way
                coefficient = pv[axis, number]
                if coefficient != 0.0:
                    highest = max(highest, degree)
                if axis == 0:
                    poly[0, degree - b, b] = coefficient
                else:
                    poly[1, b, degree - b] = coefficient
                number += 1
            if degree % 2 == 1:
                radial[axis, degree // 2] = pv[axis, number]
                number += 1
    return poly, radial, highest


@jit
def _radial(radial, u, v):
    """Value of the radial terms of an axis, and their derivative over r."""
    r2 = u * u + v * v
    value = radial[0] + r2 * (radial[1] + r2 * (radial[2] + r2 * radial[3]))
    slope = radial[0] + r2 * (3.0 * radial[1] + r2 * (5.0 * radial[2] + r2 * 7.0 * radial[3]))
    r = math.sqrt(r2)
    return value * r, slope / r if r > 0.0 else 0.0


@jit
def distort(poly, radial, degree, u, v):
    """xi and eta of intermediate coordinates (degrees), and d xi/du, d xi/dv, d eta/du, d eta/dv."""
    f, fu, fv, g, gu, gv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for a in range(degree, -1, -1):  # Horner's rule in u, whose coefficients are polynomials in v
        p, pv, q, qv = 0.0, 0.0, 0.0, 0.0
        for b in range(degree - a, -1, -1):
            pv, p = pv * v + p, p * v + poly[0, a, b]
            qv, q = qv * v + q, q * v + poly[1, a, b]
        fu, fv, f = fu * u + f, fv * u + pv, f * u + p
        gu, gv, g = gu * u + g, gv * u + qv, g * u + q
    if radial.any():
        value, slope = _radial(radial[0], u, v)
        f, fu, fv = f + value, fu + slope * u, fv + slope * v
        value, slope = _radial(radial[1], u, v)
        g, gu, gv = g + value, gu + slope * u, gv + slope * v
    return f, g, fu, fv, gu, gv


@jit
def undistort(poly, radial, degree, xi, eta, start, tolerance):
    """u and v of tangent-plane coordinates (degrees) by Newton's method; NaN where it does not converge."""
    u, v = start
    for _ in range(_MOST_STEPS):
        f, g, fu, fv, gu, gv = distort(poly, radial, degree, u, v)
        determinant = fu * gv - fv * gu
        f, g = xi - f, eta - g
        du, dv = (gv * f - fv * g) / determinant, (fu * g - gu * f) / determinant
        u, v = u + du, v + dv
        if abs(du) + abs(dv) <= tolerance:
            return u, v
    return math.nan, math.nan


@jit
def first_guess(poly, xi, eta):
    """u and v of the constant and linear terms alone: where Newton's method starts."""
    f, g = xi - poly[0, 0, 0], eta - poly[1, 0, 0]
    a, b, c, d = poly[0, 1, 0], poly[0, 0, 1], poly[1, 1, 0], poly[1, 0, 1]
    determinant = a * d - b * c
    return (d * f - b * g) / determinant, (a * g - c * f) / determinant


@jit
def tolerance_deg(cd):
    """Length in intermediate coordinates below which a Newton step counts as the last."""
    return _TOLERANCE_PX * math.sqrt(abs(cd[0, 0] * cd[1, 1] - cd[0, 1] * cd[1, 0]))


@jit
def frame(crval):
    """Unit vectors (3, 3) east, north and to the centre of a tangent plane."""
    ra, dec = crval[0] * RADIANS_PER_DEGREE, crval[1] * RADIANS_PER_DEGREE
    sin_ra, cos_ra, sin_dec, cos_dec = math.sin(ra), math.cos(ra), math.sin(dec), math.cos(dec)
    axes = np.empty((3, 3))
    axes[0, 0], axes[0, 1], axes[0, 2] = -sin_ra, cos_ra, 0.0
    axes[1, 0], axes[1, 1], axes[1, 2] = -sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec
    axes[2, 0], axes[2, 1], axes[2, 2] = cos_dec * cos_ra, cos_dec * sin_ra, sin_dec
    return axes


@jit
def _to_sky(crpix, crval, cd, pv, x, y, ra, dec):
    poly, radial, degree = terms(pv)
    axes = frame(crval)
    for i in range(x.size):
        dx, dy = x[i] + 1.0 - crpix[0], y[i] + 1.0 - crpix[1]
        u, v = cd[0, 0] * dx + cd[0, 1] * dy, cd[1, 0] * dx + cd[1, 1] * dy
        xi, eta, _, _, _, _ = distort(poly, radial, degree, u, v)
        xi, eta = xi * RADIANS_PER_DEGREE, eta * RADIANS_PER_DEGREE
        a = xi * axes[0, 0] + eta * axes[1, 0] + axes[2, 0]
        b = xi * axes[0, 1] + eta * axes[1, 1] + axes[2, 1]
        c = eta * axes[1, 2] + axes[2, 2]
        ra[i] = ra_in_circle(math.atan2(b, a) / RADIANS_PER_DEGREE)
        dec[i] = math.atan2(c, math.hypot(a, b)) / RADIANS_PER_DEGREE


@jit
def _to_pixels(crpix, crval, cd, pv, ra, dec, x, y):
    poly, radial, degree = terms(pv)
    tolerance = tolerance_deg(cd)
    determinant = cd[0, 0] * cd[1, 1] - cd[0, 1] * cd[1, 0]
    sin_0, cos_0 = math.sin(crval[1] * RADIANS_PER_DEGREE), math.cos(crval[1] * RADIANS_PER_DEGREE)
    for i in range(ra.size):
        dra, here = (ra[i] - crval[0]) * RADIANS_PER_DEGREE, dec[i] * RADIANS_PER_DEGREE
        cos_dec = math.cos(here)
        east = cos_dec * math.sin(dra)
        away = 2.0 * cos_dec * math.sin(0.5 * dra) ** 2  # keeps the digits of a small angle that 1 - cos would lose
        north = math.sin(here - crval[1] * RADIANS_PER_DEGREE) + sin_0 * away
        depth = math.cos(here - crval[1] * RADIANS_PER_DEGREE) - cos_0 * away
        if not depth > 0.0:
            x[i], y[i] = math.nan, math.nan
            continue
        xi, eta = east / depth / RADIANS_PER_DEGREE, north / depth / RADIANS_PER_DEGREE
        u, v = undistort(poly, radial, degree, xi, eta, first_guess(poly, xi, eta), tolerance)
        x[i] = (cd[1, 1] * u - cd[0, 1] * v) / determinant + crpix[0] - 1.0
        y[i] = (cd[0, 0] * v - cd[1, 0] * u) / determinant + crpix[1] - 1.0
