"""The exposures of the mock: night, filter, seeing, sky, zero point, and the map from the sky to the chip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.settings.stamps import BANDS
from stellarscale.simulate import galaxy
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.smss_plan import ImagePlan
from stellarscale.simulate.smss_wcs import PV_TERMS, gnomonic, undistort

SCALE_ARCSEC = 0.4976
CHIP_PX = (2048, 4096)
CHIPS = 32
GAIN, READ_NOISE_E = 0.75, 10.0
FULL_WELL = 60_000.0
VISIT_CHANCE = (0.30, 0.35, 0.20, 0.15)
_LOST_SHARE = 0.08
MAIN_S = 100.0
ZERO_POINT_ERROR_MAG = 0.005

# By band: exposure time (s) of the shallow survey, magnitude of one count a second, sky (mag/arcsec^2), seeing.
_SHALLOW_S = np.array([40.0, 20.0, 5.0, 5.0, 10.0, 20.0])
_ZERO_POINT = np.array([21.3, 21.5, 23.4, 23.4, 22.9, 22.1])
_SKY = np.array([22.0, 21.8, 21.7, 20.8, 19.7, 18.8])
_SEEING_ARCSEC = np.array([2.75, 2.7, 2.55, 2.4, 2.3, 2.3])
_SEEING_RANGE_ARCSEC = (1.8, 3.5)
_FIRST_NIGHT = np.datetime64("2014-03-15T09:00:00")
# Seconds until September 2021, and a stride without a common factor: every exposure starts in a second of its own.
_SPAN_S, _STRIDE = 236_000_017, 90_001_513
_FIELD_DEG = 1.15
_EDGE_PX = 8


def draw_exposures(sky: Columns, plan: ImagePlan, block: int) -> Columns:
    """Exposures that hold the groups of stars of one block, one to four a group and band.

    Parameters
    ----------
    sky : dict of ndarray
        Stars of :func:`stellarscale.simulate.smss_stars.draw_block`.
    plan, block : ImagePlan, int
        For the random stream.

    Returns
    -------
    dict of ndarray
        By exposure: ``group``, ``band`` (number in ``BANDS``), ``image_id``, ``ccd``, ``mjd``, ``exptime_s``, the true
        ``zero_point`` and the ``zpapprox`` that the survey knows, ``background`` (counts/px), ``fwhm_arcsec``, ``psf``
        (n, 4: the Moffat's quadratic form in px^-2 and its exponent) and ``crval``, ``crpix``, ``cd``, ``pv``.
    """
    rng = plan.rng("exposures", block)
    main = np.flatnonzero(sky["slot"] == 0)
    group, band, turn = np.nonzero(_seen(len(main), rng))
    out: Columns = {"group": group, "band": band}
    out |= _time((plan.bounds(block)[0] + group) * 4 * len(BANDS) + 4 * band + turn, plan.seed)
    out["ccd"] = rng.integers(1, CHIPS + 1, len(group))
    bright = np.stack([sky[f"true_{name}"][main] for name in BANDS])[band, group]
    visit = 4 * group + turn
    out |= _conditions(band, bright, visit, rng)
    out["psf"] = _point_spread(out["fwhm_arcsec"] / SCALE_ARCSEC, visit, rng)
    return out | _pointing(sky["ra"][main][group], sky["dec"][main][group], rng)


def _seen(groups: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which bands a visit of a group has, (groups, bands, visits): the filters of a sequence, now and then one less."""
    visits = rng.choice(np.arange(1, 5), groups, p=VISIT_CHANCE)
    seen = (np.arange(4) < visits[:, None, None]) & (rng.random((groups, len(BANDS), 4)) > _LOST_SHARE)
    seen[:, :, 0] |= ~seen.any(axis=2)
    return seen


def _time(number: NDArray[np.int64], seed: int) -> Columns:
    """A start of its own for every exposure, and the identifier that is made of it."""
    second = (number * _STRIDE + seed % 1_000_003) % _SPAN_S
    start = _FIRST_NIGHT + second.astype("m8[s]")
    image_id = np.array([int(text.translate(_DIGITS)) for text in np.datetime_as_string(start)], dtype=np.int64)
    return {"start": start, "image_id": image_id, "mjd": (start - np.datetime64("1858-11-17")) / np.timedelta64(1, "D")}


_DIGITS = str.maketrans("", "", "-T:")


def _conditions(band: NDArray, magnitude: NDArray, visit: NDArray, rng: np.random.Generator) -> Columns:
    """Exposure time, zero point, sky and seeing; bright stars are mostly seen by the shallow survey.

    The filters of one visit follow each other within minutes, so that they share its seeing.
    """
    n = len(band)
    long = rng.random(n) < np.where(magnitude < 13.0, 0.08, 0.65)
    exptime = np.where(long, MAIN_S, _SHALLOW_S[band])
    zero_point = _ZERO_POINT[band] + 2.5 * np.log10(exptime) - np.abs(rng.normal(0.0, 0.12, n))
    dark = _SKY[band] - 0.6 * rng.random(n) ** 2 - 5.0 * np.log10(SCALE_ARCSEC)
    fwhm = _SEEING_ARCSEC[band] * np.exp(rng.normal(0.0, 0.17, visit.max() + 1)[visit] + rng.normal(0.0, 0.04, n))
    return {
        "exptime_s": exptime,
        "zero_point": zero_point,
        "zpapprox": np.round(zero_point + rng.normal(0.0, ZERO_POINT_ERROR_MAG, n), 4),
        "background": 10.0 ** (0.4 * (zero_point - dark)),
        "fwhm_arcsec": np.clip(fwhm, *_SEEING_RANGE_ARCSEC),
    }


def _point_spread(fwhm_px: NDArray, visit: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Quadratic form (xx, xy, yy) and exponent of a slightly elliptical Moffat profile of a given width."""
    n = len(fwhm_px)
    beta = rng.uniform(2.6, 3.6, visit.max() + 1)[visit]  # of the telescope's state, hence of a visit
    inverse2 = 4.0 * (2.0 ** (1.0 / beta) - 1.0) / fwhm_px**2
    stretch, angle = np.minimum(np.abs(rng.normal(0.0, 0.04, n)), 0.12), rng.uniform(0.0, np.pi, n)
    cosine, sine = np.cos(2.0 * angle), np.sin(2.0 * angle)
    form = inverse2[:, None] * np.stack([1.0 + stretch * cosine, stretch * sine, 1.0 - stretch * cosine], axis=1)
    return np.concatenate([form, beta[:, None]], axis=1)


def _pointing(ra_deg: NDArray, dec_deg: NDArray, rng: np.random.Generator) -> Columns:
    """Field centre, orientation and distortion, so that the star falls on a random place of its chip."""
    n = len(ra_deg)
    east, north = galaxy.tangent_axes(ra_deg, dec_deg)
    offset = np.radians(rng.uniform(-_FIELD_DEG, _FIELD_DEG, (2, n)))
    centre = galaxy.unit_vector(ra_deg, dec_deg) + offset[0][:, None] * east + offset[1][:, None] * north
    crval = np.round(np.stack(galaxy.spherical(centre), axis=1), 9)
    angle = np.radians(rng.normal(0.0, 0.3, n)) + np.where(rng.random(n) < 0.5, np.pi, 0.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    cd = np.array([[-cosine, -sine], [-sine, cosine]]).transpose(2, 0, 1) * (SCALE_ARCSEC / 3600.0)
    pv = _distortions(n, rng)
    chip = np.stack([rng.uniform(_EDGE_PX, side - _EDGE_PX, n) for side in CHIP_PX], axis=1)
    plane = np.stack(undistort(*gnomonic(ra_deg, dec_deg, crval), pv), axis=1)
    crpix = chip + 1.0 - np.linalg.solve(cd, plane[:, :, None])[:, :, 0]
    return {"crval": crval, "crpix": np.round(crpix, 6), "cd": cd, "pv": pv}


def _distortions(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """TPV terms of a wide-field camera: a cubic radial term of about 1 arcsec at one degree, small others."""
    pv = np.zeros((n, 2, PV_TERMS))
    pv[:, :, 0] = rng.normal(0.0, 2e-5, (n, 2))
    pv[:, :, 1:3] = rng.normal(0.0, 2e-4, (n, 2, 2))
    pv[:, :, 1] += 1.0
    pv[:, :, 4:] = rng.normal(0.0, 2e-5, (n, 2, 7))
    radial = rng.normal(3e-4, 3e-5, n)[:, None]
    pv[:, :, 7] += radial
    pv[:, :, 9] += radial
    return pv
