"""Matched M-star spectra with known truth: two branches of the diagram and label catalogues with known offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from stellarscale.settings.sample import SampleSelection

LINE = {"dwarf": (2.0, 2.8), "giant": (3.0, -3.0, 0.9, -0.1)}
OFFSETS = {
    ("aspcap", "dwarf"): (87.0, -0.05, -0.02),
    ("aspcap", "giant"): (156.0, 0.16, -0.17),
    ("ding22", "dwarf"): (-30.0, 0.1, 0.0),
    ("laspm", "dwarf"): (0.0, 0.2, -0.3),
    ("qiu23", "giant"): (150.0, 0.15, -0.16),
}
SCATTER = (30.0, 0.05, 0.05)
SHARE = {"aspcap": 0.3, "ding22": 0.6, "laspm": 1.0, "qiu23": 0.8}
PHOTOMETRY = {
    "g": {"mag": "gaia_g_mag", "err": "gaia_g_mag_err", "extinction": 2.364},
    "bp": {"mag": "gaia_bp_mag", "err": "gaia_bp_mag_err", "extinction": 2.998},
    "rp": {"mag": "gaia_rp_mag", "err": "gaia_rp_mag_err", "extinction": 1.737},
}
CUTS = {
    "star": "gaia_source_id",
    **PHOTOMETRY,
    "ruwe": "gaia_ruwe",
    "parallax": "gaia_parallax",
    "parallax_error": "gaia_parallax_error",
    "distance_pc": "bj_r_med_photogeo",
    "reddening": {"av_column": "starhorse_av"},
}


def columns_of(prefix: str, suffix: str = "") -> dict[str, str]:
    """The three label columns of a catalogue."""
    return {label: f"{prefix}_{label}{suffix}" for label in ("teff", "logg", "m_h")}


def selection(**changes: Any) -> SampleSelection:
    """The settings of the paper for the columns of :func:`matched_spectra`."""
    settings: dict[str, Any] = {
        "cuts": CUTS,
        "reference": columns_of("starhorse"),
        "catalogs": [
            {"name": "aspcap", "columns": columns_of("aspcap")},
            {"name": "ding22", "columns": columns_of("ding22"), "branches": ["dwarf"]},
            {"name": "laspm", "columns": columns_of("laspm"), "branches": ["dwarf"]},
            {"name": "qiu23", "columns": columns_of("qiu23"), "branches": ["giant"]},
        ],
        "supplement": {"errors": columns_of("aspcap", "_err")},
    }
    return SampleSelection.model_validate(settings | changes)


def matched_spectra(dwarfs: int = 3000, giants: int = 1200, seed: int = 0) -> pa.Table:
    """One spectrum per star, all of which pass the cuts of single rows.

    One star in ten lies 1.2 to 3 mag off its branch. ``truth_*`` columns hold the true colour and magnitude.
    """
    rng = np.random.default_rng(seed)
    n = dwarfs + giants
    dwarf = np.arange(n) < dwarfs
    columns: dict[str, Any] = {
        "obsid": np.arange(n) + 1000,
        "gaia_source_id": rng.permutation(n) + (1 << 60),
        "subclass": np.where(dwarf, "dM", "gM") + rng.integers(0, 7, n).astype("U1").astype(object),
        "snr_i": rng.uniform(10, 45, n),
        "gaia_ruwe": rng.uniform(0.9, 1.3, n),
        "variables_id": pa.nulls(n, pa.int64()),
    }
    columns |= _photometry(rng, dwarf)
    columns |= _labels(rng, dwarf)
    columns["truth_branch"] = np.where(dwarf, "dwarf", "giant")
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def _photometry(rng: np.random.Generator, dwarf: np.ndarray) -> dict[str, np.ndarray]:
    n = len(dwarf)
    colour = np.where(dwarf, rng.uniform(1.9, 3.4, n), rng.uniform(1.3, 3.9, n))
    magnitude = np.select(
        [dwarf, ~dwarf], [np.polynomial.polynomial.polyval(colour, LINE[name]) for name in ("dwarf", "giant")]
    )
    off = rng.random(n) < 0.1
    magnitude += np.where(off, rng.choice([-1, 1], n) * rng.uniform(1.2, 3.0, n), rng.normal(0, 0.2, n))
    distance = np.where(dwarf, rng.uniform(20, 300, n), rng.uniform(500, 4000, n))
    av = rng.uniform(0, 1, n)
    mag = magnitude + 5 * np.log10(distance) - 5 + 2.364 * av / 2.742
    errors = {f"{band['mag']}_err": rng.uniform(0.001, 0.02, n) for band in PHOTOMETRY.values()}
    return errors | {
        "gaia_g_mag": mag,
        "gaia_bp_mag": mag + 0.6 * colour + 2.998 * av / 2.742 - 2.364 * av / 2.742,
        "gaia_rp_mag": mag - 0.4 * colour + 1.737 * av / 2.742 - 2.364 * av / 2.742,
        "gaia_parallax": 1000 / distance,
        "gaia_parallax_error": 10 / distance,
        "bj_r_med_photogeo": distance,
        "starhorse_av": av,
        "truth_colour": colour,
        "truth_magnitude": magnitude,
        "truth_off": off,
    }


def _labels(rng: np.random.Generator, dwarf: np.ndarray) -> dict[str, np.ndarray]:
    n = len(dwarf)
    truth = {
        "teff": rng.uniform(3200, 4000, n),
        "logg": np.where(dwarf, rng.uniform(4.5, 5.0, n), rng.uniform(0.3, 1.5, n)),
        "m_h": rng.normal(-0.2, 0.2, n),
    }
    result = {f"starhorse_{label}": values for label, values in truth.items()}
    for catalog, share in SHARE.items():
        has = rng.random(n) < share
        for place, (label, values) in enumerate(truth.items()):
            shift = np.full(n, np.nan)
            for branch, rows in (("dwarf", dwarf), ("giant", ~dwarf)):
                if (catalog, branch) in OFFSETS:
                    shift[rows] = OFFSETS[catalog, branch][place]
            result[f"{catalog}_{label}"] = np.where(has, values + shift + rng.normal(0, SCATTER[place], n), np.nan)
    for label, size in zip(truth, (20.0, 0.1, 0.05), strict=True):
        result[f"aspcap_{label}_err"] = np.where(np.isnan(result[f"aspcap_{label}"]), np.nan, size)
    return result


def changed(table: pa.Table, column: str, values: dict[int, Any]) -> pa.Table:
    """The table with some cells of a column replaced."""
    items = table[column].to_pylist()
    for row, value in values.items():
        items[row] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array(items, table.schema.field(place).type))
