"""Labels of the mock's primary stars: GALAH, which trains, and APOGEE and LSP3, which the result is compared with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.simulate.files import record_array
from stellarscale.simulate.observe import displace, select
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.smss_plan import FIRST_OBJECT
from stellarscale.simulate.spectra import APOGEE_DTYPE, input_positions
from stellarscale.simulate.systematics import PARAMETERS, Scale
from stellarscale.simulate.text import arrow_text, decimal, numbered

GALAH_DTYPE = np.dtype(
    [("star_id", "S18"), ("sobject_id", "i8"), ("dr3_source_id", "i8"), ("survey_name", "S10"), ("flag_repeat", "i4")]
    + [("snr_c3_iraf", "f4"), ("ra_dr2", "f8"), ("dec_dr2", "f8"), ("flag_sp", "i4"), ("flag_fe_h", "i4")]
    + [(name, "f4") for label in ("teff", "logg", "fe_h", "alpha_fe") for name in (label, f"e_{label}")]
    + [("rv_galah", "f4"), ("e_rv_galah", "f4")]
)
GALAH_UNITS = {"ra_dr2": "deg", "dec_dr2": "deg", "teff": "K", "e_teff": "K", "rv_galah": "km/s", "e_rv_galah": "km/s"}
LSP3_COLUMNS = ("obsid", "source_id", "ra", "dec", "snr_b", "teff", "teff_err", "logg", "logg_err", "feh", "feh_err")
GALAH_SHARE, GALAH_FAINTEST_G = 0.9, 15.0
OTHER_SHARE = 0.15

# GALAH trains the networks, so its scale is the truth's.
SCALES = {
    "galah_dr3": Scale((0.0, 0.0, 0.0), (60.0, 0.06, 0.05)),
    "apogee_dr17": Scale((15.0, 0.02, 0.01), (75.0, 0.09, 0.07)),
    "lamost_lsp3": Scale((-30.0, 0.05, -0.03), (120.0, 0.20, 0.13)),
}


def described() -> dict[str, dict[str, dict[str, float]]]:
    """The scales for the manifest: by survey, the offset and the noise of each parameter."""
    return {
        survey: {kind: dict(zip(PARAMETERS, values, strict=True)) for kind, values in scale._asdict().items()}
        for survey, scale in SCALES.items()
    }


def _labels(star: Columns, survey: str, worse: NDArray, rng: np.random.Generator) -> dict[str, tuple[NDArray, NDArray]]:
    """Measured value and quoted error of each parameter."""
    offsets, noises = SCALES[survey]
    n, out = len(worse), {}
    for name, offset, noise in zip(PARAMETERS, offsets, noises, strict=True):
        sigma = noise * worse
        value = star[name] + offset + sigma * rng.standard_normal(n)
        out[name] = (value, sigma * np.exp(rng.normal(0.0, 0.15, n)))
    return out


def _signal(magnitude: NDArray, at_12: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return at_12 * 10.0 ** (-0.2 * (magnitude - 12.0)) * np.exp(rng.normal(0.0, 0.25, len(magnitude)))


def _primaries(sky: Columns, share: float, rng: np.random.Generator) -> NDArray[np.intp]:
    return np.flatnonzero((rng.random(len(sky["slot"])) < share) & (sky["slot"] == 0))


def galah_rows(sky: Columns, rng: np.random.Generator) -> NDArray:
    """Rows of GALAH DR3's main table: 90 % of the primaries with g < 15, one in fifty twice.

    One fit in fifty failed (NaN, ``flag_sp`` 1024) and as many are flagged and four times worse.
    """
    rows = _primaries(sky, GALAH_SHARE, rng)
    rows = rows[sky["true_g"][rows] < GALAH_FAINTEST_G]
    again = rows[rng.random(len(rows)) < 0.02]
    repeat = np.repeat([0, 1], [len(rows), len(again)])
    star = select(sky, np.concatenate([rows, again]))
    n = len(repeat)
    snr = _signal(star["true_g"], 130.0, rng)
    flag = rng.choice([0, 1, 1024], n, p=[0.96, 0.02, 0.02])
    values = _labels(star, "galah_dr3", np.hypot(0.8, 25.0 / snr) * np.where(flag == 1, 4.0, 1.0), rng)
    columns: dict = {"flag_sp": flag, "flag_repeat": repeat, "snr_c3_iraf": snr, "survey_name": b"galah_main"}
    columns |= {"flag_fe_h": rng.choice([0, 1, 32], n, p=[0.97, 0.02, 0.01]), "dr3_source_id": star["source_id"]}
    for name, parameter in (("teff", "teff_k"), ("logg", "logg"), ("fe_h", "fe_h")):
        columns[name], columns[f"e_{name}"] = (np.where(flag == 1024, np.nan, v) for v in values[parameter])
    columns |= {"alpha_fe": np.clip(-0.2 * star["fe_h"], -0.1, 0.4) + rng.normal(0.0, 0.04, n), "e_alpha_fe": 0.04}
    columns |= {"rv_galah": star["rv_kms"] + rng.normal(0.0, 0.3, n), "e_rv_galah": 0.3}
    columns |= {"star_id": numbered("2M", star["star_id"], 16), "sobject_id": _spectrum(star["star_id"], repeat)}
    ra, dec = displace(star["ra"], star["dec"], pmra=star["pmra"], pmdec=star["pmdec"], years=-0.5)
    return record_array(columns | {"ra_dr2": ra, "dec_dr2": dec}, GALAH_DTYPE, n)


def _spectrum(star_id: NDArray, repeat: NDArray) -> NDArray[np.int64]:
    return 131_100_000_000_000 + (star_id + FIRST_OBJECT) * 10 + repeat


def apogee_rows(sky: Columns, rng: np.random.Generator) -> NDArray:
    """Rows of APOGEE's allStar: 15 % of the primaries; three per cent of the fits failed (NaN, ASPCAPFLAG bit 23)."""
    star = select(sky, _primaries(sky, OTHER_SHARE, rng))
    n = len(star["slot"])
    snr = np.clip(_signal(star["mag_h"], 140.0, rng), 5.0, 1500.0)
    values = _labels(star, "apogee_dr17", np.hypot(0.8, 40.0 / snr), rng)
    failed = rng.random(n) < 0.03
    columns: dict = dict.fromkeys(APOGEE_DTYPE.names or (), 0)
    for name, parameter in (("TEFF", "teff_k"), ("LOGG", "logg"), ("M_H", "fe_h")):
        columns[name], columns[f"{name}_ERR"] = (np.where(failed, np.nan, v) for v in values[parameter])
    columns |= {"FE_H": columns["M_H"], "FE_H_SPEC": columns["M_H"], "FE_H_ERR": columns["M_H_ERR"]}
    columns |= {"SNR": snr, "SNREV": snr, "ASPCAPFLAG": failed * (1 << 23), "NVISITS": 3, "VERR": 0.05}
    columns |= {"FPARAM": np.nan, "PARAM": np.nan, "VSINI": np.nan, "ALPHA_M": np.nan, "ALPHA_M_ERR": np.nan}
    columns |= {"APOGEE_ID": numbered("2M", star["star_id"], 16), "TELESCOPE": b"lco25m", "FIELD": b"MOCK"}
    columns |= {"FILE": b"mock.fits", "TARGET_ID": numbered("lco25m.MOCK..2M", star["star_id"], 16)}
    ra, dec = input_positions(star)
    columns |= {"RA": ra, "DEC": dec, "GLON": star["l"], "GLAT": star["b"], "SFD_EBV": star["ebv"]}
    columns |= {band.upper(): star[f"mag_{band}"] for band in "jhk"} | dict.fromkeys(("J_ERR", "H_ERR", "K_ERR"), 0.02)
    columns |= {"GAIAEDR3_SOURCE_ID": star["source_id"], "GAIAEDR3_PARALLAX": star["parallax_mas"]}
    columns |= {"GAIAEDR3_PHOT_G_MEAN_MAG": star["mag_g"], "VHELIO_AVG": star["rv_kms"] + rng.normal(0.0, 0.1, n)}
    return record_array(columns, APOGEE_DTYPE, n)


def lsp3_rows(sky: Columns, rng: np.random.Generator) -> tuple[dict[str, pa.Array | pa.Scalar], int]:
    """Rows like those of LSP3, and their number: 15 % of the primaries, at any declination, with large errors."""
    star = select(sky, _primaries(sky, OTHER_SHARE, rng))
    n = len(star["slot"])
    snr = _signal(star["true_g"], 90.0, rng)
    values = _labels(star, "lamost_lsp3", np.hypot(0.8, 20.0 / snr), rng)
    ra, dec = input_positions(star)
    cells: dict[str, pa.Array | pa.Scalar] = {"obsid": arrow_text(numbered("spec-", star["star_id"], 12))}
    cells |= {"source_id": pa.array(star["source_id"]), "ra": decimal(ra, 7), "dec": decimal(dec, 7)}
    cells["snr_b"] = decimal(snr, 2)
    for name, parameter, places in (("teff", "teff_k", 1), ("logg", "logg", 3), ("feh", "fe_h", 3)):
        value, error = values[parameter]
        cells |= {name: decimal(value, places), f"{name}_err": decimal(error, places)}
    return {name: cells[name] for name in LSP3_COLUMNS}, n
