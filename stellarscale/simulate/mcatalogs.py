"""The catalogues that go with the mock M-star spectra, in their own columns: labels, distances, variable stars."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.simulate import stars
from stellarscale.simulate.files import record_array
from stellarscale.simulate.gaia import parallax_error_mas
from stellarscale.simulate.mlabels import LABELS, labelled
from stellarscale.simulate.mplan import MStarPlan
from stellarscale.simulate.mstars import sequence_logg
from stellarscale.simulate.observe import select
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.spectra import APOGEE_DTYPE, LAMOST_DTYPE, input_positions
from stellarscale.simulate.text import arrow_text, chosen_text, decimal, numbered, words

_INDICES = words("tio5 cah2 cah3 tio1 tio2 tio3 tio4 cah1 caoh")
_NAMES = LAMOST_DTYPE.names or ()
_COMMON = [(name, LAMOST_DTYPE[name]) for name in _NAMES[: _NAMES.index("teff")]]
MSTELLAR_DTYPE = np.dtype(
    _COMMON
    + [(name, "f4") for name in words("teff teff_err logg logg_err m_h m_h_err ewha ewha_err")]
    + [(name, "f4") for name in (*_INDICES, *(f"{name}_err" for name in _INDICES), "zeta", "zeta_err")]
)
MSTELLAR_UNITS = {"ra": "deg", "dec": "deg", "teff": "K", "teff_err": "K"}
_PERCENTILES = [(f"{name}{at}", "f4") for name in ("dist", "av", "teff", "logg", "met") for at in (16, 50, 84)]
STARHORSE_DTYPE = np.dtype(
    [("source_id", "i8"), ("ra", "f8"), ("dec", "f8"), *_PERCENTILES, ("fidelity", "f4"), ("sh_outflag", "S4")]
)
_SPECTROSCOPIC = [(f"{name}{suffix}", "f4") for name in ("teff", "logg") for suffix in ("", "_err")]
_WHO = [("obsid", "i8"), ("source_id", "i8"), ("ra", "f8"), ("dec", "f8"), ("snri", "f4")]
DING_DTYPE = np.dtype([*_WHO, *_SPECTROSCOPIC, ("feh", "f4"), ("feh_err", "f4")])
QIU_DTYPE = np.dtype([*_WHO, *_SPECTROSCOPIC, ("m_h", "f4"), ("m_h_err", "f4"), ("alpha_m", "f4")])
MISSING = -9999.0


def mstellar_rows(sky: Columns, visits: Columns, snr: Columns, plan: MStarPlan) -> tuple[NDArray, NDArray]:
    """Rows of the M-star catalogue, one per spectrum, with the labels of the old pipeline.

    Parameters
    ----------
    sky, visits, snr : dict of ndarray
        Stars, spectra, and the signal to noise of the spectra by band.
    plan : MStarPlan
        For the random stream.

    Returns
    -------
    records : ndarray
        Structured rows of ``MSTELLAR_DTYPE``; two per cent have no parameters (-9999), one per cent no Gaia id.
    wrong : ndarray of bool
        Rows with gross errors.
    """
    rng, n = plan.rng("mstellar"), plan.rows
    star = select(sky, visits["star"])
    labels, wrong = labelled(star, "lamost_lrs_mstellar", rng, worse=np.hypot(0.8, 15.0 / visits["snr_i"]))
    lost = rng.random(n) < 0.02
    columns: dict = dict.fromkeys(MSTELLAR_DTYPE.names or (), MISSING)
    columns |= {name: visits[name] for name in ("obsid", "lmjd", "spid", "fiberid", "z", "z_err")}
    columns |= {name: np.char.encode(visits[name]) for name in ("planid", "class", "subclass", "designation")}
    columns |= {name: np.where(lost, MISSING, values) for name, values in labels.items()}
    columns |= {f"snr{band}": values for band, values in snr.items()}
    gaia_id = star["source_id"].astype("S19")
    gaia_id[rng.random(n) < 0.01] = b""
    columns |= {"uid": numbered("G", star["star_id"], 14), "gp_id": numbered("G", star["star_id"], 14)}
    columns["mjd"] = visits["lmjd"] + 1
    columns["obsdate"] = np.datetime_as_string((visits["lmjd"] - 40587).astype("M8[D]")).astype("S10")
    ra, dec = input_positions(star)
    columns |= {"ra": ra, "dec": dec, "ra_obs": ra, "dec_obs": dec, "gaia_source_id": gaia_id, "fibertype": b"Obj"}
    columns |= {"gaia_g_mean_mag": star["mag_g"], "ps_id": 10**17 + star["star_id"]}
    columns |= {"offsets": 0, "offsets_v": 0.0, "fibermask": (rng.random(n) < 0.01) * 4, "with_norm_flux": 1}
    return record_array(columns, MSTELLAR_DTYPE, n), wrong


def distance_rows(sky: Columns, plan: MStarPlan) -> dict[str, pa.Array | pa.Scalar]:
    """Columns of the Bailer-Jones table with positions, nearly all stars; some have no photogeometric distance."""
    rng = plan.rng("distances")
    star = select(sky, np.flatnonzero(rng.random(len(sky["star_id"])) < 0.97))
    n = len(star["star_id"])
    relative = np.clip(parallax_error_mas(star["mag_g"]) / star["parallax_mas"], 0.001, 0.4)
    out: dict[str, pa.Array | pa.Scalar] = {"source_id": pa.array(star["source_id"])}
    out |= {"ra": decimal(star["ra"], 9), "dec": decimal(star["dec"], 9)}
    for name, better in (("geo", 1.0), ("photogeo", 0.8)):
        lost = rng.random(n) < 0.03 if name == "photogeo" else None
        median = star["distance_pc"] * np.exp(better * relative * rng.standard_normal(n))
        out[f"r_med_{name}"] = decimal(median, 5, missing=lost)
        out[f"r_lo_{name}"] = decimal(median * np.exp(-better * relative), 5, missing=lost)
        out[f"r_hi_{name}"] = decimal(median * np.exp(better * relative), 5, missing=lost)
    return out | {"flag": pa.scalar("10033")}


def starhorse_rows(sky: Columns, plan: MStarPlan) -> tuple[NDArray, NDArray, NDArray]:
    """Rows of StarHorse, the standard of the labels: 88 % of the stars.

    Returns
    -------
    records, rows, wrong : ndarray
        Rows of ``STARHORSE_DTYPE``, the true star of each, and which are grossly wrong.
    """
    rng = plan.rng("starhorse")
    rows = np.flatnonzero(rng.random(len(sky["star_id"])) < 0.88)
    star, n = select(sky, rows), len(rows)
    labels, wrong = labelled(star, "starhorse_edr3", rng)
    distance = star["distance_pc"] / 1000.0 * np.exp(0.02 * rng.standard_normal(n))
    extinction = np.maximum(3.1 * star["ebv"] + rng.normal(0.0, 0.05, n), 0.0)
    values = {"dist": (distance, 0.03 * distance), "av": (extinction, np.full(n, 0.08))}
    values |= {
        name: (labels[label], np.maximum(labels[f"{label}_err"], 1e-3))
        for name, label in zip(("teff", "logg", "met"), LABELS, strict=True)
    }
    columns: dict = {name: star[name] for name in ("source_id", "ra", "dec")}
    for name, (median, sigma) in values.items():
        columns |= {f"{name}16": median - sigma, f"{name}50": median, f"{name}84": median + sigma}
    columns["fidelity"] = 1.0
    columns["sh_outflag"] = np.where(rng.random(n) < 0.03, b"0100", b"0000")
    return record_array(columns, STARHORSE_DTYPE, n), rows, wrong


def apogee_rows(sky: Columns, plan: MStarPlan) -> tuple[NDArray, NDArray, NDArray]:
    """Rows of allStar: a tenth of the dwarfs and half of the giants; returns as :func:`starhorse_rows`.

    Failed fits have NaN and ASPCAPFLAG bit 23. A third of the errors are as small as paper II's supplement needs.
    """
    rng = plan.rng("apogee")
    chance = np.where(sky["kind"] == stars.GIANT, 0.5, 0.1)
    rows = np.flatnonzero(rng.random(len(chance)) < chance)
    star, n = select(sky, rows), len(rows)
    labels, wrong = labelled(star, "apogee_dr17", rng)
    failed = rng.random(n) < 0.03
    columns: dict = dict.fromkeys(APOGEE_DTYPE.names or (), 0)
    for name, typical in zip(LABELS, (12.0, 0.03, 0.014), strict=True):
        columns[name.upper()] = np.where(failed, np.nan, labels[name])
        columns[f"{name.upper()}_ERR"] = np.where(failed, np.nan, typical * np.exp(rng.normal(0.0, 0.35, n)))
    columns |= {"FE_H": columns["M_H"], "FE_H_SPEC": columns["M_H"], "FE_H_ERR": columns["M_H_ERR"]}
    vector = np.full((n, 9), np.nan, dtype=np.float32)
    for place, name in ((0, "TEFF"), (1, "LOGG"), (3, "M_H")):
        vector[:, place] = columns[name]
    ra, dec = input_positions(star)
    columns |= {"PARAM": vector, "FPARAM": vector, "ALPHA_M": star["alpha"], "ALPHA_M_ERR": 0.02, "VSINI": np.nan}
    columns |= {"APOGEE_ID": numbered("2M", star["star_id"], 16), "TELESCOPE": b"apo25m", "FIELD": b"MOCK"}
    columns |= {"FILE": b"mock.fits", "TARGET_ID": numbered("apo25m.MOCK..2M", star["star_id"], 16)}
    columns |= {"RA": ra, "DEC": dec, "GLON": star["l"], "GLAT": star["b"], "SFD_EBV": star["ebv"], "NVISITS": 3}
    columns |= {f"{band.upper()}": star[f"mag_{band}"] for band in "jhk"} | dict.fromkeys(
        ("J_ERR", "H_ERR", "K_ERR"), 0.02
    )
    columns |= {"SNR": rng.uniform(60.0, 400.0, n), "VHELIO_AVG": star["rv_kms"] + 0.1 * rng.standard_normal(n)}
    columns |= {"VERR": 0.05, "GAIAEDR3_SOURCE_ID": star["source_id"], "GAIAEDR3_PARALLAX": star["parallax_mas"]}
    columns |= {"GAIAEDR3_PHOT_G_MEAN_MAG": star["mag_g"], "ASPCAPFLAG": failed * ((1 << 23) | (1 << 16))}
    return record_array(columns, APOGEE_DTYPE, n), rows, wrong


def ding_rows(sky: Columns, visits: Columns, plan: MStarPlan) -> tuple[NDArray, NDArray, NDArray]:
    """Rows like those of Ding et al. 2022: two thirds of the dwarfs, [Fe/H] for [M/H]; -9999 where none."""
    return _spectroscopic(sky, visits, plan, "ding2022")


def qiu_rows(sky: Columns, visits: Columns, plan: MStarPlan) -> tuple[NDArray, NDArray, NDArray]:
    """Rows like those of Qiu et al. 2023: four fifths of the giants; NaN where none."""
    return _spectroscopic(sky, visits, plan, "qiu2023")


def _spectroscopic(sky: Columns, visits: Columns, plan: MStarPlan, survey: str) -> tuple[NDArray, NDArray, NDArray]:
    ding = survey == "ding2022"
    kind, share, dtype = (stars.DWARF, 0.66, DING_DTYPE) if ding else (stars.GIANT, 0.8, QIU_DTYPE)
    rng = plan.rng("ding" if ding else "qiu")
    rows = np.flatnonzero((sky["kind"] == kind) & (rng.random(len(sky["kind"])) < share))
    star, n = select(sky, rows), len(rows)
    visit = np.searchsorted(visits["star"], rows)
    snr = visits["snr_i"][visit]
    labels, wrong = labelled(star, survey, rng, worse=np.hypot(0.85, 12.0 / snr))
    lost = rng.random(n) < 0.02
    columns: dict = {name: np.where(lost, MISSING if ding else np.nan, v) for name, v in labels.items()}
    if ding:
        columns |= {"feh": columns.pop("m_h"), "feh_err": columns.pop("m_h_err")}
    else:
        columns["alpha_m"] = star["alpha"] + 0.03 * rng.standard_normal(n)
    ra, dec = input_positions(star)
    columns |= {"obsid": visits["obsid"][visit], "source_id": star["source_id"], "ra": ra, "dec": dec, "snri": snr}
    return record_array(columns, dtype, n), rows, wrong


def variable_rows(sky: Columns, plan: MStarPlan) -> dict[str, pa.Array | pa.Scalar]:
    """The list of variable stars: the mock's own and a few that are not in it; a third have no Gaia id."""
    rng = plan.rng("variables")
    star = select(sky, np.flatnonzero(sky["variable"]))
    others = max(3, len(star["star_id"]) // 3)
    n = len(star["star_id"]) + others
    source_id = np.concatenate([star["source_id"], np.zeros(others, np.int64)])
    ra = np.concatenate([star["ra"], rng.uniform(0.0, 360.0, others)])
    dec = np.concatenate([star["dec"], rng.uniform(-30.0, 80.0, others)])
    unknown = (source_id == 0) | (rng.random(n) < 1.0 / 3.0)
    return {
        "name": arrow_text(numbered("V_", np.arange(n), 6)),
        "source_id": pa.array(source_id, mask=unknown),
        "ra": decimal(ra, 7),
        "dec": decimal(dec, 7),
        "type": chosen_text(["ROT", "EB", "LPV", "FLARE"], rng.integers(0, 4, n)),
    }


def isochrone_rows() -> dict[str, NDArray[np.float64]]:
    """Points of the mock's own sequences, ready to be drawn over a Kiel diagram: [M/H] -0.6, -0.2 and 0.2."""
    teff, m_h = (axis.ravel() for axis in np.meshgrid(np.linspace(4200.0, 3050.0, 60), [-0.6, -0.2, 0.2]))
    return {
        "teff": np.tile(teff, 2),
        "logg": np.concatenate([sequence_logg(teff, m_h, kind) for kind in (stars.DWARF, stars.GIANT)]),
        "m_h": np.tile(m_h, 2),
    }
