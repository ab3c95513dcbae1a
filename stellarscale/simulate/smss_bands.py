"""SkyMapper magnitudes of mock stars: g, r, i and z against Teff, with small terms in [Fe/H] and gravity.

Smooth imitations by eye, as those of :mod:`stellarscale.simulate.stars`, from which u and v (nearly the same
filters) are taken; not models. All magnitudes are AB.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from stellarscale.settings.stamps import BANDS, EXTINCTION
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.stars import metal_signal

SCATTER_MAG = 0.003

_TEFF_K = (2800, 3410, 3850, 4450, 5000, 5770, 6550, 7220, 8080, 9700, 12500, 50000)
# Magnitude less Gaia's G at [Fe/H] = 0 and logg = 4.4, a column a temperature.
_LESS_G = {
    "g": (1.90, 1.35, 1.02, 0.68, 0.44, 0.25, 0.12, 0.04, -0.02, -0.05, -0.08, -0.15),
    "r": (0.75, 0.45, 0.20, 0.04, -0.03, -0.03, 0.02, 0.09, 0.16, 0.22, 0.28, 0.42),
    "i": (-1.10, -0.75, -0.42, -0.26, -0.18, -0.13, 0.00, 0.16, 0.29, 0.42, 0.55, 0.80),
    "z": (-1.90, -1.25, -0.72, -0.44, -0.29, -0.16, 0.04, 0.23, 0.39, 0.54, 0.72, 1.05),
}
# Magnitudes per dex of [Fe/H], and per dex below logg = 4.4.
_METALS = {"g": 0.020, "r": 0.004, "i": -0.006, "z": -0.010}
_GRAVITY = {"g": -0.015, "r": -0.004, "i": 0.004, "z": 0.008}


@cache
def _curves() -> dict:
    from scipy.interpolate import PchipInterpolator

    return {band: PchipInterpolator(np.log10(_TEFF_K), values) for band, values in _LESS_G.items()}


def absolute_skymapper(sky: Columns, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Absolute SkyMapper magnitudes of drawn stars.

    Parameters
    ----------
    sky : dict of ndarray
        ``teff_k``, ``logg``, ``fe_h``, ``abs_g`` (Gaia's G), ``abs_u``, ``abs_v``.
    rng : numpy.random.Generator
        For what the smooth relations leave out: 0.003 mag in g, r, i, z; u and v have theirs already.

    Returns
    -------
    dict of ndarray
        By band, in the order of ``BANDS``.
    """
    place = np.log10(np.clip(sky["teff_k"], _TEFF_K[0], _TEFF_K[-1]))
    metals = metal_signal(sky["fe_h"])
    lower = 2.0 * np.tanh((4.4 - sky["logg"]) / 2.0)
    out = {"u": sky["abs_u"], "v": sky["abs_v"]}
    for band, curve in _curves().items():
        smooth = sky["abs_g"] + curve(place) + _METALS[band] * metals + _GRAVITY[band] * lower
        out[band] = smooth + SCATTER_MAG * rng.standard_normal(len(place))
    return {band: out[band] for band in BANDS}


def apparent(absolute: NDArray, band: str, distance_pc: NDArray, ebv: NDArray) -> NDArray[np.float64]:
    """Reddened apparent magnitudes in a SkyMapper band, coefficients of ``settings.stamps.EXTINCTION``."""
    return absolute + 5.0 * np.log10(distance_pc) - 5.0 + EXTINCTION[band] * ebv
