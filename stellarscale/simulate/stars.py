"""What a mock star looks like: Teff, logg and [Fe/H] to absolute magnitudes in every band.

These are smooth imitations, not models: one table per quantity against log10(Teff), joined by monotone
cubics, with terms in metallicity and gravity on top. Main-sequence values follow the run of Pecaut &
Mamajek (2013, ApJS 208, 9) by eye; the near-ultraviolet blanketing that makes u, v and NUV tell [Fe/H] and
logg follows the shape (not the numbers) of the SkyMapper/SAGES colour sensitivities. No age and no mass
track enters.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

BANDS = ("nuv", "u", "v", "g", "bp", "rp", "j", "h", "k", "w1", "w2")

# A_band / E(B-V); the SAGES paper's coefficients.
EXTINCTION = {
    "nuv": 7.294, "u": 4.324, "v": 3.917, "g": 2.364, "bp": 2.998, "rp": 1.737,
    "j": 0.748, "h": 0.453, "k": 0.306, "w1": 0.194, "w2": 0.138,
}  # fmt: skip

GIANT, DWARF, HOT_SUBDWARF, WHITE_DWARF = 0, 1, 2, 3

# One row per quantity, one column per temperature; a # starts a remark.
_TABLE_TEXT = """
teff_k   2800  3050  3410  3850  4450  5000  5770  6550  7220  8080  9700 12500 15700 20600 31400 50000
# Main sequence: mass (log10 solar) and gravity.
log_mass -0.96 -0.82 -0.46 -0.24 -0.15 -0.08     0  0.11  0.19  0.26  0.34  0.53   0.7   0.9  1.25   1.6
logg      5.2  5.07  4.87  4.72  4.65  4.58  4.46  4.33  4.28  4.25   4.2  4.15  4.12   4.1  4.05     4
# Bolometric correction in G: M_bol - M_G.
bc_g     -2.7  -2.1  -1.3  -0.6 -0.25 -0.06  0.06  0.07  0.04 -0.03 -0.25 -0.75 -1.25  -1.9  -2.9  -4.1
# Colours at [Fe/H] = 0 and logg = 4.4.
bp_rp     3.7  3.15  2.45  1.82  1.33  1.04  0.82 0.587 0.377  0.22     0 -0.12  -0.2 -0.31 -0.42  -0.5
g_k       4.7  4.25   3.7   3.1   2.4  1.85  1.42  1.03   0.7   0.4     0  -0.3 -0.45 -0.62 -0.78 -0.88
j_h      0.57  0.59  0.61  0.63  0.58  0.46  0.31   0.2  0.12  0.07     0 -0.04 -0.06 -0.09 -0.13 -0.16
h_k      0.34  0.29  0.22  0.17  0.11  0.08 0.055  0.04  0.03  0.02     0 -0.03 -0.04 -0.06 -0.08  -0.1
k_w1     0.21  0.17  0.11  0.08  0.06  0.05  0.04 0.035  0.03  0.03  0.02     0 -0.02 -0.04 -0.06 -0.08
w1_w2    0.24   0.2  0.12  0.04 -0.03 -0.05 -0.04 -0.03 -0.02 -0.01     0 -0.01 -0.02 -0.03 -0.05 -0.07
v_bp      3.3  3.05  2.68   2.2  1.72  1.35  0.95  0.62  0.42   0.3   0.2   0.1  0.02 -0.08  -0.2 -0.28
u_v      1.32  1.25  1.15   1.1  1.04  0.95  0.86   0.9     1  1.08  0.98  0.55  0.25 -0.05 -0.35 -0.45
nuv_g    11.2    11  10.6    10   8.8   7.3   5.3   3.6   2.6   1.9     1   0.4   0.1  -0.2  -0.6  -0.8
# Metallicity terms, magnitudes per dex.
z_bp_rp  0.05  0.05  0.05  0.04  0.03 0.025  0.02 0.015  0.01 0.005     0     0     0     0     0     0
z_v_bp   0.05  0.06  0.08  0.15  0.26   0.3  0.24  0.15  0.08  0.03     0     0     0     0     0     0
z_u_v    0.01  0.02  0.03  0.05   0.1  0.14  0.14   0.1  0.05  0.01     0     0     0     0     0     0
z_nuv_g     0     0  0.05  0.15   0.3   0.5   0.5   0.3  0.15  0.05     0     0     0     0     0     0
# Gravity terms, magnitudes per dex below logg = 4.4.
g_u_v    0.06  0.07  0.09  0.12  0.16  0.13  0.12  0.15  0.17  0.18  0.08  0.02     0     0     0     0
g_v_bp  -0.09 -0.09 -0.09 -0.08 -0.06 -0.04 -0.02     0  0.01  0.01     0     0     0     0     0     0
g_j_h    0.05  0.06  0.07  0.07  0.04 0.015 0.005     0     0     0     0     0     0     0     0     0
g_w1_w2 -0.04 -0.04 -0.035 -0.03 -0.02 -0.01     0     0     0     0     0     0     0     0     0     0
"""
_TABLES = {
    row[0]: np.array(row[1:], dtype=float)
    for row in (line.split() for line in _TABLE_TEXT.strip().splitlines())
    if row[0] != "#"
}
_GIANT_LOGG = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
_GIANT_TEFF_K = (3400, 3660, 3950, 4230, 4490, 4730, 4900, 5050, 5250)
_GRID = np.linspace(np.log10(2800.0), np.log10(50000.0), 2001)


@cache
def _curve(name: str) -> NDArray[np.float64]:
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(np.log10(_TABLES["teff_k"]), _TABLES[name])(_GRID)


class Relations:
    """Look-up of every table at the temperatures of one chunk; the grid cells are found once for all."""

    def __init__(self, teff_k: NDArray) -> None:
        place = (np.log10(np.clip(teff_k, 2800.0, 50000.0)) - _GRID[0]) / (_GRID[1] - _GRID[0])
        self._cell = np.minimum(place.astype(np.intp), len(_GRID) - 2)
        self._part = place - self._cell

    def __call__(self, name: str) -> NDArray[np.float64]:
        """The tabulated quantity at each temperature, linear between 2001 points in log Teff."""
        curve = _curve(name)
        low = curve[self._cell]
        return low + self._part * (curve[self._cell + 1] - low)


def dwarf_logg(teff_k: NDArray, fe_h: NDArray, age_share: NDArray) -> NDArray[np.float64]:
    """Gravity of a main-sequence star; ``age_share`` in 0..1 moves it off the zero-age line.

    Metal-poor dwarfs are more compact (0.06 per dex); stars cooler than about 5200 K have not evolved yet.
    """
    evolved = 0.45 / (1.0 + np.exp(-(teff_k - 5700.0) / 180.0))
    return Relations(teff_k)("logg") - 0.06 * fe_h - evolved * age_share


def giant_teff(logg: NDArray, fe_h: NDArray) -> NDArray[np.float64]:
    """Temperature (K) of the giant branch at a gravity: hotter at low metallicity, saturating below -2."""
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(_GIANT_LOGG, _GIANT_TEFF_K)(logg) - 330.0 * np.tanh(fe_h / 1.6)


def log_mass(teff_k: NDArray, fe_h: NDArray, kind: NDArray) -> NDArray[np.float64]:
    """log10 of the mass in suns: a main-sequence relation for dwarfs, one value for each other class."""
    main_sequence = Relations(teff_k)("log_mass") + 0.05 * fe_h
    return np.select([kind == DWARF, kind == GIANT, kind == HOT_SUBDWARF], [main_sequence, 0.04, -0.33], -0.22)


def absolute_g(teff_k: NDArray, logg: NDArray, fe_h: NDArray, kind: NDArray) -> NDArray[np.float64]:
    """Absolute G from L = M/g Teff^4 in solar units (M_bol 4.74, logg 4.438, Teff 5772 K)."""
    log_lum = log_mass(teff_k, fe_h, kind) - (logg - 4.438) + 4.0 * np.log10(teff_k / 5772.0)
    return 4.74 - 2.5 * log_lum - Relations(teff_k)("bc_g")


def metal_signal(fe_h: NDArray) -> NDArray[np.float64]:
    """Blanketing against [Fe/H]: near one per dex at solar metallicity, a fifth of that at -3."""
    return fe_h * (1.0 + 0.13 * fe_h)


def absolute_magnitudes(teff_k: NDArray, logg: NDArray, fe_h: NDArray, kind: NDArray) -> dict[str, NDArray[np.float64]]:
    """Intrinsic absolute magnitudes in all bands.

    Parameters
    ----------
    teff_k, logg, fe_h : ndarray, shape (n,)
        Effective temperature (K), log10 surface gravity (cgs), [Fe/H] (dex).
    kind : ndarray of int, shape (n,)
        0 giant, 1 dwarf, 2 hot subdwarf, 3 white dwarf.

    Returns
    -------
    dict of ndarray
        By band: NUV, u, v in AB magnitudes; G, BP, RP, J, H, K, W1, W2 in Vega magnitudes.
    """
    at = Relations(teff_k)
    z = metal_signal(fe_h)
    lower = 2.0 * np.tanh((4.4 - logg) / 2.0)
    bp_rp = at("bp_rp") + at("z_bp_rp") * z
    g = absolute_g(teff_k, logg, fe_h, kind)
    rp = g - (0.623 * bp_rp - 0.06 * bp_rp**2)
    bp = rp + bp_rp
    v = bp + at("v_bp") + at("z_v_bp") * z + at("g_v_bp") * lower
    u = v + at("u_v") + at("z_u_v") * z + at("g_u_v") * lower
    k = g - at("g_k")
    h = k + at("h_k")
    j = h + at("j_h") + at("g_j_h") * lower
    w1 = k - at("k_w1")
    w2 = w1 - at("w1_w2") - at("g_w1_w2") * lower
    nuv = g + at("nuv_g") + at("z_nuv_g") * z
    return dict(zip(BANDS, (nuv, u, v, g, bp, rp, j, h, k, w1, w2), strict=True))
