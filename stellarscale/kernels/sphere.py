"""Directions on the sphere: unit vectors, angular separations and proper motion, in float64."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

ARCSEC_PER_RADIAN = 3600.0 * 180.0 / math.pi
RADIANS_PER_DEGREE = math.pi / 180.0
RADIANS_PER_MAS = 1e-3 / ARCSEC_PER_RADIAN

# Below this the next term of the series of sin and arcsin is under half a unit in the last place.
_SMALL_ANGLE = 1e-4


@njit(nogil=True, cache=True)
def ra_in_circle(ra_deg: float) -> float:
    """Right ascension in [0, 360)."""
    if 0.0 <= ra_deg < 360.0:
        return ra_deg
    wrapped = ra_deg % 360.0
    return 0.0 if wrapped >= 360.0 else wrapped  # a tiny negative angle rounds up to 360 itself


@njit(nogil=True, cache=True)
def ra_difference(ra1_deg: float, ra2_deg: float) -> float:
    """``ra2 - ra1`` in [-180, 180] for right ascensions in [0, 360), without loss across RA 0."""
    difference = ra2_deg - ra1_deg
    # 360 is taken from the angle itself, not from the difference: that subtraction is exact (Sterbenz).
    if difference > 180.0:
        return (ra2_deg - 360.0) - ra1_deg
    if difference < -180.0:
        return ra2_deg - (ra1_deg - 360.0)
    return difference


@njit(nogil=True, cache=True)
def _sin(angle: float) -> float:
    if abs(angle) < _SMALL_ANGLE:
        return angle * (1.0 - angle * angle / 6.0)
    return math.sin(angle)


@njit(nogil=True, cache=True)
def angle_from_half_chord(half_chord: float) -> float:
    """Angle in radians of a chord of length ``2 half_chord`` in the unit circle (at most 1)."""
    if half_chord < _SMALL_ANGLE:
        return 2.0 * half_chord * (1.0 + half_chord * half_chord / 6.0)
    return 2.0 * math.asin(min(half_chord, 1.0))


@njit(nogil=True, cache=True)
def pair_separation_arcsec(ra1_deg: float, dec1_deg: float, ra2_deg: float, dec2_deg: float) -> float:
    """Separation of one pair, right ascensions in [0, 360); see `separation_arcsec`."""
    half_ra = 0.5 * RADIANS_PER_DEGREE * ra_difference(ra1_deg, ra2_deg)
    half_dec = 0.5 * RADIANS_PER_DEGREE * (dec2_deg - dec1_deg)
    middle = 0.5 * RADIANS_PER_DEGREE * (dec1_deg + dec2_deg)
    sin_ra = _sin(half_ra) ** 2
    near = _sin(half_dec) ** 2 * (1.0 - sin_ra) + math.cos(middle) ** 2 * sin_ra
    if near < 0.25:
        return ARCSEC_PER_RADIAN * angle_from_half_chord(math.sqrt(near))
    far = (math.cos(half_dec) * math.cos(half_ra)) ** 2 + math.sin(middle) ** 2 * sin_ra
    return ARCSEC_PER_RADIAN * 2.0 * math.atan2(math.sqrt(near), math.sqrt(far))


@njit(nogil=True, cache=True)
def direction(ra_deg: float, dec_deg: float) -> tuple[float, float, float]:
    """Unit vector of one direction."""
    ra, dec = ra_deg * RADIANS_PER_DEGREE, dec_deg * RADIANS_PER_DEGREE
    cos_dec = math.cos(dec)
    return cos_dec * math.cos(ra), cos_dec * math.sin(ra), math.sin(dec)


@njit(nogil=True, cache=True)
def velocity(ra_deg: float, dec_deg: float, pmra_masyr: float, pmdec_masyr: float) -> tuple[float, float, float]:
    """Tangential motion of one direction, as a vector in radians per year."""
    ra, dec = ra_deg * RADIANS_PER_DEGREE, dec_deg * RADIANS_PER_DEGREE
    east, north = pmra_masyr * RADIANS_PER_MAS, pmdec_masyr * RADIANS_PER_MAS
    sin_ra, cos_ra, sin_dec = math.sin(ra), math.cos(ra), math.sin(dec)
    return (
        -east * sin_ra - north * sin_dec * cos_ra,
        east * cos_ra - north * sin_dec * sin_ra,
        north * math.cos(dec),
    )


@njit(nogil=True, cache=True)
def propagate_one(
    ra_deg: float, dec_deg: float, pmra_masyr: float, pmdec_masyr: float, dt_yr: float
) -> tuple[float, float]:
    """Position of one star after ``dt_yr``; see `propagate`."""
    if dt_yr == 0.0 or (pmra_masyr == 0.0 and pmdec_masyr == 0.0):
        return ra_in_circle(ra_deg), dec_deg  # a star that did not move keeps its position bit for bit
    x, y, z = direction(ra_deg, dec_deg)
    vx, vy, vz = velocity(ra_deg, dec_deg, pmra_masyr, pmdec_masyr)
    x, y, z = x + vx * dt_yr, y + vy * dt_yr, z + vz * dt_yr
    ra = math.atan2(y, x) / RADIANS_PER_DEGREE
    return ra_in_circle(ra), math.atan2(z, math.hypot(x, y)) / RADIANS_PER_DEGREE


@njit(nogil=True, cache=True)
def _unit_vectors(ra, dec, out):
    for i in range(ra.size):
        out[i, 0], out[i, 1], out[i, 2] = direction(ra[i], dec[i])


@njit(nogil=True, cache=True)
def _separations(ra1, dec1, ra2, dec2, out):
    for i in range(out.size):
        out[i] = pair_separation_arcsec(ra_in_circle(ra1[i]), dec1[i], ra_in_circle(ra2[i]), dec2[i])


@njit(nogil=True, cache=True)
def _propagate(ra, dec, pmra, pmdec, dt, ra_out, dec_out):
    for i in range(ra_out.size):
        ra_out[i], dec_out[i] = propagate_one(ra[i], dec[i], pmra[i], pmdec[i], dt[i])


def read_only(values: ArrayLike) -> NDArray[np.float64]:
    """A contiguous float64 array that is not written to: without a copy where it is one already.

    Tables hand out read-only arrays and callers writable ones; the compiled kernels see one kind, and so are
    compiled once.
    """
    array = np.ascontiguousarray(values, dtype=np.float64).view()
    array.flags.writeable = False
    return array


def _flat(*values: ArrayLike) -> tuple[list[NDArray[np.float64]], tuple[int, ...]]:
    """Broadcast to one shape, and flatten."""
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    return [read_only(np.broadcast_to(array, shape)).reshape(-1) for array in arrays], shape


def unit_vectors(ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors of directions.

    Parameters
    ----------
    ra_deg, dec_deg : array_like, shape (n,)
        Right ascension and declination in degrees.

    Returns
    -------
    ndarray, shape (n, 3), float64
        x towards (0, 0), y towards (90, 0), z towards the north pole.
    """
    (ra, dec), _ = _flat(ra_deg, dec_deg)
    out = np.empty((ra.size, 3))
    _unit_vectors(ra, dec, out)
    return out


def separation_arcsec(
    ra1_deg: ArrayLike, dec1_deg: ArrayLike, ra2_deg: ArrayLike, dec2_deg: ArrayLike
) -> NDArray[np.float64]:
    """Angular separation of pairs of directions, in arcsec.

    The haversine written as a sum of positive terms, with its complement beyond 60 degrees, so that
    nothing cancels: equal positions give exactly 0, and the error stays near 1e-10 arcsec at any
    separation, at the poles and across RA 0.

    Parameters
    ----------
    ra1_deg, dec1_deg, ra2_deg, dec2_deg : array_like
        Right ascensions (any turn) and declinations in degrees, broadcast against each other.

    Returns
    -------
    ndarray, float64
        Separations in arcsec, in the broadcast shape.
    """
    (ra1, dec1, ra2, dec2), shape = _flat(ra1_deg, dec1_deg, ra2_deg, dec2_deg)
    out = np.empty(ra1.size)
    _separations(ra1, dec1, ra2, dec2, out)
    return out.reshape(shape)


def propagate(
    ra_deg: ArrayLike,
    dec_deg: ArrayLike,
    pmra_masyr: ArrayLike,
    pmdec_masyr: ArrayLike,
    dt_yr: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions after ``dt_yr`` years of uniform motion along the tangent of the sky.

    The unit vector plus its tangential velocity times the time, projected back on the sphere: the
    standard model of stellar motion (ESA SP-1200, Vol. 1, sec. 1.5.5) at zero radial velocity. Valid
    at the poles, where ``ra + pmra dt / cos(dec)`` is not.

    Parameters
    ----------
    ra_deg, dec_deg : array_like, shape (n,)
        Position at the starting epoch, degrees.
    pmra_masyr, pmdec_masyr : array_like
        Proper motion in mas/yr, pmra including cos(dec). NaN gives NaN: the caller decides what a
        missing motion means.
    dt_yr : array_like
        Years to move by, scalar or per row.

    Returns
    -------
    ra_deg, dec_deg : ndarray, float64
        Right ascension in [0, 360) and declination in degrees; rows without motion come back exact.
    """
    (ra, dec, pmra, pmdec, dt), shape = _flat(ra_deg, dec_deg, pmra_masyr, pmdec_masyr, dt_yr)
    ra_out, dec_out = np.empty(ra.size), np.empty(ra.size)
    _propagate(ra, dec, pmra, pmdec, dt, ra_out, dec_out)
    return ra_out.reshape(shape), dec_out.reshape(shape)
