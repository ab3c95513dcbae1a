"""2MASS point sources: 60 columns between bars, no header, ``\\N`` for null, a date for every source."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.simulate import galaxy, observe
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.text import arrow_text, chosen_text, coordinate_name, decimal, words

BANDS = ("j", "h", "k")
RESOLUTION_ARCSEC = 3.0
ASTROMETRY_ARCSEC = 0.07
SEEN_SHARE = 0.97
FIRST_JD, LAST_JD = 2450600.5, 2451950.5
# Magnitude at which the error is 0.1 mag, and the faintest magnitude of a detection.
DEPTH = {"j": 16.0, "h": 15.3, "k": 14.6}
LIMIT_ERROR = 0.30
DETECTION_ERROR = 0.20

COLUMN_NAMES = words(
    """
    ra decl err_maj err_min err_ang designation j_m j_cmsig j_msigcom j_snr h_m h_cmsig h_msigcom h_snr
    k_m k_cmsig k_msigcom k_snr ph_qual rd_flg bl_flg cc_flg ndet prox pxpa pxcntr gal_contam mp_flg
    pts_key hemis date scan glon glat x_scan jdate j_psfchi h_psfchi k_psfchi j_m_stdap j_msig_stdap
    h_m_stdap h_msig_stdap k_m_stdap k_msig_stdap dist_edge_ns dist_edge_ew dist_edge_flg dup_src use_src
    a dist_opt phi_opt b_m_opt vr_m_opt nopt_mchs ext_key scan_key coadd_key coadd
    """
)
_CONSTANT = {
    "err_ang": "45", "pxpa": "180", "gal_contam": "0", "mp_flg": "0", "scan": "57", "j_psfchi": "1.01",
    "h_psfchi": "0.98", "k_psfchi": "1.0", "dist_edge_ns": "8123", "dist_edge_ew": "211",
    "dist_edge_flg": "se", "dup_src": "0", "use_src": "1", "a": "U", "phi_opt": "120", "nopt_mchs": "1",
    "scan_key": "43221", "coadd_key": "1020301", "coadd": "33",
}  # fmt: skip


def observe_twomass(
    sky: Columns, plan: SkyPlan, chunk: int
) -> tuple[dict[str, pa.Array | pa.Scalar], NDArray, dict[str, int]]:
    """Rows of one ``psc_*.gz`` file.

    A source is kept when J or H is detected; a band fainter than its limit is an upper limit (letter ``U``,
    the magnitude is the limit, its errors are null). A few rows at the end have null or impossible
    positions.

    Returns
    -------
    columns : dict of Arrow arrays
        The 60 native columns in file order.
    rows : ndarray of int
        The true star of each of the first rows.
    extra : dict of int
        How many damaged rows follow, by kind.
    """
    rng = plan.rng(chunk, "twomass")
    n = len(sky["star_id"])
    julian_day = np.round(rng.uniform(FIRST_JD, LAST_JD, n), 4)
    year = observe.year_of_mjd(julian_day - 2400000.5)
    seen, alone = observe.seen_at(sky, year=year, bands=BANDS, resolution_arcsec=RESOLUTION_ARCSEC)
    error = {band: observe.magnitude_error(seen[band], floor=0.021, at=DEPTH[band]) for band in BANDS}
    found = np.minimum(error["j"], error["h"]) < DETECTION_ERROR
    rows = np.flatnonzero(alone & found & (rng.random(n) < SEEN_SHARE))
    extra = min(plan.share(plan.bad_rows, chunk), len(rows) // 2)
    # Damaged rows are copies of the first ones, keys of their own, positions spoilt below.
    every = np.concatenate([rows, rows[: 2 * extra]])
    copy = np.arange(len(every)) >= len(rows)
    seen, error = observe.select(seen, every), observe.select(error, every)
    columns: dict[str, pa.Array | pa.Scalar] = {name: pa.scalar(text) for name, text in _CONSTANT.items()}
    columns |= _positions(seen, rng, extra)
    columns |= _magnitudes(seen, error, rng)
    columns |= _book_keeping(sky["star_id"][every] + np.where(copy, 2**40, 0), julian_day[every], seen, rng)
    kinds = {"position_null": extra, "declination_out_of_range": extra}
    null = pa.scalar(None, pa.string())
    return {name: columns.get(name, null) for name in COLUMN_NAMES}, rows, kinds


def _positions(seen: Columns, rng: np.random.Generator, extra: int) -> dict[str, pa.Array | pa.Scalar]:
    n = len(seen["ra"])
    ra, dec = observe.jitter(seen["ra"], seen["dec"], sigma_arcsec=ASTROMETRY_ARCSEC, rng=rng)
    l_deg, b_deg = galaxy.equatorial_to_galactic(ra, dec)
    error = np.clip(ASTROMETRY_ARCSEC * np.exp(rng.normal(0.0, 0.15, n)), 0.05, 0.5)
    names = arrow_text(coordinate_name(ra, dec, decimals=(2, 1)))
    unplaced = np.zeros(n, dtype=bool)
    unplaced[n - 2 * extra : n - extra] = True
    dec = dec.copy()
    dec[n - extra :] = 91.0 + np.arange(extra) % 100
    out: dict[str, pa.Array | pa.Scalar] = {"ra": decimal(ra, 6, missing=unplaced)}
    out |= {
        "decl": decimal(dec, 6, missing=unplaced),
        "err_maj": decimal(error, 2),
        "err_min": decimal(error, 2),
    }
    out |= {"designation": names, "glon": decimal(l_deg, 3), "glat": decimal(b_deg, 3)}
    out["hemis"] = chosen_text(["s", "n"], seen["dec"] > 12.0)
    return out


def _magnitudes(seen: Columns, error: Columns, rng: np.random.Generator) -> dict[str, pa.Array | pa.Scalar]:
    out: dict[str, pa.Array | pa.Scalar] = {}
    letters, read = [], []
    for band in BANDS:
        sigma = error[band]
        limit = sigma > LIMIT_ERROR
        edge = DEPTH[band] + np.log10(LIMIT_ERROR / 0.1) / 0.36
        value = np.where(limit, np.minimum(seen[band], edge), observe.noisy(seen[band], sigma, rng))
        out[f"{band}_m"] = decimal(value, 3)
        out[f"{band}_cmsig"] = decimal(np.maximum(sigma - 0.003, 0.017), 3, missing=limit)
        out[f"{band}_msigcom"] = decimal(sigma, 3, missing=limit)
        out[f"{band}_snr"] = decimal(observe.MAG_PER_RELATIVE_FLUX / sigma, 1, missing=limit)
        out[f"{band}_m_stdap"] = decimal(value + 0.02, 3, missing=limit)
        out[f"{band}_msig_stdap"] = decimal(1.3 * sigma, 3, missing=limit)
        quality = np.searchsorted([0.10, 0.155, 0.21, LIMIT_ERROR], sigma)
        letters.append(chosen_text(list("ABCDU"), quality))
        read.append(chosen_text(["2", "0"], limit))
    out["ph_qual"] = pc.binary_join_element_wise(*letters, "")
    out["rd_flg"] = pc.binary_join_element_wise(*read, "")
    out["bl_flg"] = pc.binary_join_element_wise(*(chosen_text(["1", "0"], error[b] > LIMIT_ERROR) for b in BANDS), "")
    out["cc_flg"] = chosen_text(["000", "c00", "0cc", "ppp", "s00"], rng.choice(5, len(letters[0]), p=_ARTEFACTS))
    out["ndet"] = chosen_text(["666666", "565600"], error["k"] > LIMIT_ERROR)
    return out


_ARTEFACTS = (0.95, 0.02, 0.01, 0.01, 0.01)


def _book_keeping(
    key: NDArray, julian_day: NDArray, seen: Columns, rng: np.random.Generator
) -> dict[str, pa.Array | pa.Scalar]:
    n = len(key)
    night = np.floor(julian_day - FIRST_JD).astype(np.int64)
    first = np.datetime64("1970-01-01") + int(FIRST_JD - 2440587.5)
    dates = np.datetime_as_string(first + np.arange(int(LAST_JD - FIRST_JD) + 2))
    out: dict[str, pa.Array | pa.Scalar] = {
        "pts_key": pa.array(key + 10_000_000),
        "jdate": decimal(julian_day, 4),
    }
    out["date"] = chosen_text([str(date) for date in dates], night)
    out["prox"] = decimal(np.minimum(4.0 + rng.exponential(9.0, n), 99.0), 1)
    out["pxcntr"] = pa.array(key + 10_000_001)
    out["x_scan"] = decimal(rng.uniform(-255.0, 255.0, n), 1)
    unmatched = rng.random(n) < 0.2
    out["dist_opt"] = decimal(rng.exponential(0.2, n), 1, missing=unmatched)
    out["b_m_opt"] = decimal(seen["j"] + 2.2, 1, missing=unmatched)
    out["vr_m_opt"] = decimal(seen["j"] + 1.2, 1, missing=unmatched)
    return out
