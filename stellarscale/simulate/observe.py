"""What a telescope does to the true sky: epochs, position errors, photometric noise, limits and blends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate.galaxy import spherical, tangent_axes, unit_vector
from stellarscale.simulate.plan import Columns

TRUTH_EPOCH = 2016.0
MAS = np.pi / 180.0 / 3.6e6
MAG_PER_RELATIVE_FLUX = 2.5 / np.log(10.0)


def year_of_mjd(mjd: NDArray | float) -> NDArray[np.float64]:
    """Julian year of a modified Julian date."""
    return 2000.0 + (np.asarray(mjd, dtype=float) - 51544.5) / 365.25


def displace(
    ra_deg: NDArray, dec_deg: NDArray, *, pmra: NDArray, pmdec: NDArray, years: NDArray | float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (deg) after a number of Julian years of proper motion (mas/yr, pmra with cos dec).

    Straight-line motion of the unit vector, right to the poles; radial motion is neglected.
    """
    east, north = tangent_axes(ra_deg, dec_deg)
    motion = east * np.asarray(pmra)[:, None] + north * np.asarray(pmdec)[:, None]
    dt = np.broadcast_to(np.asarray(years, dtype=float), np.shape(ra_deg))
    return spherical(unit_vector(ra_deg, dec_deg) + motion * (dt * MAS)[:, None])


def jitter(
    ra_deg: NDArray, dec_deg: NDArray, *, sigma_arcsec: NDArray | float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (deg) with a Gaussian error of ``sigma_arcsec`` in each coordinate."""
    sigma = np.broadcast_to(np.asarray(sigma_arcsec, dtype=float), np.shape(ra_deg)) * 1000.0
    error = rng.standard_normal((2, len(ra_deg)))
    return displace(ra_deg, dec_deg, pmra=error[0] * sigma, pmdec=error[1] * sigma, years=1.0)


def magnitude_error(
    magnitude: NDArray, *, floor: float, at: float, error: float = 0.1, slope: float = 0.36
) -> NDArray[np.float64]:
    """Photometric error: a floor, and a term that is ``error`` at magnitude ``at`` and grows as 10^(slope m).

    The slope lies between photon noise of the star (0.2) and of the sky (0.4).
    """
    with np.errstate(over="ignore"):
        return np.hypot(floor, error * 10.0 ** (slope * (magnitude - at)))


def noisy(magnitude: NDArray, error: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Magnitudes with Gaussian noise; the noise of hopeless detections is bounded at one magnitude."""
    return magnitude + np.minimum(error, 1.0) * rng.standard_normal(len(magnitude))


def select(columns: Columns, rows: NDArray) -> Columns:
    """The given rows (indices or mask) of every column."""
    return {name: values[rows] for name, values in columns.items()}


def seen_at(
    sky: Columns, *, year: NDArray | float, bands: tuple[str, ...], resolution_arcsec: float
) -> tuple[Columns, NDArray[np.bool_]]:
    """The sky as one survey resolves it: positions at its epoch and blended magnitudes.

    Parameters
    ----------
    sky : dict of ndarray
        True stars from ``sky.draw_stars``.
    year : float or ndarray, shape (n,)
        Epoch of observation, Julian years.
    bands : tuple of str
        Bands of the survey.
    resolution_arcsec : float
        Pairs closer than this become one entry with the sum of the fluxes, at the flux-weighted position.

    Returns
    -------
    blended : dict of ndarray
        ``ra``, ``dec`` (deg) and ``<band>`` magnitudes, shape (n,).
    alone : ndarray of bool, shape (n,)
        False for the companions that vanished into their primary.
    """
    ra, dec = displace(sky["ra"], sky["dec"], pmra=sky["pmra"], pmdec=sky["pmdec"], years=year - TRUTH_EPOCH)
    blended: Columns = {"ra": ra, "dec": dec, **{band: sky[f"mag_{band}"].copy() for band in bands}}
    alone = np.ones(len(ra), dtype=bool)
    second = np.flatnonzero(sky["primary"] >= 0)
    first = sky["primary"][second]
    a, b = unit_vector(ra[first], dec[first]), unit_vector(ra[second], dec[second])
    close = np.linalg.norm(a - b, axis=1) < np.radians(resolution_arcsec / 3600.0)
    first, second, a, b = first[close], second[close], a[close], b[close]
    for number, band in enumerate(bands):
        one, two = 10.0 ** (-0.4 * blended[band][first]), 10.0 ** (-0.4 * blended[band][second])
        blended[band][first] = -2.5 * np.log10(one + two)
        if number == 0:
            weight = (two / (one + two))[:, None]
            blended["ra"][first], blended["dec"][first] = spherical(a + weight * (b - a))
    alone[second] = False
    return blended, alone


def biased_choice(weight: NDArray, expected: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of a sample of about ``expected`` stars, drawn by ``weight``, no star surer than 90 %."""
    chance = weight / max(weight.sum(), 1e-300) * expected
    for _ in range(4):
        # Stars at the ceiling give their surplus to the others.
        full = chance >= 0.9
        rest = expected - 0.9 * full.sum()
        chance = np.where(full, 0.9, chance * max(rest, 0.0) / max(chance[~full].sum(), 1e-300))
    return np.flatnonzero(rng.random(len(weight)) < np.minimum(chance, 0.9))
