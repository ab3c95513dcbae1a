"""The mock's M stars: dwarfs and giants on plausible sequences, and the visits of the survey to each of them.

The relations are smooth imitations by eye of the Kiel diagram and the colour-magnitude diagram that paper II shows
(its Figs 2, 3 and 11), good enough to try its selection on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.healpix import pixel_of
from stellarscale.simulate import dust, galaxy, stars
from stellarscale.simulate.mplan import MStarPlan
from stellarscale.simulate.plan import Columns

GIANT_SHARE = 0.13
VARIABLE_SHARE = 0.02
BINARY_SHARE = 0.08
STRAY_SHARE = 0.02
DEC_RANGE_DEG = (-10.0, 60.0)
REPEAT_SHARE = 0.25
# Visits of a star that is seen again: 2, 3, 4, 5 or 6.
REPEAT_CHANCE = (0.45, 0.25, 0.15, 0.09, 0.06)

# BP-RP and M_G (mag) of solar metallicity against Teff (K); giants also M_G against BP-RP.
_TEFF = (3000.0, 3100.0, 3300.0, 3500.0, 3800.0, 4150.0, 4300.0)
_DWARF_BP_RP = (3.30, 3.05, 2.68, 2.36, 2.00, 1.66, 1.52)
_GIANT_BP_RP = (5.20, 4.60, 3.55, 2.80, 2.15, 1.68, 1.52)
_GIANT_COLOUR = (1.40, 1.70, 2.00, 2.50, 3.00, 3.50, 4.00, 5.00)
_GIANT_M_G = (0.40, -0.60, -1.30, -1.95, -2.15, -2.00, -1.60, -0.50)
# Magnitudes lost per unit of E(B-V) to those of the mock sky's bands.
_NEAR_INFRARED = {"j": (0.55, 0.80), "h": (0.95, 1.02), "k": (1.02, 1.10)}


def draw_m_stars(plan: MStarPlan, n: int) -> Columns:
    """True stars, ready for the mock surveys' functions.

    Parameters
    ----------
    plan : MStarPlan
        For the random stream.
    n : int
        Number of stars.

    Returns
    -------
    dict of ndarray
        ``star_id``, ``source_id``, ``kind`` (0 giant, 1 dwarf), ``teff`` (K), ``logg``, ``m_h``, ``alpha``,
        ``activity``, position, motion, ``rv_kms``, ``distance_pc``, ``ebv``, true ``mag_<band>`` and
        ``abs_g``, ``bp_rp``.
    """
    rng = plan.rng("stars")
    # Half of the sky has the right declination: draw enough candidates, keep the first n.
    drawn = 3 * n + 200
    sky: Columns = {"kind": np.where(rng.random(drawn) < GIANT_SHARE, stars.GIANT, stars.DWARF).astype(np.int8)}
    sky |= _labels(sky["kind"], rng)
    sky |= _brightness(sky, rng)
    sky |= _places(sky, rng)
    low, high = DEC_RANGE_DEG
    rows = np.flatnonzero((sky["dec"] > low) & (sky["dec"] < high))[:n]
    sky = {name: values[rows] for name, values in sky.items()}
    sky["star_id"] = np.arange(n, dtype=np.int64)
    sky["source_id"] = (pixel_of(sky["ra"], sky["dec"], 12) << 35) | (4 * sky["star_id"])
    sky["primary"] = np.full(n, -1, dtype=np.int64)
    sky["variable"] = rng.random(n) < VARIABLE_SHARE
    return sky


def _labels(kind: NDArray, rng: np.random.Generator) -> Columns:
    """Teff, log g, [M/H] within paper II's ranges, and what they do not tell: [alpha/M] and activity."""
    n, giant = len(kind), kind == stars.GIANT
    metal_poor = rng.random(n) < 0.08
    m_h = np.where(giant, rng.normal(-0.30, 0.28, n), rng.normal(-0.10, 0.22, n))
    m_h = np.clip(np.where(metal_poor, rng.normal(-0.6, 0.2, n), m_h), -1.0, 0.65)
    dwarf_teff = rng.triangular(3100.0, 3750.0, 4150.0, n)
    giant_teff = rng.triangular(3250.0, 3900.0, 4150.0, n)
    teff = np.where(giant, giant_teff, dwarf_teff)
    logg = sequence_logg(teff, m_h, kind) + np.where(giant, 0.06, 0.03) * rng.standard_normal(n)
    alpha = np.clip(-0.15 * m_h, -0.05, 0.2) + rng.normal(0.0, 0.03, n)
    active = (rng.random(n) < np.clip((4000.0 - teff) / 2500.0, 0.02, 0.4)) & ~giant
    return {
        "teff": teff,
        "logg": np.where(giant, np.clip(logg, -0.3, 2.3), np.clip(logg, 4.3, 5.1)),
        "m_h": m_h,
        "alpha": alpha,
        "activity": np.where(active, rng.gamma(2.0, 0.35, n), 0.0),
    }


def sequence_logg(teff: NDArray, m_h: NDArray, kind: NDArray | int) -> NDArray[np.float64]:
    """log g of the mock's giant branch (``kind`` 0) or main sequence (1), without scatter."""
    dwarf = 4.63 + 0.44 * np.maximum((4150.0 - teff) / 1050.0, 0.0) ** 1.2 - 0.07 * m_h
    giant = 1.60 + 0.0021 * (teff - 4100.0) + 0.55 * m_h
    return np.where(np.asarray(kind) == stars.GIANT, giant, dwarf)


def colour_and_magnitude(
    teff: NDArray, logg: NDArray, m_h: NDArray, kind: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """BP-RP and M_G (mag) of stars without scatter.

    Metal-rich dwarfs are redder and, at one colour, brighter; a giant of lower gravity is brighter.
    """
    giant = kind == stars.GIANT
    dwarf_colour = np.interp(teff, _TEFF, _DWARF_BP_RP) + 0.12 * m_h
    giant_colour = np.interp(teff, _TEFF, _GIANT_BP_RP) + 0.10 * m_h
    dwarf_m_g = 7.45 + 3.15 * (dwarf_colour - 1.65) - 0.8 * m_h
    brighter = 1.5 * (logg - sequence_logg(teff, m_h, stars.GIANT))
    giant_m_g = np.interp(giant_colour, _GIANT_COLOUR, _GIANT_M_G) + brighter
    return np.where(giant, giant_colour, dwarf_colour), np.where(giant, giant_m_g, dwarf_m_g)


def _brightness(sky: Columns, rng: np.random.Generator) -> Columns:
    """Colour, absolute G with unresolved pairs, and the distance that an apparent magnitude implies."""
    n, giant = len(sky["kind"]), sky["kind"] == stars.GIANT
    colour, m_g = colour_and_magnitude(sky["teff"], sky["logg"], sky["m_h"], sky["kind"])
    colour = colour + np.where(giant, 0.06, 0.04) * rng.standard_normal(n)
    pair = (rng.random(n) < BINARY_SHARE) & ~giant
    m_g = m_g + np.where(giant, 0.35, 0.22) * rng.standard_normal(n) - np.where(pair, rng.uniform(0.1, 0.75, n), 0.0)
    # Stars off the sequences, as blends and wrong classes are: what a cut in the diagram is for.
    stray = rng.random(n) < STRAY_SHARE
    m_g = m_g + np.where(stray, rng.choice([-1.0, 1.0], n) * rng.uniform(1.2, 2.5, n), 0.0)
    apparent = np.where(giant, rng.normal(12.2, 1.1, n).clip(9.0, 15.5), rng.normal(15.6, 1.2, n).clip(11.0, 17.9))
    return {"bp_rp": colour, "abs_g": m_g, "distance_pc": 10.0 ** (0.2 * (apparent - m_g) + 1.0)}


def _places(sky: Columns, rng: np.random.Generator) -> Columns:
    """Direction, motion, reddening and apparent magnitudes."""
    population = np.where(sky["m_h"] < -0.45, galaxy.THICK, galaxy.THIN)
    l_deg, b_deg = galaxy.draw_directions(sky["distance_pc"], population, rng)
    ra, dec = galaxy.galactic_to_equatorial(l_deg, b_deg)
    pmra, pmdec, rv = galaxy.draw_motions(ra, dec, sky["distance_pc"], population, rng)
    out: Columns = {"ra": ra, "dec": dec, "l": l_deg, "b": b_deg, "pmra": pmra, "pmdec": pmdec, "rv_kms": rv}
    out["parallax_mas"] = 1000.0 / sky["distance_pc"]
    ebv = dust.e_bv(l_deg, b_deg, sky["distance_pc"])
    modulus = 5.0 * np.log10(sky["distance_pc"]) - 5.0
    colour, m_g = sky["bp_rp"], sky["abs_g"]
    absolute = {"g": m_g, "bp": m_g + 0.62 * colour - 0.15, "rp": m_g - 0.38 * colour - 0.15}
    absolute |= {band: m_g - zero - slope * colour for band, (zero, slope) in _NEAR_INFRARED.items()}
    out |= {f"mag_{band}": mag + modulus + stars.EXTINCTION[band] * ebv for band, mag in absolute.items()}
    return out | {"ebv": ebv}


def draw_visits(plan: MStarPlan) -> NDArray[np.int64]:
    """Star number of each spectrum, shape (rows,), in ascending order; a quarter of the stars is seen again."""
    rng = plan.rng("visits")
    again = rng.random(plan.rows) < REPEAT_SHARE
    visits = np.where(again, rng.choice(np.arange(2, 7), plan.rows, p=REPEAT_CHANCE), 1)
    return np.repeat(np.arange(plan.rows, dtype=np.int64), visits)[: plan.rows]


def subclass(teff: NDArray, kind: NDArray) -> NDArray[np.str_]:
    """Spectral subclass as the survey's pipeline writes it: ``dM2`` or ``gM4``, cooler is later."""
    number = np.clip(np.round((3950.0 - teff) / 170.0), 0, 9).astype(int)
    letter = np.where(kind == stars.GIANT, "gM", "dM")
    return np.char.add(letter, number.astype(str))
