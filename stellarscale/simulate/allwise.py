"""AllWISE as IRSA's Parquet release: null errors for upper limits, motions that are not proper motions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.kernels.healpix import pixel_of
from stellarscale.simulate import galaxy, observe
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.text import arrow_text, chosen_text, coordinate_name, digits, joined, literal

MEAN_MJD = 55400.0
RESOLUTION_ARCSEC = 6.1
SEEN_SHARE = 0.90
DEPTH = {"w1": 16.2, "w2": 14.6}
LIMIT_ERROR = 0.54


def observe_allwise(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[pa.Table, NDArray]:
    """Rows of one Parquet file: the columns a photometric study reads, sorted by HEALPix order 5.

    W3 and W4 are upper limits for nearly every star (null ``sigmpro``, letter ``U``).

    Returns
    -------
    table : pyarrow.Table
        Native columns.
    rows : ndarray of int
        The true star of each row.
    """
    rng = plan.rng(chunk, "allwise")
    mjd = MEAN_MJD + 40.0 * rng.standard_normal(len(sky["star_id"]))
    seen, alone = observe.seen_at(
        sky, year=observe.year_of_mjd(mjd), bands=("w1", "w2"), resolution_arcsec=RESOLUTION_ARCSEC
    )
    error = {band: observe.magnitude_error(seen[band], floor=0.022, at=at) for band, at in DEPTH.items()}
    rows = np.flatnonzero(alone & (error["w1"] < 0.217) & (rng.random(len(alone)) < SEEN_SHARE))
    pixel = pixel_of(seen["ra"][rows], seen["dec"][rows], 5)
    order = np.argsort(pixel, kind="stable")
    rows, pixel = rows[order], pixel[order]
    star, seen, error = observe.select(sky, rows), observe.select(seen, rows), observe.select(error, rows)
    columns = _positions(star, seen, error["w1"], rng)
    columns |= _magnitudes(seen, error, rng)
    columns |= _motions(star, error["w1"], rng)
    columns |= {"w1mjdmean": pa.array(mjd[rows]), "w2mjdmean": pa.array(mjd[rows])}
    columns["healpix_k5"] = pa.array(pixel.astype(np.int16))
    return pa.table(columns), rows


def _positions(star: Columns, seen: Columns, error: NDArray, rng: np.random.Generator) -> dict[str, pa.Array]:
    n = len(error)
    sigma = 0.04 + 0.3 * error
    ra, dec = observe.jitter(seen["ra"], seen["dec"], sigma_arcsec=sigma, rng=rng)
    l_deg, b_deg = galaxy.equatorial_to_galactic(ra, dec)
    tile = (ra * 10).astype(np.int64)
    source = [digits(tile, 4), literal("p000_ac51-", n), digits(star["star_id"], 11)]
    out = {"designation": arrow_text(coordinate_name(ra, dec, prefix="J", decimals=(2, 1)))}
    out |= {"ra": _number(ra, 7, "f8"), "dec": _number(dec, 7, "f8"), "sigra": _number(sigma, 4)}
    out |= {"sigdec": _number(sigma, 4), "sigradec": _number(rng.normal(0.0, 0.01, n), 4)}
    out |= {"glon": _number(l_deg, 7, "f8"), "glat": _number(b_deg, 7, "f8")}
    out["cntr"] = pa.array(1_000_000_051_000_000_000 + tile * 10**14 + star["star_id"])
    out["source_id"] = arrow_text(joined(source))
    out["coadd_id"] = arrow_text(joined([source[0], literal("p000_ac51", n)]))
    return out


def _magnitudes(seen: Columns, error: Columns, rng: np.random.Generator) -> dict[str, pa.Array]:
    n = len(seen["w1"])
    out: dict[str, pa.Array] = {}
    letters = []
    for band in ("w1", "w2", "w3", "w4"):
        if band in error:
            value, sigma = observe.noisy(seen[band], error[band], rng), error[band]
        else:
            value, sigma = (
                np.full(n, 12.2 if band == "w3" else 8.8) + rng.normal(0.0, 0.25, n),
                np.full(n, 9.0),
            )
            bright = seen["w2"] < value - 2.0
            value = np.where(bright, seen["w2"] + rng.normal(0.0, 0.1, n), value)
            sigma = np.where(bright, 0.1, sigma)
        limit = sigma > LIMIT_ERROR
        out[f"{band}mpro"] = _number(value, 3)
        out[f"{band}sigmpro"] = _number(sigma, 3, missing=limit)
        out[f"{band}snr"] = _number(np.where(limit, rng.uniform(-0.5, 1.9, n), 1.0857 / sigma), 1)
        out[f"{band}rchi2"] = _number(1.0 + 0.1 * rng.standard_normal(n), 3)
        letters.append(chosen_text(list("ABCU"), np.searchsorted([0.1086, 0.362, LIMIT_ERROR], sigma)))
    out["nb"], out["na"] = pa.array(np.ones(n, dtype=np.int64)), pa.array(np.zeros(n, dtype=np.int64))
    clean = rng.random((2, n))
    artefact = np.select([clean[0] < 0.93, clean[0] < 0.96, clean[0] < 0.98], [0, 1, 2], 3)
    out["cc_flags"] = chosen_text(["0000", "dd00", "hh00", "00P0"], artefact)
    out["ext_flg"] = pa.array(np.select([clean[1] < 0.97, clean[1] < 0.985], [0, 1], 3).astype(np.int64))
    out["var_flg"] = chosen_text(["0nnn", "11nn"], rng.random(n) < 0.3)
    out["ph_qual"] = pc.binary_join_element_wise(*letters, "")
    return out


def _motions(star: Columns, error: NDArray, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Apparent motions over half a year: parallax and noise drown the proper motion, as in the survey."""
    n = len(error)
    sigma = 30.0 + 1500.0 * error
    wobble = 4.0 * star["parallax_mas"] * rng.uniform(-1.0, 1.0, n)
    out = {}
    for name in ("pmra", "pmdec"):
        out[name] = pa.array(np.rint(star[name] + wobble + sigma * rng.standard_normal(n)).astype(np.int64))
        out[f"sig{name}"] = pa.array(np.rint(sigma).astype(np.int64))
    lost = rng.random(n) < 0.1
    out["tmass_key"] = pa.array(star["star_id"] + 10_000_000, mask=lost)
    out["r_2mass"] = _number(rng.exponential(0.2, n), 3, missing=lost)
    return out


def _number(values: NDArray, places: int, dtype: str = "f4", missing: NDArray | None = None) -> pa.Array:
    return pa.array(np.round(values, places).astype(dtype), mask=missing)
