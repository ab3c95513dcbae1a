"""Spectra of mock M stars: a hot-floor continuum under TiO, CaH, VO and atomic features that follow the labels.

A picture, not a model atmosphere. Its optical depth is a sum of fixed profiles times amounts that depend smoothly on
Teff, log g and [M/H], so that a thousand spectra are one matrix product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stellarscale.simulate.mbands import FEATURES, feature_profiles

SECOND_RADIATION_AA_K = 1.438777e8
NORMAL_AA = 7500.0


def m_star_flux(
    wave_aa: ArrayLike,
    teff: ArrayLike,
    logg: ArrayLike,
    m_h: ArrayLike,
    *,
    alpha: ArrayLike = 0.0,
    activity: ArrayLike = 0.0,
) -> NDArray[np.float32]:
    """Rest-frame flux per wavelength of M stars at a resolving power of 1800.

    Parameters
    ----------
    wave_aa : array_like, shape (n_pix,)
        Vacuum wavelengths between 3600 and 9600 Angstrom.
    teff, logg, m_h : array_like, shape (n,)
        Teff in K, log g and [M/H] in dex; made for 3000-4300, -0.5-5.5 and -1.5-0.8.
    alpha : array_like, shape (n,)
        What the three labels do not tell: an excess of oxygen and titanium (dex) that makes TiO deeper.
    activity : array_like, shape (n,)
        Strength of H alpha in emission; 0 is a quiet star, 1 a peak 0.9 in the logarithm above the continuum.

    Returns
    -------
    ndarray of float32, shape (n, n_pix)
        Flux; the continuum is 1 at 7500 Angstrom.
    """
    wave = np.asarray(wave_aa, dtype=np.float64)
    labels = np.broadcast_arrays(*(np.asarray(v, dtype=float).ravel() for v in (teff, logg, m_h, alpha, activity)))
    amounts = feature_amounts(*labels)
    depth = amounts.astype(np.float32) @ feature_profiles(wave).astype(np.float32)
    return np.exp(_log_continuum(wave, labels[0]) - depth)


def _log_continuum(wave_aa: NDArray, teff: NDArray) -> NDArray[np.float32]:
    """Logarithm of the flux between the bands: nearly a black body, a little redder, 0 at 7500 Angstrom."""
    x = SECOND_RADIATION_AA_K / (wave_aa[None, :] * (1.02 * teff)[:, None])
    at = SECOND_RADIATION_AA_K / (NORMAL_AA * 1.02 * teff)[:, None]
    out = -5.0 * np.log(wave_aa / NORMAL_AA)[None, :] - np.log(np.expm1(x)) + np.log(np.expm1(at))
    return out.astype(np.float32)


def feature_amounts(
    teff: NDArray, logg: NDArray, m_h: NDArray, alpha: NDArray, activity: NDArray
) -> NDArray[np.float64]:
    """Amount of each of ``FEATURES`` in each star, shape (n, n_features).

    TiO grows with falling Teff, each system at its own pace, and with [M/H]; CaH, Na and K want gravity and care
    little for metals, so that TiO against CaH tells [M/H]; the calcium triplet, CN and barium want giants.
    """
    cool = np.maximum(4350.0 - teff, 10.0) / 1000.0
    dwarf = 1.0 / (1.0 + np.exp(-2.2 * (logg - 3.4)))
    metal = 10.0**m_h
    tio = metal**0.30 * 10.0 ** (0.35 * alpha) * (1.12 - 0.12 * dwarf)
    giant = np.exp(-0.28 * (logg - 1.0))
    amount = {
        "tio_blue": 1.00 * tio**0.9 * cool**1.00,
        "tio_yellow": 1.35 * tio * cool**1.05,
        "tio_red": 1.15 * tio * cool**1.35,
        "tio_far": 0.80 * tio**1.1 * cool**1.75,
        "tio_epsilon": 0.70 * tio**1.2 * cool**2.10,
        "cah": 0.78 * cool**0.85 * metal**-0.03 * (0.10 + 0.9 * dwarf * np.exp(0.55 * (logg - 4.8))),
        "vo": 0.75 * np.maximum(cool - 0.55, 0.0) ** 1.6 * metal**0.4 * (1.5 - 0.5 * dwarf),
        "caoh": 0.95 * cool**1.5 * metal**0.25 * dwarf,
        "mgh": 0.60 * metal**0.25 * (0.2 + 0.8 * dwarf) * np.exp(-0.5 * cool),
        "cn": 1.20 * metal**0.5 * giant * (1.0 - dwarf) * np.exp(-0.6 * cool),
        "na_k": (0.12 + 0.90 * dwarf * np.exp(0.8 * (logg - 4.8))) * (0.5 + 0.6 * cool) * metal**0.25,
        "caii": 0.85 * giant**0.75 * metal**0.25 * np.exp(-0.35 * cool),
        "cai": metal**0.35 * (0.6 + 0.5 * dwarf),
        "barium": 1.3 * metal**0.4 * giant * (1.0 - dwarf),
        "halpha": 0.85 * (1.0 - dwarf) + 0.35 * dwarf * np.exp(-2.0 * cool),
        "h_emission": activity,
        "tio_forest": 0.16 * tio * cool**1.2,
        "tio_haze": 0.62 * tio * cool**1.5,
        "metal_forest": 0.16 * metal**0.45 * np.exp(-0.25 * cool),
        "gravity_forest": 0.14 * (0.30 + np.exp(-0.28 * logg)),
    }
    return np.stack([np.broadcast_to(amount[name], teff.shape) for name in FEATURES], axis=1)
