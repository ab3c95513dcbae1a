"""The stars of the mock images: primaries out of the mock Galaxy in SkyMapper's sky, neighbours beside half of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.healpix import pixel_of
from stellarscale.settings.stamps import BANDS
from stellarscale.simulate import dust, galaxy, stars
from stellarscale.simulate.gaia import parallax_error_mas
from stellarscale.simulate.observe import MAS, select
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.sky import draw_stars
from stellarscale.simulate.smss_bands import absolute_skymapper, apparent
from stellarscale.simulate.smss_plan import FIRST_OBJECT, SLOTS, ImagePlan

NORTH_END_DEG = 5.0
G_RANGE = (10.2, 15.8)
TEFF_RANGE_K = (3950.0, 8050.0)
CROWDED_SHARE = 0.5
NEIGHBOUR_CHANCE = (0.55, 0.30, 0.15)
NEAR_ARCSEC, FAR_ARCSEC = (2.0, 14.0), (16.0, 24.0)
FAR_SHARE = 0.15
FAINTER_MAG = (-0.2, 3.0)
# Giants, those of gravities below 1.1 above all, and metal-poor stars are taken more often than chance would have it.
_MORE_GIANTS, _MORE_TIPS, _MORE_POOR = 2.2, 15.0, 3.0


def draw_block(plan: ImagePlan, block: int) -> Columns:
    """Draw the stars of one block.

    Parameters
    ----------
    plan : ImagePlan
        Size and seed.
    block : int
        Which block.

    Returns
    -------
    dict of ndarray
        The columns of :func:`stellarscale.simulate.sky.draw_stars` and ``object_id``, ``group`` (number of the
        primary within the block), ``slot`` (0 is the primary), true reddened magnitudes ``true_<band>``. Stars of a
        group follow each other, the primary first.
    """
    rng = plan.rng("choose", block)
    candidates = draw_stars(plan.candidates, block)
    absolute = absolute_skymapper(candidates, rng)
    for band, values in absolute.items():
        candidates[f"sm_{band}"] = values
        candidates[f"true_{band}"] = apparent(values, band, candidates["distance_pc"], candidates["ebv"])
    first, last = plan.bounds(block)
    fit = _fit(candidates)
    primary = _primaries(candidates, fit, last - first, rng)
    group, slot, near = _neighbours(last - first, rng)
    others = rng.choice(np.flatnonzero(fit), len(group))
    sky = select(candidates, np.where(slot == 0, primary[group], others))
    sky |= {"group": group, "slot": slot, "star_id": SLOTS * (first + group) + slot}
    sky["object_id"] = FIRST_OBJECT + sky["star_id"]
    _put_beside(sky, near, rng)
    sky["source_id"] = (pixel_of(sky["ra"], sky["dec"], 12) << 35) | (4 * sky["star_id"])
    sky["primary"] = np.full(len(group), -1, dtype=np.int64)
    return sky


def _fit(sky: Columns) -> NDArray[np.bool_]:
    """Single dwarfs and giants of the field within the wanted temperatures and magnitudes, anywhere in the sky."""
    field = (sky["kind"] <= stars.DWARF) & (sky["cluster"] < 0) & (sky["primary"] < 0)
    teff, g = sky["teff_k"], sky["true_g"]
    field &= (teff > TEFF_RANGE_K[0]) & (teff < TEFF_RANGE_K[1])
    return field & (g > G_RANGE[0]) & (g < G_RANGE[1])


def _primaries(sky: Columns, fit: NDArray, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of ``n`` stars in the south: bright ones as often as faint, few with parallaxes worse than 30 %."""
    rows = np.flatnonzero(fit & (sky["dec"] < NORTH_END_DEG))
    star = select(sky, rows)
    weight = 10.0 ** (-0.22 * (star["true_g"] - G_RANGE[0]))
    weight *= np.where(star["parallax_mas"] > 3.6 * parallax_error_mas(star["mag_g"]), 1.0, 0.05)
    weight *= np.where(star["logg"] < 3.5, _MORE_GIANTS, 1.0) * np.where(star["logg"] < 1.1, _MORE_TIPS, 1.0)
    weight *= np.where(star["fe_h"] < -1.0, _MORE_POOR, 1.0)
    return rng.choice(rows, n, replace=False, p=weight / weight.sum())


def _neighbours(n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """Group and slot of every star, and whether its group is crowded (neighbours within 15 arcsec)."""
    crowded = rng.random(n) < CROWDED_SHARE
    count = rng.choice(np.arange(1, SLOTS), n, p=NEIGHBOUR_CHANCE)
    far = rng.random(n) < FAR_SHARE
    count = np.where(crowded, count, far.astype(count.dtype))
    group = np.repeat(np.arange(n), count + 1)
    slot = np.arange(len(group)) - np.repeat(np.cumsum(count + 1) - count - 1, count + 1)
    return group, slot, crowded[group]


def _put_beside(sky: Columns, near: NDArray, rng: np.random.Generator) -> None:
    """Move the neighbours to their primaries, at the distances that their magnitudes then ask for."""
    n = len(sky["group"])
    rows = np.flatnonzero(sky["slot"] > 0)
    main = rows - sky["slot"][rows]
    arcsec = np.where(near, rng.uniform(*NEAR_ARCSEC, n), rng.uniform(*FAR_ARCSEC, n))[rows]
    # A sector each: neighbours of one star are more than 2 arcsec apart.
    turn = (
        rng.uniform(0.0, 1.0, n)[sky["group"][rows]] + (sky["slot"][rows] + rng.uniform(-0.25, 0.25, len(rows))) / 3.0
    )
    angle, fainter = 2.0 * np.pi * turn, rng.uniform(*FAINTER_MAG, n)[rows]
    east, north = galaxy.tangent_axes(sky["ra"][main], sky["dec"][main])
    step = (arcsec * 1000.0 * MAS)[:, None] * (east * np.sin(angle)[:, None] + north * np.cos(angle)[:, None])
    sky["ra"][rows], sky["dec"][rows] = galaxy.spherical(galaxy.unit_vector(sky["ra"][main], sky["dec"][main]) + step)
    sky["l"], sky["b"] = galaxy.equatorial_to_galactic(sky["ra"], sky["dec"])
    wanted, nearer = sky["true_g"][main] + fainter, sky["distance_pc"][rows].copy()
    star = {"l": sky["l"][rows], "b": sky["b"][rows], "sm_g": sky["sm_g"][rows], "distance_pc": nearer}
    for _ in range(4):
        seen = apparent(star["sm_g"], "g", nearer, dust.e_bv(star["l"], star["b"], nearer))
        nearer *= 10.0 ** (0.2 * (wanted - seen))
    for name in ("pmra", "pmdec"):
        sky[name][rows] *= np.minimum(sky["distance_pc"][rows] / nearer, 3.0)
    sky["distance_pc"][rows] = nearer
    _shine_again(sky)


def _shine_again(sky: Columns) -> None:
    """Parallax, reddening and apparent magnitudes of all stars from their distances."""
    sky["parallax_mas"] = 1000.0 / sky["distance_pc"]
    sky["ebv"] = dust.e_bv(sky["l"], sky["b"], sky["distance_pc"])
    modulus = 5.0 * np.log10(sky["distance_pc"]) - 5.0
    for band in stars.BANDS:
        sky[f"mag_{band}"] = sky[f"abs_{band}"] + modulus + stars.EXTINCTION[band] * sky["ebv"]
    for band in BANDS:
        sky[f"true_{band}"] = apparent(sky[f"sm_{band}"], band, sky["distance_pc"], sky["ebv"])
