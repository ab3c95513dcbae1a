"""SAGES DR1: u and v in one FITS table, -999 where a band is missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate import observe
from stellarscale.simulate.files import record_array
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.text import numbered

DTYPE = np.dtype(
    [
        ("SAGE_ID", "S17"), ("RA", "f8"), ("DEC", "f8"), ("MAG_U", "f4"), ("MAG_V", "f4"), ("ERR_U", "f4"),
        ("ERR_V", "f4"), ("OBS_TIME_U", "f8"), ("OBS_TIME_V", "f8"), ("FLAG_U", "i4"), ("FLAG_V", "i4"),
    ]
)  # fmt: skip
UNITS = {"RA": "deg", "DEC": "deg", "MAG_U": "mag", "ERR_U": "mag", "MAG_V": "mag", "ERR_V": "mag"}
UNITS |= {"OBS_TIME_U": "d", "OBS_TIME_V": "d"}
MISSING = -999.0
SEEN_SHARE = 0.955
RESOLUTION_ARCSEC = 2.0
ASTROMETRY_ARCSEC = 0.07
FIRST_MJD, LAST_MJD = 57250.0, 58950.0


def sage_id(star_id: NDArray) -> NDArray[np.bytes_]:
    """Identifier of each star in the mock SAGES."""
    return numbered("SAGE_", star_id, 12)


def observe_sages(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[NDArray, NDArray, dict[str, int]]:
    """Rows of ``dr1-uv.fits`` for one chunk.

    Returns
    -------
    records : ndarray
        Structured rows of ``DTYPE``: stars, then a few exact duplicates, then a few damaged positions under
        ids of their own. Positions are at the mean of OBS_TIME_U and OBS_TIME_V (modified Julian dates).
    rows : ndarray of int
        The true star of each of the first rows.
    extra : dict of int
        How many rows are duplicates or damaged, by kind.
    """
    rng = plan.rng(chunk, "sages")
    n = len(sky["star_id"])
    first = rng.uniform(FIRST_MJD, LAST_MJD, n)
    mjd = np.round([first, first + rng.exponential(12.0, n) % 60.0], 5)
    seen, alone = observe.seen_at(
        sky, year=observe.year_of_mjd(mjd.mean(axis=0)), bands=("v", "u"), resolution_arcsec=RESOLUTION_ARCSEC
    )
    rows = np.flatnonzero(alone & (rng.random(n) < SEEN_SHARE) & (seen["v"] < 22.0))
    seen = observe.select(seen, rows)
    columns: Columns = {"SAGE_ID": sage_id(sky["star_id"][rows]), "OBS_TIME_U": mjd[0, rows]}
    columns["OBS_TIME_V"] = mjd[1, rows]
    columns["RA"], columns["DEC"] = observe.jitter(seen["ra"], seen["dec"], sigma_arcsec=ASTROMETRY_ARCSEC, rng=rng)
    for band, at in (("U", 20.0), ("V", 20.2)):
        columns |= _band(seen[band.lower()], band, at, rng)
    records = record_array(columns, DTYPE, len(rows))
    repeats, damaged = _repeats(records, plan, chunk, rng), _damaged(records, plan, chunk)
    half = len(damaged) // 2
    extra = {
        "duplicate_id": len(repeats),
        "position_not_finite": half,
        "declination_out_of_range": len(damaged) - half,
    }
    return np.concatenate([records, repeats, damaged]), rows, extra


def _band(magnitude: NDArray, band: str, at: float, rng: np.random.Generator) -> Columns:
    n = len(magnitude)
    error = observe.magnitude_error(magnitude, floor=0.008, at=at, error=0.10)
    value = observe.noisy(magnitude, error, rng)
    missing = (error > 0.6) | (rng.random(n) < 0.02)
    flag = np.select([rng.random(n) < 0.025, rng.random(n) < 0.01], [2, 4], 0) | (value < 10.0)
    return {
        f"MAG_{band}": np.where(missing, MISSING, np.round(value, 4)),
        f"ERR_{band}": np.where(missing, MISSING, np.round(error, 4)),
        f"FLAG_{band}": flag.astype(np.int32),
    }


def _repeats(records: NDArray, plan: SkyPlan, chunk: int, rng: np.random.Generator) -> NDArray:
    return records[rng.integers(0, max(len(records), 1), min(plan.share(2 * plan.bad_rows, chunk), len(records)))]


def _damaged(records: NDArray, plan: SkyPlan, chunk: int) -> NDArray:
    """Copies of the first rows with positions no importer may accept, NaN first, then beyond the pole."""
    n = min(plan.share(plan.bad_rows, chunk), len(records) // 2)
    bad = records[: 2 * n].copy()
    bad["SAGE_ID"] = numbered("SAGE_9", plan.bounds(chunk)[0] + np.arange(2 * n), 11)
    bad["RA"][:n], bad["DEC"][:n] = np.nan, np.nan
    bad["DEC"][n:] = 90.0 + 1.0 + np.arange(n) % 100
    return bad
