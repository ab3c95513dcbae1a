"""One chunk of the true sky: who the stars are, where they stand, how they move, how bright they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.healpix import pixel_of
from stellarscale.simulate import dust, galaxy, stars
from stellarscale.simulate.plan import Columns, SkyPlan

G_BRIGHT, G_FAINT, COUNT_SLOPE = 9.0, 18.0, 0.25
TURN_OFF_K = np.array([np.inf, 6250.0, 6550.0, np.inf])
TURN_OFF_SOFTNESS_K = 120.0
PAIR_SHARE = 0.02
PAIR_SEP_ARCSEC = (0.5, 7.0)

# Share, mean (K) and sigma (K) of the Gaussians that make the temperatures of a magnitude-limited sample.
_DWARF_TEFF = ((0.66, 5750.0, 520.0), (0.21, 4800.0, 450.0), (0.05, 3600.0, 250.0), (0.08, 7300.0, 900.0))


def draw_stars(plan: SkyPlan, chunk: int) -> Columns:
    """Draw the true stars of one chunk.

    Parameters
    ----------
    plan : SkyPlan
        Size and seed.
    chunk : int
        Which chunk.

    Returns
    -------
    dict of ndarray
        ``star_id``, ``ra``, ``dec`` (deg, ICRS, epoch 2016.0), ``l``, ``b``, ``distance_pc``,
        ``parallax_mas``, ``pmra``, ``pmdec`` (mas/yr), ``rv_kms``, ``teff_k``, ``logg``, ``fe_h``, ``ebv``,
        ``kind``, ``cluster`` (index into ``galaxy.CLUSTERS``, -1 in the field), ``primary`` (row of the
        star it is a close companion of, else -1), absolute magnitudes ``abs_<band>`` and apparent, reddened
        magnitudes ``mag_<band>``.
    """
    first, last = plan.bounds(chunk)
    rng = plan.rng(chunk, "stars")
    sky: Columns = {"star_id": np.arange(first, last, dtype=np.int64)}
    _draw_kinds(sky, rng)
    _draw_members(sky, plan, chunk, rng)
    _place(sky, rng)
    _pair_up(sky, plan.rng(chunk, "pairs"))
    _shine(sky, rng)
    return sky


def _draw_kinds(sky: Columns, rng: np.random.Generator) -> None:
    """Apparent magnitude before extinction, class, population, [Fe/H], Teff and logg of field stars."""
    n = len(sky["star_id"])
    faint_to_bright = 10.0 ** (-COUNT_SLOPE * (G_FAINT - G_BRIGHT))
    u = rng.random(n)
    g0 = G_FAINT + np.log10(u + (1.0 - u) * faint_to_bright) / COUNT_SLOPE
    kind = _draw_class(g0, rng)
    teff, logg = np.where(kind == stars.GIANT, 4800.0, _dwarf_teff(n, rng)), _giant_logg(n, rng)
    hot = np.exp(rng.normal(0.0, 1.0, n))
    teff = np.where(kind == stars.HOT_SUBDWARF, np.clip(28000.0 * hot**0.12, 21000.0, 40000.0), teff)
    teff = np.where(kind == stars.WHITE_DWARF, np.clip(12000.0 * hot**0.35, 5500.0, 45000.0), teff)
    logg = np.where(kind == stars.HOT_SUBDWARF, rng.normal(5.6, 0.2, n), logg)
    logg = np.where(kind == stars.WHITE_DWARF, rng.normal(8.0, 0.12, n), logg)
    logg = np.where(kind == stars.DWARF, stars.dwarf_logg(teff, np.zeros(n), np.zeros(n)), logg)
    rough_g = stars.absolute_g(teff, logg, np.zeros(n), kind)
    sky["population"] = galaxy.draw_population(10.0 ** (0.2 * (g0 - rough_g) + 1.0), rng)
    sky.update(g0=g0, kind=kind, teff_k=teff, logg=logg, cluster=np.full(n, -1, dtype=np.int8))
    sky["fe_h"] = galaxy.draw_fe_h(sky["population"], rng)
    _settle(sky, rng)


def _draw_class(g0: NDArray, rng: np.random.Generator) -> NDArray[np.int8]:
    """Class of each star: giants dominate at the bright end, hot faint stars are absent there."""
    giant = 0.075 + 0.35 * np.exp(-(g0 - G_BRIGHT) / 2.0)
    faint = 1.0 / (1.0 + np.exp(-(g0 - 14.5) / 0.6))
    edges = np.cumsum([giant, 0.010 * faint, 0.014 * faint], axis=0)
    u = rng.random(len(g0))
    codes = (stars.GIANT, stars.HOT_SUBDWARF, stars.WHITE_DWARF)
    return np.select([u < edge for edge in edges], codes, stars.DWARF).astype(np.int8)


def _dwarf_teff(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    share, mean, sigma = np.array(_DWARF_TEFF).T
    part = np.searchsorted(np.cumsum(share), rng.random(n) * share.sum(), side="right")
    part = np.minimum(part, len(share) - 1)
    return np.clip(mean[part] + sigma[part] * rng.standard_normal(n), 3050.0, 11000.0)


def _giant_logg(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gravities of giants: a third in the red clump at 2.45, the rest rising to the base of the branch."""
    branch = 0.5 + 3.0 * np.sqrt(rng.random(n))
    return np.where(rng.random(n) < 0.33, rng.normal(2.45, 0.10, n), branch)


def _settle(sky: Columns, rng: np.random.Generator) -> None:
    """Make Teff and logg agree with the population and the metallicity."""
    n, kind = len(sky["kind"]), sky["kind"]
    dwarf, giant = kind == stars.DWARF, kind == stars.GIANT
    # A soft ceiling: old populations have no stars hotter than their turn-off.
    ceiling = TURN_OFF_K[sky["population"]]
    old = dwarf & np.isfinite(ceiling)
    room = (ceiling[old] - sky["teff_k"][old]) / TURN_OFF_SOFTNESS_K
    sky["teff_k"][old] = np.maximum(ceiling[old] - TURN_OFF_SOFTNESS_K * np.logaddexp(0.0, room), 3000.0)
    branch = stars.giant_teff(np.clip(sky["logg"], 0.0, 4.0), sky["fe_h"]) + rng.normal(0.0, 45.0, n)
    sky["teff_k"] = np.where(giant, branch, sky["teff_k"])
    main_sequence = stars.dwarf_logg(sky["teff_k"], sky["fe_h"], rng.random(n)) + rng.normal(0.0, 0.02, n)
    sky["logg"] = np.where(dwarf, main_sequence, sky["logg"])


def _draw_members(sky: Columns, plan: SkyPlan, chunk: int, rng: np.random.Generator) -> None:
    """Turn the first stars of the chunk into members of the clusters."""
    start = 0
    for index, cluster in enumerate(galaxy.CLUSTERS):
        n = plan.share(plan.cluster_members, chunk)
        rows = slice(start, start + n)
        start += n
        giant = rng.random(n) < cluster.giant_share
        sky["cluster"][rows], sky["population"][rows] = index, galaxy.CLUSTER
        sky["kind"][rows] = np.where(giant, stars.GIANT, stars.DWARF)
        sky["fe_h"][rows] = cluster.fe_h + rng.normal(0.0, 0.03, n)
        teff = rng.uniform(*cluster.dwarf_teff_k, n)
        logg = np.where(giant, rng.uniform(*cluster.giant_logg, n), 0.0)
        branch = stars.giant_teff(logg, sky["fe_h"][rows]) + rng.normal(0.0, 30.0, n)
        sky["teff_k"][rows] = np.where(giant, branch, teff)
        dwarf = stars.dwarf_logg(teff, sky["fe_h"][rows], rng.random(n))
        sky["logg"][rows] = np.where(giant, logg, dwarf)


def _place(sky: Columns, rng: np.random.Generator) -> None:
    """Distance, position, motion: the field by the Galaxy's density, members about their cluster's centre."""
    sky["absolute_g"] = stars.absolute_g(sky["teff_k"], sky["logg"], sky["fe_h"], sky["kind"])
    sky["distance_pc"] = np.maximum(10.0 ** (0.2 * (sky["g0"] - sky["absolute_g"]) + 1.0), 5.0)
    member = sky["cluster"] >= 0
    field = np.where(member, galaxy.HALO, sky["population"])
    l_deg, b_deg = galaxy.draw_directions(sky["distance_pc"], field, rng)
    sky["ra"], sky["dec"] = galaxy.galactic_to_equatorial(l_deg, b_deg)
    motions = galaxy.draw_motions(sky["ra"], sky["dec"], sky["distance_pc"], field, rng)
    sky["pmra"], sky["pmdec"], sky["rv_kms"] = motions
    for index, cluster in enumerate(galaxy.CLUSTERS):
        rows = np.flatnonzero(sky["cluster"] == index)
        _place_members(sky, rows, cluster, rng)
    sky["l"], sky["b"] = galaxy.equatorial_to_galactic(sky["ra"], sky["dec"])


def _place_members(sky: Columns, rows: NDArray, cluster: galaxy.Cluster, rng: np.random.Generator) -> None:
    n = len(rows)
    dx, dy, deep = rng.normal(0.0, cluster.radius_deg / 2.0, (3, n))
    sky["dec"][rows] = cluster.dec_deg + dy
    sky["ra"][rows] = (cluster.ra_deg + dx / np.cos(np.radians(cluster.dec_deg))) % 360.0
    sky["distance_pc"][rows] = cluster.distance_pc * (1.0 + np.radians(deep))
    spread = 250.0 / cluster.distance_pc
    sky["pmra"][rows] = cluster.pmra + rng.normal(0.0, min(spread, 0.15), n)
    sky["pmdec"][rows] = cluster.pmdec + rng.normal(0.0, min(spread, 0.15), n)
    sky["rv_kms"][rows] = cluster.rv_kms + rng.normal(0.0, 1.0, n)


def _pair_up(sky: Columns, rng: np.random.Generator) -> None:
    """Move a fiftieth of the field stars next to the star before them, 0.5 to 7 arcsec away.

    Half of the pairs are bound (same distance and motion), half are chance alignments. Every pair has two
    stars.
    """
    n = len(sky["star_id"])
    sky["primary"] = np.full(n, -1, dtype=np.int64)
    chosen = np.flatnonzero(rng.random(n // 2) < 2.0 * PAIR_SHARE) * 2 + 1
    chosen = chosen[(sky["cluster"][chosen] < 0) & (sky["cluster"][chosen - 1] < 0)]
    partner = chosen - 1
    sep = np.radians(rng.uniform(*PAIR_SEP_ARCSEC, len(chosen)) / 3600.0)
    angle = rng.uniform(0.0, 2.0 * np.pi, len(chosen))
    bound = rng.random(len(chosen)) < 0.5
    # A giant borrowed by a nearby primary would outshine every star of the sky.
    dimmed = sky["absolute_g"][chosen] + 5.0 * np.log10(sky["distance_pc"][partner]) - 5.0
    bound &= dimmed > G_BRIGHT
    east, north = galaxy.tangent_axes(sky["ra"][partner], sky["dec"][partner])
    step = east * (sep * np.sin(angle))[:, None] + north * (sep * np.cos(angle))[:, None]
    moved = galaxy.unit_vector(sky["ra"][partner], sky["dec"][partner]) + step
    sky["ra"][chosen], sky["dec"][chosen] = galaxy.spherical(moved)
    for name in ("l", "b"):
        sky[name][chosen] = sky[name][partner]
    for name in ("distance_pc", "pmra", "pmdec", "rv_kms", "fe_h"):
        sky[name][chosen[bound]] = sky[name][partner[bound]]
    sky["primary"][chosen] = partner


def _shine(sky: Columns, rng: np.random.Generator) -> None:
    """Extinction, absolute and apparent magnitudes, and the id by which Gaia will know the star."""
    sky["parallax_mas"] = 1000.0 / sky["distance_pc"]
    sky["ebv"] = dust.e_bv(sky["l"], sky["b"], sky["distance_pc"])
    modulus = 5.0 * np.log10(sky["distance_pc"]) - 5.0
    absolute = stars.absolute_magnitudes(sky["teff_k"], sky["logg"], sky["fe_h"], sky["kind"])
    for band, magnitude in absolute.items():
        # What the smooth relations leave out (abundances, rotation, activity) is a small scatter.
        scatter = 0.02 if band == "nuv" else 0.006 if band in ("u", "v") else 0.003
        magnitude = magnitude + scatter * rng.standard_normal(len(magnitude))
        sky[f"abs_{band}"] = magnitude
        sky[f"mag_{band}"] = magnitude + modulus + stars.EXTINCTION[band] * sky["ebv"]
    pixel = pixel_of(sky["ra"], sky["dec"], 12)
    sky["source_id"] = (pixel << 35) | (4 * sky["star_id"])
    for name in ("g0", "absolute_g"):
        del sky[name]
