"""Gaia DR3 as the archive ships it: ECSV header, comma-separated values, ``null``, gzip."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.simulate import galaxy, observe, stars
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.text import chosen_text, decimal

# Zero points of the DR3 Vega system (Riello et al. 2021, A&A 649, A3).
ZERO_POINT = {"g": 25.6874, "bp": 25.3385, "rp": 24.7479}
RESOLUTION_ARCSEC = 0.4
SEEN_SHARE = 0.98

_UNITS = {
    "ra": "deg",
    "dec": "deg",
    "l": "deg",
    "b": "deg",
    "ecl_lat": "deg",
    "ref_epoch": "yr",
    "parallax": "mas",
    "pm": "mas.yr**-1",
}


def observe_gaia(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[dict[str, pa.Array | pa.Scalar], NDArray]:
    """Rows of ``gaia_source`` for one chunk, sorted by ``source_id`` as in the archive's files.

    Parameters
    ----------
    sky : dict of ndarray
        True stars.
    plan, chunk : SkyPlan, int
        For the random stream.

    Returns
    -------
    columns : dict of Arrow arrays
        Native columns in file order; nulls where the archive has them.
    rows : ndarray of int
        The true star of each row.

    Notes
    -----
    Astrometric errors follow the shape of Gaia's own error model: a floor to G = 13, then
    sqrt(40 + 800 z + 30 z^2) microarcsec with z = 10^(0.4 (G - 15)).
    """
    rng = plan.rng(chunk, "gaia")
    seen, alone = observe.seen_at(sky, year=2016.0, bands=("g", "bp", "rp"), resolution_arcsec=RESOLUTION_ARCSEC)
    rows = np.flatnonzero(alone & (seen["g"] < 20.7) & (rng.random(len(alone)) < SEEN_SHARE))
    rows = rows[np.argsort(sky["source_id"][rows], kind="stable")]
    star, seen = observe.select(sky, rows), observe.select(seen, rows)
    columns: dict[str, pa.Array | pa.Scalar] = {"solution_id": pa.scalar(1636148068921376768)}
    columns["designation"] = _designation(star["source_id"])
    columns |= {
        "source_id": pa.array(star["source_id"]),
        "random_index": pa.array(_shuffled(star["star_id"], plan)),
    }
    columns["ref_epoch"] = pa.scalar("2016.0")
    columns |= _astrometry(star, seen, rng)
    columns |= _photometry(seen, rng)
    columns |= _velocity(star, seen, rng)
    l_deg, b_deg = galaxy.equatorial_to_galactic(seen["ra"], seen["dec"])
    columns |= {"l": decimal(l_deg, 12), "b": decimal(b_deg, 12)}
    columns["ecl_lat"] = decimal(ecliptic_latitude(seen["ra"], seen["dec"]), 12)
    return columns, rows


def _designation(source_id: NDArray) -> pa.Array:
    return pc.binary_join_element_wise(
        pa.scalar('"Gaia DR3 '), pa.array(source_id).cast(pa.string()), pa.scalar('"'), ""
    )


def _shuffled(star_id: NDArray, plan: SkyPlan) -> NDArray[np.int64]:
    """A permutation of the star numbers without holding them all: an odd multiplier modulo a power of two."""
    bits = max(plan.rows - 1, 1).bit_length()
    return (star_id * np.int64(2654435761) + plan.seed % 65536) & np.int64((1 << bits) - 1)


def parallax_error_mas(g: NDArray) -> NDArray[np.float64]:
    """Typical DR3 parallax error (mas) at a G magnitude."""
    z = 10.0 ** (0.4 * (np.maximum(g, 13.0) - 15.0))
    return np.sqrt(40.0 + 800.0 * z + 30.0 * z**2) / 1000.0


def _astrometry(star: Columns, seen: Columns, rng: np.random.Generator) -> dict[str, pa.Array | pa.Scalar]:
    n = len(seen["ra"])
    base = parallax_error_mas(seen["g"])
    ruwe = np.where(rng.random(n) < 0.05, 1.2 + rng.exponential(0.8, n), 1.0 + np.abs(rng.normal(0.0, 0.05, n)))
    base = base * np.exp(rng.normal(0.0, 0.15, n)) * ruwe
    solved = np.select([rng.random(n) < 0.025, rng.random(n) < 0.25], [3, 95], 31)
    two = solved == 3
    error = {"ra": 0.8 * base, "dec": 0.75 * base, "parallax": base, "pmra": 1.03 * base, "pmdec": 0.9 * base}
    sigma = np.hypot(error["ra"], error["dec"]) / np.sqrt(2.0) / 1000.0
    ra, dec = observe.jitter(seen["ra"], seen["dec"], sigma_arcsec=sigma, rng=rng)
    value = {
        key: np.round(star[source] + error[key] * rng.standard_normal(n), 12)
        for key, source in (("parallax", "parallax_mas"), ("pmra", "pmra"), ("pmdec", "pmdec"))
    }
    out: dict[str, pa.Array | pa.Scalar] = {"ra": decimal(ra, 12), "ra_error": decimal(error["ra"], 6)}
    out |= {"dec": decimal(dec, 12), "dec_error": decimal(error["dec"], 6)}
    out |= {"parallax": decimal(value["parallax"], 9, missing=two)}
    out |= {"parallax_error": decimal(base, 7, missing=two)}
    out["parallax_over_error"] = decimal(value["parallax"] / base, 5, missing=two)
    out["pm"] = decimal(np.hypot(value["pmra"], value["pmdec"]), 6, missing=two)
    for key in ("pmra", "pmdec"):
        out |= {key: decimal(value[key], 9, missing=two), f"{key}_error": decimal(error[key], 7, missing=two)}
    return out | _solution(seen, solved, ruwe, rng)


def _solution(
    seen: Columns, solved: NDArray, ruwe: NDArray, rng: np.random.Generator
) -> dict[str, pa.Array | pa.Scalar]:
    """How the astrometry was solved: 31 knew the colour beforehand, 95 fitted one, 3 is a position only."""
    n, two = len(ruwe), solved == 3
    out: dict[str, pa.Array | pa.Scalar] = {}
    out["pmra_pmdec_corr"] = decimal(np.clip(rng.normal(0.0, 0.15, n), -0.95, 0.95), 6, missing=two)
    out["astrometric_params_solved"] = pa.array(solved.astype(np.int16))
    wavenumber = effective_wavenumber(seen["bp"] - seen["rp"])
    out["nu_eff_used_in_astrometry"] = decimal(wavenumber, 6, missing=solved != 31)
    pseudocolour = wavenumber + rng.normal(0.0, 0.03, n)
    out["pseudocolour"] = decimal(pseudocolour, 6, missing=solved != 95)
    out["ruwe"] = decimal(ruwe, 6, missing=two)
    out["duplicated_source"] = chosen_text(['"False"', '"True"'], rng.random(n) < 0.01)
    return out


def effective_wavenumber(bp_rp: NDArray) -> NDArray[np.float64]:
    """Effective wavenumber (1/micrometre) of a colour (Lindegren et al. 2021, A&A 649, A2, equation 3)."""
    return 1.76 - 1.61 / np.pi * np.arctan(0.531 * bp_rp)


def ecliptic_latitude(ra_deg: NDArray, dec_deg: NDArray) -> NDArray[np.float64]:
    """Ecliptic latitude (deg) of ICRS positions (deg), obliquity 23.4392911 deg."""
    ra, dec, tilt = np.radians(ra_deg), np.radians(dec_deg), np.radians(23.4392911)
    sine = np.sin(dec) * np.cos(tilt) - np.cos(dec) * np.sin(tilt) * np.sin(ra)
    return np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))


def _photometry(seen: Columns, rng: np.random.Generator) -> dict[str, pa.Array | pa.Scalar]:
    """Fluxes, their errors and magnitudes that agree: sigma_m = 1.0857 sigma_F / F."""
    out: dict[str, pa.Array | pa.Scalar] = {}
    n = len(seen["g"])
    magnitude = {}
    scale = {"g": (2.5e-4, 19.8, 0.0069), "bp": (1.2e-3, 18.5, 0.0250), "rp": (1.0e-3, 17.6, 0.0120)}
    absent = rng.random(n) < 0.003
    for band, (floor, at, error) in scale.items():
        relative = observe.magnitude_error(seen[band], floor=floor, at=at, error=error, slope=0.32)
        true_flux = 10.0 ** (0.4 * (ZERO_POINT[band] - seen[band]))
        sigma = relative / observe.MAG_PER_RELATIVE_FLUX
        flux = true_flux * np.maximum(1.0 + sigma * rng.standard_normal(n), 0.05)
        magnitude[band] = ZERO_POINT[band] - 2.5 * np.log10(flux)
        missing = None if band == "g" else absent
        out[f"phot_{band}_mean_flux"] = decimal(flux, 6, missing=missing)
        out[f"phot_{band}_mean_flux_error"] = decimal(true_flux * sigma, 6, missing=missing)
        out[f"phot_{band}_mean_flux_over_error"] = decimal(flux / (true_flux * sigma), 3, missing=missing)
        out[f"phot_{band}_mean_mag"] = decimal(magnitude[band], 6, missing=missing)
    colour = magnitude["bp"] - magnitude["rp"]
    spread = 0.0059898 + 8.817481e-12 * magnitude["g"] ** 7.618399
    blended = np.where(rng.random(n) < 0.03, rng.exponential(0.2, n), 0.0)
    excess = mean_excess_factor(colour) + spread * rng.standard_normal(n) + blended
    out["phot_bp_rp_excess_factor"] = decimal(excess, 6, missing=absent)
    out["bp_rp"] = decimal(colour, 6, missing=absent)
    return out


def mean_excess_factor(bp_rp: NDArray) -> NDArray[np.float64]:
    """BP/RP flux excess of a well-behaved source (Riello et al. 2021, table 2)."""
    x = bp_rp
    blue = 1.154360 + 0.033772 * x + 0.032277 * x**2
    middle = 1.162004 + 0.011464 * x + 0.049255 * x**2 - 0.005879 * x**3
    return np.where(x < 0.5, blue, np.where(x < 4.0, middle, 1.057572 + 0.140537 * x))


def _velocity(star: Columns, seen: Columns, rng: np.random.Generator) -> dict[str, pa.Array | pa.Scalar]:
    n = len(seen["g"])
    hidden = (seen["g"] > 14.2) | (rng.random(n) < 0.1) | (star["kind"] >= stars.HOT_SUBDWARF)
    error = 0.15 + 0.3 * 10.0 ** (0.32 * (np.minimum(seen["g"], 16.0) - 12.0))
    value = star["rv_kms"] + error * rng.standard_normal(n)
    return {
        "radial_velocity": decimal(value, 6, missing=hidden),
        "radial_velocity_error": decimal(error, 6, missing=hidden),
        "phot_variable_flag": chosen_text(['"NOT_AVAILABLE"', '"VARIABLE"'], rng.random(n) < 0.02),
    }


_TYPES = {"solution_id": "int64", "source_id": "int64", "random_index": "int64", "designation": "string"}
_TYPES |= {"nu_eff_used_in_astrometry": "float32", "pseudocolour": "float32", "pmra_pmdec_corr": "float32"}
_TYPES |= {"astrometric_params_solved": "int16", "duplicated_source": "bool", "phot_variable_flag": "string"}


def ecsv_header(names: list[str]) -> str:
    """The commented ECSV header of the archive's files for these columns, and the line of names after it."""
    lines = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    for name in names:
        single = name.endswith("_error") or "_mag" in name or name in ("pm", "ruwe", "bp_rp", "radial_velocity")
        datatype = _TYPES.get(name, "float32" if single else "float64")
        unit = _unit(name)
        lines += ["# -", f"#   name: {name}", f"#   datatype: {datatype}"]
        lines += [f"#   unit: {unit}"] if unit else []
        lines += [f"#   description: Mock {name.replace('_', ' ')}"]
    lines += [
        "# meta:",
        "#   name: GaiaSource",
        "#   description: Mock of the Gaia DR3 main table",
        ",".join(names),
    ]
    return "\n".join(lines) + "\n"


def _unit(name: str) -> str | None:
    if name in _UNITS:
        return _UNITS[name]
    if name.endswith(("_over_error", "_corr")):
        return None
    if name.startswith("pm"):
        return "mas.yr**-1"
    if name.startswith("radial"):
        return "km.s**-1"
    if name in ("ra_error", "dec_error", "parallax_error"):
        return "mas"
    if name.endswith(("_mag", "bp_rp")):
        return "mag"
    return "\"'electron'.s**-1\"" if "_flux" in name else None
