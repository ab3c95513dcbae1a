"""GALEX GUVcat_AIS: 97 lower-case FITS columns, four kinds of missing value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate import dust, galaxy, observe
from stellarscale.simulate.files import record_array
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.text import numbered, words

EPOCH = 2007.5
RESOLUTION_ARCSEC = 5.0
ASTROMETRY_ARCSEC = 0.45
SEEN_SHARE = 0.75
LIMIT_ERROR = 0.35

_FLOAT64 = "avaspdec avaspra dec glat glon ra"
_INT32 = "band chkobj_type fuv_artifact fuv_flags img nuv_artifact nuv_flags subvisit tilenum type"
_INT16 = "grank grankdist ngrank ngrankdist"
_TEXT = {
    "corv": 1, "groupgid": 20, "groupgiddist": 20, "groupgidtot": 20, "inlargeobj": 2, "istherespectrum": 2,
    "mpstype": 3, "object_id": 19, "photoextractid": 19, "primgid": 20, "primgiddist": 20,
}  # fmt: skip
COLUMN_NAMES = words(
    """
    avaspdec avaspra band chkobj_type corv dec difffuv difffuvdist diffnuv diffnuvdist e_bv fexptime
    fov_radius fuv_a_world fuv_artifact fuv_b_world fuv_class_star fuv_ellipticity fuv_errtheta_j2000
    fuv_flags fuv_flux fuv_fluxerr fuv_fwhm_image fuv_fwhm_world fuv_kron_radius fuv_mag fuv_mag_aper_4
    fuv_mag_aper_6 fuv_mag_auto fuv_magerr fuv_magerr_aper_4 fuv_magerr_aper_6 fuv_magerr_auto
    fuv_ncat_flux_radius_3 fuv_ncat_fwhm_image fuv_poserr fuv_pperr fuv_theta_j2000 fuv_weight fuv_x_image
    fuv_y_image glat glon grank grankdist groupgid groupgiddist groupgidtot healpix ib_poserr img
    inlargeobj istherespectrum largeobjsize mpstype nexptime ngrank ngrankdist nuv_a_world nuv_artifact
    nuv_b_world nuv_class_star nuv_ellipticity nuv_errtheta_j2000 nuv_flags nuv_flux nuv_fluxerr
    nuv_fwhm_image nuv_fwhm_world nuv_kron_radius nuv_mag nuv_mag_aper_4 nuv_mag_aper_6 nuv_mag_auto
    nuv_magerr nuv_magerr_aper_4 nuv_magerr_aper_6 nuv_magerr_auto nuv_poserr nuv_pperr nuv_theta_j2000
    nuv_weight nuv_x_image nuv_y_image object_id photoextractid primgid primgiddist prob ra sep sepas
    sepasdist subvisit tilenum type
    """
)


def _field(name: str) -> tuple[str, str]:
    if name in _TEXT:
        return name, f"S{_TEXT[name]}"
    if name in _FLOAT64.split():
        return name, "f8"
    if name in _INT32.split():
        return name, "i4"
    return name, "i2" if name in _INT16.split() else "i8" if name == "healpix" else "f4"


# The VizieR edition names the source `objid`; it leads here, so that either edition's reader finds its own.
DTYPE = np.dtype([("objid", "i8"), *(_field(name) for name in COLUMN_NAMES)])
UNITS = {"ra": "deg", "dec": "deg", "glon": "deg", "glat": "deg", "nuv_mag": "mag", "nuv_magerr": "mag"}


def observe_galex(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[NDArray, NDArray]:
    """Rows of the GUVcat table for one chunk, positions at the mean epoch of the imaging survey.

    A missing FUV is -999, a missing NUV (FUV-only rows) -999 with an error of -9999; aperture columns hold
    SExtractor's 99 and -99 where a measurement failed.

    Returns
    -------
    records : ndarray
        Structured rows of ``DTYPE``.
    rows : ndarray of int
        The true star of each row.
    """
    rng = plan.rng(chunk, "galex")
    seen, alone = observe.seen_at(sky, year=EPOCH, bands=("nuv",), resolution_arcsec=RESOLUTION_ARCSEC)
    error = observe.magnitude_error(seen["nuv"], floor=0.015, at=20.6, error=0.12)
    # The imaging survey kept away from the plane and from bright fields.
    covered = (rng.random(len(alone)) < SEEN_SHARE) & (np.abs(sky["b"]) > 8.0)
    rows = np.flatnonzero(alone & covered & (error < LIMIT_ERROR) & (seen["nuv"] > 12.0))
    star, seen, error = observe.select(sky, rows), observe.select(seen, rows), error[rows]
    columns: dict = dict.fromkeys(DTYPE.names or (), -999)
    columns |= dict.fromkeys(_TEXT, b"")
    columns |= _positions(star, seen, rng)
    columns |= _magnitudes(star, seen["nuv"], error, rng)
    return record_array(columns, DTYPE, len(rows)), rows


def _positions(star: Columns, seen: Columns, rng: np.random.Generator) -> dict:
    ra, dec = observe.jitter(seen["ra"], seen["dec"], sigma_arcsec=ASTROMETRY_ARCSEC, rng=rng)
    l_deg, b_deg = galaxy.equatorial_to_galactic(ra, dec)
    key = 6_370_000_000_000_000_000 + star["star_id"]
    out: dict = {
        "objid": key,
        "object_id": numbered("", key, 19),
        "photoextractid": numbered("", key // 1000, 19),
    }
    out |= {"ra": ra, "dec": dec, "avaspra": ra, "avaspdec": dec, "glon": l_deg, "glat": b_deg}
    out |= {"e_bv": dust.e_bv(l_deg, b_deg, np.inf), "mpstype": b"AIS", "corv": b"C", "istherespectrum": b"0"}
    out |= {"fov_radius": np.sqrt(rng.random(len(ra))) * 0.55, "band": np.ones(len(ra)), "inlargeobj": b"N"}
    return out | {"fexptime": 110.0, "nexptime": 110.0, "grank": 0, "grankdist": 0, "nuv_poserr": 0.5}


def _magnitudes(star: Columns, nuv: NDArray, error: NDArray, rng: np.random.Generator) -> dict:
    n = len(nuv)
    value = observe.noisy(nuv, error, rng)
    # Only the hottest stars shine in the far ultraviolet.
    fuv = nuv + np.where(star["teff_k"] > 9000.0, 0.1, 4.0) + rng.normal(0.0, 0.1, n)
    no_fuv, no_nuv = (fuv > 20.5) | (rng.random(n) < 0.2), rng.random(n) < 0.004
    failed = rng.random((2, n)) < 0.01
    artefact = np.select([rng.random(n) < 0.08, rng.random(n) < 0.02], [1, 4], 0)
    flux = 10.0 ** (0.4 * (20.08 - value))
    out: dict = {"nuv_mag": np.where(no_nuv, -999.0, value), "nuv_magerr": np.where(no_nuv, -9999.0, error)}
    out |= {"fuv_mag": np.where(no_fuv, -999.0, fuv), "fuv_magerr": np.where(no_fuv, -999.0, 0.15)}
    out |= {
        "nuv_artifact": artefact,
        "fuv_artifact": np.zeros(n),
        "nuv_flags": np.zeros(n),
        "fuv_flags": np.zeros(n),
    }
    out |= {
        "nuv_mag_auto": value,
        "nuv_magerr_auto": error,
        "nuv_flux": flux,
        "nuv_fluxerr": flux * error / 1.0857,
    }
    out |= {"nuv_mag_aper_4": np.where(failed[0], -99.0, value + 0.05), "nuv_magerr_aper_4": error}
    out |= {
        "nuv_mag_aper_6": np.where(failed[1], 99.0, value),
        "nuv_magerr_aper_6": np.where(failed[1], 99.0, error),
    }
    return out
