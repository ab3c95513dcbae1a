"""SkyMapper's tables of the mock: the master table out of the detections, detections, exposures, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.settings.stamps import BANDS
from stellarscale.simulate import dust, galaxy
from stellarscale.simulate.files import record_array
from stellarscale.simulate.observe import TRUTH_EPOCH, displace, jitter, year_of_mjd
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.smss_plan import SLOTS
from stellarscale.simulate.text import chosen_text, decimal, words

ODD_SHARE = 0.03
CLIP_SIGMA = 3.0
# What repeated measurements of a star differ by beyond their errors.
CLIP_FLOOR_MAG, MEAN_FLOOR_MAG = 0.02, 0.002
WITHIN_ARCSEC = 15.0
RAD_ARCSEC = np.degrees(1.0) * 3600.0

_FIELDS = words("object_id:i8 raj2000:f8 dej2000:f8 e_raj2000:i4 e_dej2000:i4 mean_epoch:f8 glon:f4 glat:f4 flags:i2")
_FIELDS += words("flags_psf:i4 nimaflags:i4 ngood:i2 class_star:f4")
_FIELDS += [
    f"{name}{band}{rest}" for band in BANDS for name, rest in (("", "_ngood:i2"), ("", "_psf:f4"), ("e_", "_psf:f4"))
]
_FIELDS += words("ebmv_sfd:f4 gaia_dr3_id1:i8 gaia_dr3_dist1:f4 self_id1:i8 self_dist1:f4 cnt_self_15:i4")
MASTER_DTYPE = np.dtype([(name, kind) for name, kind in (field.split(":") for field in _FIELDS)])
MASTER_UNITS = {"raj2000": "deg", "dej2000": "deg", "mean_epoch": "d", "glon": "deg", "glat": "deg", "ebmv_sfd": "mag"}
MASTER_UNITS |= {"gaia_dr3_dist1": "arcsec", "self_dist1": "arcsec", "e_raj2000": "mas", "e_dej2000": "mas"}
MASTER_UNITS |= {name: "mag" for band in BANDS for name in (f"{band}_psf", f"e_{band}_psf")}
DETECTION_COLUMNS = words(
    """
    object_id image_id ccd filter ra_img decl_img mag_psf e_mag_psf flags nimaflags use_in_clipped x_img y_img
    """
)
EXPOSURE_COLUMNS = words("image_id date filter exp_time background zpapprox fwhm ra decl")
_TRUTH_FLOATS = ("ra", "dec", "parallax_mas", "teff", "logg", "fe_h", "ebv", *(f"{band}_mag" for band in BANDS))
TRUTH_SCHEMA = pa.schema(
    [pa.field("object_id", pa.int64()), pa.field("source_id", pa.int64()), pa.field("is_primary", pa.bool_())]
    + [pa.field(name, pa.float64()) for name in _TRUTH_FLOATS]
    + [pa.field("n_neighbours", pa.int32()), pa.field("contamination", pa.float64())]
)


@dataclass(frozen=True)
class Odd:
    """The few stars that a selection must not take: rows of the block's stars.

    Parameters
    ----------
    low_class_star, flagged : ndarray of int
        Stars that look like galaxies, and stars with a flag.
    undetected : ndarray of bool, shape (stars, bands)
        Bands without a detection.
    """

    low_class_star: NDArray[np.int64]
    flagged: NDArray[np.int64]
    undetected: NDArray[np.bool_]


def draw_odd(sky: Columns, rng: np.random.Generator) -> Odd:
    """Choose three per cent of the primaries, at least one of eight, for each oddity; no star gets two."""
    main = rng.permutation(np.flatnonzero(sky["slot"] == 0))
    each = max(1, round(ODD_SHARE * len(main))) if len(main) >= 8 else 0
    undetected = np.zeros((len(sky["slot"]), len(BANDS)), dtype=bool)
    undetected[main[2 * each : 3 * each], rng.integers(0, len(BANDS), each)] = True
    return Odd(np.sort(main[:each]), np.sort(main[each : 2 * each]), undetected)


def clipped_mean(mag: NDArray, error: NDArray) -> tuple[float, float]:
    """Weighted mean of magnitudes, three or more of them without those that are 3 sigma off their median."""
    if len(mag) >= 3:
        keep = np.abs(mag - np.median(mag)) <= CLIP_SIGMA * np.hypot(error, CLIP_FLOOR_MAG)
        if keep.any():
            mag, error = mag[keep], error[keep]
    weight = 1.0 / error**2
    return float(weight @ mag / weight.sum()), float(np.hypot(weight.sum() ** -0.5, MEAN_FLOOR_MAG))


def master_rows(
    sky: Columns, exposures: Columns, detections: Columns, *, odd: Odd, in_gaia: NDArray, rng: np.random.Generator
) -> NDArray:
    """Rows of ``dr4.master``: magnitudes are clipped means of the detections, so that neighbours contaminate them.

    Parameters
    ----------
    sky, exposures, detections : dict of ndarray
        One block.
    odd : Odd
        Stars with a flag or a low ``class_star``.
    in_gaia : ndarray of int
        Rows of the stars that Gaia has.
    rng : numpy.random.Generator
        For what is not measured from pixels.

    Returns
    -------
    ndarray
        Structured rows of ``MASTER_DTYPE``; NaN and 0 (ids) where there is no value.
    """
    n = len(sky["object_id"])
    count = np.maximum(np.bincount(detections["star"], minlength=n), 1)
    epoch = np.bincount(detections["star"], exposures["mjd"][detections["exposure"]], n) / count
    epoch = np.where(epoch > 0.0, epoch, 57800.0)
    years = year_of_mjd(epoch) - TRUTH_EPOCH
    ra, dec = displace(sky["ra"], sky["dec"], pmra=sky["pmra"], pmdec=sky["pmdec"], years=years)
    ra, dec = jitter(ra, dec, sigma_arcsec=0.1 / np.sqrt(count), rng=rng)
    columns: dict = {"object_id": sky["object_id"], "raj2000": ra, "dej2000": dec, "mean_epoch": epoch}
    columns |= {"e_raj2000": 100.0 / np.sqrt(count), "e_dej2000": 100.0 / np.sqrt(count)}
    columns["glon"], columns["glat"] = galaxy.equatorial_to_galactic(ra, dec)
    class_star, flags = rng.uniform(0.85, 1.0, n), np.zeros(n, dtype=np.int64)
    class_star[odd.low_class_star] = rng.uniform(0.02, 0.58, len(odd.low_class_star))
    flags[odd.flagged] = rng.choice([1, 2, 3, 16], len(odd.flagged))
    columns |= {"class_star": class_star, "flags": flags, "flags_psf": 0}
    columns["nimaflags"] = np.bincount(detections["star"], detections["nimaflags"], n)
    columns |= _magnitudes(n, exposures, detections)
    columns["ebmv_sfd"] = dust.e_bv(columns["glon"], columns["glat"], np.inf)
    columns |= _nearest(sky, ra, dec, in_gaia)
    return record_array(columns, MASTER_DTYPE, n)


def _magnitudes(n: int, exposures: Columns, detections: Columns) -> dict[str, NDArray]:
    """Mean magnitudes, errors and numbers of good detections by band."""
    used = np.flatnonzero(detections["use_in_clipped"] == 1)
    cell = detections["star"][used] * len(BANDS) + exposures["band"][detections["exposure"][used]]
    order = np.argsort(cell, kind="stable")
    cell, mag, error = cell[order], detections["mag"][used][order], detections["mag_err"][used][order]
    good = np.bincount(cell, minlength=n * len(BANDS))
    mean = np.full((n * len(BANDS), 2), np.nan)
    stop = np.cumsum(good)
    for place in np.flatnonzero(good).tolist():
        rows = slice(stop[place] - good[place], stop[place])
        mean[place] = clipped_mean(mag[rows], error[rows])
    out: dict[str, NDArray] = {"ngood": good.reshape(n, -1).sum(axis=1)}
    for number, band in enumerate(BANDS):
        cells = slice(number, None, len(BANDS))
        out |= {f"{band}_psf": mean[cells, 0], f"e_{band}_psf": mean[cells, 1], f"{band}_ngood": good[cells]}
    return out


def _nearest(sky: Columns, ra: NDArray, dec: NDArray, in_gaia: NDArray) -> dict[str, NDArray]:
    """The nearest other object and the nearest Gaia source of each star, and the number of others within 15 arcsec."""
    n, rows = len(ra), np.arange(len(ra))
    others = (rows - sky["slot"])[:, None] + np.arange(SLOTS)
    real = (others < n) & (sky["group"][np.minimum(others, n - 1)] == sky["group"][:, None])
    others = np.minimum(others, n - 1)
    here, truly = galaxy.unit_vector(ra, dec), galaxy.unit_vector(sky["ra"], sky["dec"])
    apart = np.linalg.norm(here[:, None] - here[others], axis=2) * RAD_ARCSEC
    apart = np.where(real & (others != rows[:, None]), apart, np.inf)
    known = np.isin(others, in_gaia) & real
    to_gaia = np.where(known, np.linalg.norm(here[:, None] - truly[others], axis=2) * RAD_ARCSEC, np.inf)
    to_gaia = np.where(to_gaia <= WITHIN_ARCSEC, to_gaia, np.inf)
    out: dict[str, NDArray] = {"cnt_self_15": (apart < WITHIN_ARCSEC).sum(axis=1)}
    for prefix, distance, ids in (("self_", apart, sky["object_id"]), ("gaia_dr3_", to_gaia, sky["source_id"])):
        best = np.argmin(distance, axis=1)
        found = distance[rows, best]
        out[f"{prefix}dist1"] = np.where(np.isfinite(found), found, np.nan)
        out[f"{prefix}id1"] = np.where(np.isfinite(found), ids[others[rows, best]], 0)
    return out


def detection_rows(sky: Columns, exposures: Columns, detections: Columns) -> dict[str, pa.Array | pa.Scalar]:
    """Rows of ``dr4.photometry``; pixels count from 1."""
    shot = {name: exposures[name][detections["exposure"]] for name in ("image_id", "ccd", "band")}
    mag, error = detections["mag"], detections["mag_err"]
    cells: dict[str, pa.Array | pa.Scalar] = {"object_id": pa.array(sky["object_id"][detections["star"]])}
    cells |= {"image_id": pa.array(shot["image_id"]), "ccd": pa.array(shot["ccd"])}
    cells |= {"filter": chosen_text(list(BANDS), shot["band"])}
    cells |= {"ra_img": decimal(detections["ra"], 7), "decl_img": decimal(detections["dec"], 7)}
    cells |= {"mag_psf": decimal(mag, 4, missing=np.isnan(mag)), "e_mag_psf": decimal(error, 4, missing=np.isnan(mag))}
    cells |= {name: pa.array(detections[name]) for name in ("flags", "nimaflags", "use_in_clipped")}
    cells |= {"x_img": decimal(detections["x_px"] + 1.0, 3), "y_img": decimal(detections["y_px"] + 1.0, 3)}
    return {name: cells[name] for name in DETECTION_COLUMNS}


def exposure_rows(exposures: Columns, rng: np.random.Generator) -> dict[str, pa.Array | pa.Scalar]:
    """Rows of ``dr4.images``; the seeing is known to two per cent."""
    fwhm = exposures["fwhm_arcsec"] * (1.0 + rng.normal(0.0, 0.02, len(exposures["mjd"])))
    cells: dict[str, pa.Array | pa.Scalar] = {"image_id": pa.array(exposures["image_id"])}
    cells |= {"date": decimal(exposures["mjd"], 6), "filter": chosen_text(list(BANDS), exposures["band"])}
    cells |= {"exp_time": decimal(exposures["exptime_s"], 1), "background": decimal(exposures["background"], 3)}
    cells |= {"zpapprox": decimal(exposures["zpapprox"], 4), "fwhm": decimal(fwhm, 3)}
    cells |= {"ra": decimal(exposures["crval"][:, 0], 6), "decl": decimal(exposures["crval"][:, 1], 6)}
    return {name: cells[name] for name in EXPOSURE_COLUMNS}


def truth_rows(sky: Columns, exposures: Columns, blends: Columns, in_gaia: NDArray) -> pa.Table:
    """What is true of each object; ``contamination`` is the mean over its r-band exposures."""
    n = len(sky["object_id"])
    in_r = exposures["band"][blends["exposure"]] == BANDS.index("r")
    star = blends["star"][in_r]
    others = np.bincount(star, blends["others"][in_r], n) / np.bincount(star, minlength=n)
    missed = np.ones(n, dtype=bool)
    missed[in_gaia] = False
    sizes = np.bincount(sky["group"])[sky["group"]] - 1
    columns: dict = {**sky, "source_id": pa.array(sky["source_id"], mask=missed)}
    columns |= {"is_primary": sky["slot"] == 0, "teff": sky["teff_k"], "n_neighbours": sizes, "contamination": others}
    columns |= {f"{band}_mag": sky[f"true_{band}"] for band in BANDS}
    return pa.table([pa.array(columns[f.name]).cast(f.type) for f in TRUTH_SCHEMA], schema=TRUTH_SCHEMA)
