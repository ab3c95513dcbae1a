"""The label surveys: LAMOST LRS stellar, APOGEE DR17 allStar and RAVE DR5, each in its own dress."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.simulate import observe, stars
from stellarscale.simulate.files import record_array
from stellarscale.simulate.gaia import parallax_error_mas
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.systematics import measured
from stellarscale.simulate.text import arrow_text, decimal, numbered, words

LAMOST_REPEATS = 0.04
LAMOST_LOST = 0.02

_LINES = words(
    """
    kp12 kp18 kp6 hdelta12 hdelta24 hdelta48 hdelta64 hgamma12 hgamma24 hgamma48 hgamma54 hbeta12 hbeta24
    hbeta48 hbeta60 halpha12 halpha24 halpha48 halpha70 paschen13 paschen142 paschen242 halpha_d02
    hbeta_d02 hgamma_d02 hdelta_d02
    """
)
_PARAMETERS = words("teff teff_err logg logg_err feh feh_err rv rv_err alpha_m alpha_m_err vsini_lasp")
LAMOST_DTYPE = np.dtype(
    [
        ("obsid", "i8"),
        ("uid", "S15"),
        ("gp_id", "S15"),
        ("designation", "S22"),
        ("obsdate", "S10"),
        ("lmjd", "i4"),
    ]
    + [
        ("mjd", "i4"),
        ("planid", "S12"),
        ("spid", "i4"),
        ("fiberid", "i4"),
        ("ra_obs", "f8"),
        ("dec_obs", "f8"),
    ]
    + [(f"snr{band}", "f4") for band in "ugriz"]
    + [("class", "S6"), ("subclass", "S6"), ("z", "f8"), ("z_err", "f4"), ("ps_id", "i8")]
    + [(f"mag_ps_{band}", "f4") for band in "grizy"]
    + [("gaia_source_id", "S19"), ("gaia_g_mean_mag", "f4"), ("fibertype", "S5"), ("offsets", "i4")]
    + [("offsets_v", "f4"), ("ra", "f8"), ("dec", "f8"), ("fibermask", "i4"), ("with_norm_flux", "i4")]
    + [(name, "f4") for name in (*_PARAMETERS, *_LINES)]
)
LAMOST_UNITS = {"ra": "deg", "dec": "deg", "teff": "K", "teff_err": "K", "rv": "km/s", "rv_err": "km/s"}


def field_stars(sky: Columns) -> NDArray[np.bool_]:
    """Dwarfs and giants of the field: cluster members give no training labels, for their [Fe/H] is a test."""
    return (sky["kind"] <= stars.DWARF) & (sky["cluster"] < 0)


def input_positions(star: Columns) -> tuple[NDArray, NDArray]:
    """Positions of epoch J2000 from the input catalogues: spectrographs point, they do not measure."""
    return observe.displace(star["ra"], star["dec"], pmra=star["pmra"], pmdec=star["pmdec"], years=-16.0)


def observe_lamost(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[NDArray, NDArray]:
    """Rows of the LRS stellar catalogue: A, F, G and K stars, bright ones first, some observed twice.

    The number is ``plan.lamost_targets``; the chance of a star falls off with a Gaussian about G = 13.5
    (1.6 mag wide) and towards the Galactic plane (as sin|b|), is six times higher for a giant, and a
    declination above -10 deg is needed: at 21 million stars about 580,000 dwarfs and 67,000 giants pass the
    training cuts of paper I. The noise grows with falling signal to noise. Repeats share ``uid`` and
    ``gaia_source_id`` and differ in ``obsid``; two per cent of the rows have no parameters (-9999), one per
    cent no Gaia id.

    Returns
    -------
    records : ndarray
        Structured rows of ``LAMOST_DTYPE``.
    rows : ndarray of int
        The true star of each row.
    """
    rng = plan.rng(chunk, "lamost")
    fit = field_stars(sky) & (sky["teff_k"] > 3800.0) & (sky["teff_k"] < 8500.0) & (sky["dec"] > -10.0)
    weight = np.exp(-0.5 * ((sky["mag_g"] - 13.5) / 1.6) ** 2) * fit * np.sin(np.radians(np.abs(sky["b"])))
    weight = weight * np.where(sky["kind"] == stars.GIANT, 6.0, 1.0)
    expected = plan.lamost_targets * len(weight) / plan.rows
    rows = observe.biased_choice(weight, expected, rng)
    again = rows[rng.random(len(rows)) < LAMOST_REPEATS]
    visit = np.repeat([0, 1], [len(rows), len(again)])
    rows = np.concatenate([rows, again])
    star = observe.select(sky, rows)
    columns: dict = dict.fromkeys(LAMOST_DTYPE.names or (), -9999)
    columns |= _lamost_targets(star, visit, rng)
    columns |= _lamost_parameters(star, columns["snrg"], rng)
    return record_array(columns, LAMOST_DTYPE, len(rows)), rows


def _lamost_targets(star: Columns, visit: NDArray, rng: np.random.Generator) -> dict:
    n = len(visit)
    snr_g = np.clip(12.0 * 10.0 ** (-0.2 * (star["mag_g"] - 17.0)) * np.exp(rng.normal(0.0, 0.35, n)), 2.0, 900.0)
    lmjd = rng.integers(55900, 60100, n)
    gaia_id = star["source_id"].astype("S19")
    gaia_id[rng.random(n) < 0.01] = b""
    out: dict = {"obsid": 100_000_000 + star["star_id"] + visit * 10**10, "lmjd": lmjd, "mjd": lmjd - 1}
    out["uid"] = numbered("G", star["star_id"], 14)
    out["gp_id"] = out["uid"]
    out["designation"] = numbered("J", star["star_id"], 18)
    out["obsdate"] = np.datetime_as_string((lmjd - 40588).astype("M8[D]")).astype("S10")
    out |= {"planid": b"MOCK01", "spid": rng.integers(1, 17, n), "fiberid": rng.integers(1, 251, n)}
    ra, dec = input_positions(star)
    out |= {"ra_obs": ra, "dec_obs": dec, "ra": ra, "dec": dec}
    out |= {"snru": 0.3 * snr_g, "snrg": snr_g, "snrr": 1.4 * snr_g, "snri": 1.6 * snr_g, "snrz": 1.2 * snr_g}
    out |= {"class": b"STAR", "subclass": _subclass(star["teff_k"]), "fibertype": b"Obj"}
    out |= {"gaia_source_id": gaia_id, "gaia_g_mean_mag": star["mag_g"], "ps_id": 10**17 + star["star_id"]}
    out |= {"offsets": 0, "offsets_v": 0.0, "fibermask": 0, "with_norm_flux": 1}
    return out


def _subclass(teff_k: NDArray) -> NDArray[np.bytes_]:
    names = np.array([b"K7", b"K5", b"K3", b"K1", b"G7", b"G3", b"F9", b"F5", b"F0", b"A7", b"A5"])
    return names[np.searchsorted([4200, 4500, 4800, 5150, 5500, 5850, 6150, 6700, 7300, 7900], teff_k)]


def _lamost_parameters(star: Columns, snr: NDArray, rng: np.random.Generator) -> dict:
    n = len(snr)
    scale = np.hypot(0.8, 12.0 / snr)
    lost = rng.random(n) < LAMOST_LOST
    out = {}
    for name, parameter in (("teff", "teff_k"), ("logg", "logg"), ("feh", "fe_h")):
        value, sigma = measured(star, "lamost_lrs_stellar", parameter, rng, worse=scale)
        out[name] = np.where(lost, -9999.0, np.round(value, 3))
        out[f"{name}_err"] = np.where(lost, -9999.0, np.round(sigma * rng.uniform(0.8, 1.2, n), 3))
    velocity = star["rv_kms"] + 5.0 * rng.standard_normal(n)
    out |= {"rv": np.where(lost, -9999.0, velocity), "rv_err": np.where(lost, -9999.0, 5.0 * scale)}
    out |= {"z": velocity / 299792.458, "z_err": 5.0 * scale / 299792.458}
    alpha = np.clip(-0.2 * star["fe_h"], -0.1, 0.4) + 0.05 * rng.standard_normal(n)
    return out | {"alpha_m": np.where(lost, -9999.0, alpha), "alpha_m_err": np.where(lost, -9999.0, 0.05)}


APOGEE_DTYPE = np.dtype(
    [("FILE", "S36"), ("APOGEE_ID", "S18"), ("TARGET_ID", "S46"), ("TELESCOPE", "S8"), ("FIELD", "S19")]
    + [("RA", "f8"), ("DEC", "f8"), ("GLON", "f8"), ("GLAT", "f8")]
    + [(name, "f4") for name in ("J", "J_ERR", "H", "H_ERR", "K", "K_ERR", "SFD_EBV")]
    + [("NVISITS", "i4"), ("SNR", "f4"), ("SNREV", "f4"), ("STARFLAG", "i8"), ("ANDFLAG", "i8")]
    + [("VHELIO_AVG", "f4"), ("VSCATTER", "f4"), ("VERR", "f4"), ("GAIAEDR3_SOURCE_ID", "i8")]
    + [("GAIAEDR3_PARALLAX", "f4"), ("GAIAEDR3_PARALLAX_ERROR", "f4"), ("GAIAEDR3_PHOT_G_MEAN_MAG", "f4")]
    + [("FPARAM", "f4", (9,)), ("PARAM", "f4", (9,)), ("PARAMFLAG", "i8", (9,)), ("ASPCAPFLAG", "i8")]
    + [
        ("EXTRATARG", "i4"),
        ("TEFF", "f4"),
        ("TEFF_ERR", "f4"),
        ("LOGG", "f4"),
        ("LOGG_ERR", "f4"),
        ("M_H", "f4"),
    ]
    + [("M_H_ERR", "f4"), ("ALPHA_M", "f4"), ("ALPHA_M_ERR", "f4"), ("VMICRO", "f4"), ("VSINI", "f4")]
    + [("FE_H", "f4"), ("FE_H_SPEC", "f4"), ("FE_H_ERR", "f4"), ("FE_H_FLAG", "i4")]
)


def observe_apogee(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[NDArray, NDArray]:
    """Rows of allStar: one per cent of the stars, bright in H, giants ten times likelier than dwarfs.

    Failed fits have NaN parameters and ASPCAPFLAG bit 23; missing calibrated values are -9999 in older
    columns (``GAIAEDR3_PARALLAX``); EXTRATARG bit 4 marks repeats.

    Returns
    -------
    records : ndarray
        Structured rows of ``APOGEE_DTYPE``, with two-dimensional columns among them.
    rows : ndarray of int
        The true star of each row.
    """
    rng = plan.rng(chunk, "apogee")
    weight = np.where(sky["kind"] == stars.GIANT, 10.0, 1.0) * (sky["kind"] <= stars.DWARF)
    weight = weight * np.exp(-0.5 * ((sky["mag_h"] - 11.5) / 1.2) ** 2) * (sky["teff_k"] < 7500.0)
    rows = observe.biased_choice(weight, 0.01 * len(weight), rng)
    again = rows[rng.random(len(rows)) < 0.02]
    repeat = np.repeat([0, 1 << 4], [len(rows), len(again)])
    rows = np.concatenate([rows, again])
    star, n = observe.select(sky, rows), len(rows)
    snr = np.clip(150.0 * 10.0 ** (-0.2 * (star["mag_h"] - 11.5)) * np.exp(rng.normal(0.0, 0.3, n)), 5.0, 1500.0)
    columns: dict = dict.fromkeys(APOGEE_DTYPE.names or (), 0)
    columns |= _apogee_targets(star, rng) | {"SNR": snr, "SNREV": snr, "EXTRATARG": repeat}
    columns |= _apogee_parameters(star, snr, rng)
    return record_array(columns, APOGEE_DTYPE, n), rows


def _apogee_targets(star: Columns, rng: np.random.Generator) -> dict:
    n = len(star["ra"])
    flag = np.select([rng.random(n) < 0.02, rng.random(n) < 0.02, rng.random(n) < 0.01], [1 << 9, 1 << 16, 1 << 3], 0)
    out: dict = {"APOGEE_ID": numbered("2M", star["star_id"], 16), "TELESCOPE": b"apo25m", "FIELD": b"MOCK"}
    out |= {"FILE": b"mock.fits", "TARGET_ID": numbered("apo25m.MOCK..2M", star["star_id"], 16)}
    ra, dec = input_positions(star)
    out |= {
        "RA": ra,
        "DEC": dec,
        "GLON": star["l"],
        "GLAT": star["b"],
        "SFD_EBV": star["ebv"],
    }
    out |= {band.upper(): star[f"mag_{band}"] for band in "jhk"} | {
        "J_ERR": 0.02,
        "H_ERR": 0.02,
        "K_ERR": 0.02,
    }
    error = parallax_error_mas(star["mag_g"])
    out |= {"GAIAEDR3_SOURCE_ID": star["source_id"], "GAIAEDR3_PHOT_G_MEAN_MAG": star["mag_g"]}
    out |= {"GAIAEDR3_PARALLAX": np.where(rng.random(n) < 0.02, -9999.0, star["parallax_mas"])}
    return out | {
        "GAIAEDR3_PARALLAX_ERROR": error,
        "STARFLAG": flag,
        "NVISITS": rng.integers(1, 6, n),
        "VERR": 0.05,
    }


def _apogee_parameters(star: Columns, snr: NDArray, rng: np.random.Generator) -> dict:
    n = len(snr)
    failed = rng.random(n) < 0.03
    scale = np.hypot(0.8, 40.0 / snr)
    out: dict = {"VHELIO_AVG": star["rv_kms"] + 0.1 * rng.standard_normal(n)}
    for name, parameter in (("TEFF", "teff_k"), ("LOGG", "logg"), ("FE_H", "fe_h")):
        value, sigma = measured(star, "apogee_dr17", parameter, rng, worse=scale)
        out[name] = np.where(failed, np.nan, value)
        out[f"{name}_ERR"] = np.where(failed, np.nan, 0.7 * sigma)
    out |= {"M_H": out["FE_H"], "M_H_ERR": out["FE_H_ERR"], "FE_H_SPEC": out["FE_H"], "FE_H_FLAG": 0}
    alpha = np.where(failed, np.nan, np.clip(-0.2 * star["fe_h"], -0.1, 0.35))
    out |= {"ALPHA_M": alpha, "ALPHA_M_ERR": np.where(failed, np.nan, 0.02), "VMICRO": 1.2, "VSINI": np.nan}
    vector = np.full((n, 9), np.nan, dtype=np.float32)
    for place, name in ((0, "TEFF"), (1, "LOGG"), (3, "M_H"), (6, "ALPHA_M")):
        vector[:, place] = out[name]
    warning = np.select([failed, rng.random(n) < 0.05], [(1 << 23) | (1 << 16), 1 << 7], 0)
    return out | {"PARAM": vector, "FPARAM": vector, "PARAMFLAG": 0, "ASPCAPFLAG": warning}


RAVE_COLUMNS = words(
    """
    RAVE_OBS_ID RAVEID RAdeg DEdeg HRV eHRV Teff_K Teff_N_K eTeff_K logg_K logg_N_K elogg_K Met_K Met_N_K
    eMet_K SNR_K Algo_Conv_K
    """
)


def observe_rave(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[dict[str, pa.Array | pa.Scalar], NDArray]:
    """Rows of RAVE DR5: one per cent of the stars, bright and southern; missing values are empty cells.

    Returns
    -------
    columns : dict of Arrow arrays
        Native columns in file order.
    rows : ndarray of int
        The true star of each row.
    """
    rng = plan.rng(chunk, "rave")
    fit = field_stars(sky) & (sky["dec"] < 5.0) & (sky["teff_k"] < 8000.0)
    weight = fit * np.exp(-0.5 * ((sky["mag_g"] - 11.5) / 1.0) ** 2)
    rows = observe.biased_choice(weight, 0.01 * len(weight), rng)
    star, n = observe.select(sky, rows), len(rows)
    snr = np.clip(50.0 * 10.0 ** (-0.2 * (star["mag_g"] - 11.5)) * np.exp(rng.normal(0.0, 0.3, n)), 5.0, 250.0)
    quality = np.select([rng.random(n) < 0.86, rng.random(n) < 0.5], [0, 2], 1)
    lost = rng.random(n) < 0.02
    columns: dict[str, pa.Array | pa.Scalar] = {"RAVE_OBS_ID": arrow_text(numbered("MOCK_", star["star_id"], 12))}
    columns |= {"RAVEID": arrow_text(numbered("J", star["star_id"], 15))}
    ra, dec = input_positions(star)
    columns |= {"RAdeg": decimal(ra, 6), "DEdeg": decimal(dec, 6)}
    columns |= {"HRV": decimal(star["rv_kms"] + 1.5 * rng.standard_normal(n), 3), "eHRV": pa.scalar("1.5")}
    scale = np.hypot(0.8, 25.0 / snr)
    for name, parameter in (("Teff", "teff_k"), ("logg", "logg"), ("Met", "fe_h")):
        value, sigma = measured(star, "rave_dr5", parameter, rng, worse=scale)
        columns[f"{name}_K"] = decimal(value, 3, missing=lost)
        columns[f"{name}_N_K"] = decimal(value, 3, missing=lost)
        columns[f"e{name}_K"] = decimal(sigma, 3, missing=lost)
    columns |= {"SNR_K": decimal(snr, 3), "Algo_Conv_K": pa.array(quality.astype(np.int64))}
    return {name: columns[name] for name in RAVE_COLUMNS}, rows
