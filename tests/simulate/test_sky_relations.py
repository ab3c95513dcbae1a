"""The mock's physics: smooth, finite, and carrying the signals that the forests must find."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.simulate import stars
from stellarscale.simulate.plan import SkyPlan
from stellarscale.simulate.sky import draw_stars


def dwarfs(teff, fe_h=0.0, logg=None):
    teff = np.atleast_1d(np.asarray(teff, dtype=float))
    fe_h = np.full_like(teff, fe_h)
    logg = stars.dwarf_logg(teff, fe_h, np.zeros_like(teff)) if logg is None else np.full_like(teff, logg)
    return stars.absolute_magnitudes(teff, logg, fe_h, np.full(teff.shape, stars.DWARF))


@pytest.fixture(scope="module")
def sky():
    return draw_stars(SkyPlan(rows=20_000, seed=11, chunk_rows=20_000), 0)


@pytest.mark.parametrize("kind", [stars.GIANT, stars.DWARF, stars.HOT_SUBDWARF, stars.WHITE_DWARF])
def test_every_band_is_finite_over_the_whole_range(kind):
    teff, logg, fe_h = np.meshgrid(np.geomspace(2500, 60000, 60), np.linspace(-0.5, 9, 20), [-3.5, -1, 0, 0.5])
    shape = (teff.ravel(), logg.ravel(), fe_h.ravel(), np.full(teff.size, kind))
    magnitudes = stars.absolute_magnitudes(*shape)
    assert tuple(magnitudes) == stars.BANDS
    assert all(np.isfinite(value).all() for value in magnitudes.values())


@pytest.mark.parametrize("blue, red", [("bp", "rp"), ("g", "rp"), ("g", "k"), ("v", "bp"), ("nuv", "g")])
def test_colours_fall_with_temperature(blue, red):
    m = dwarfs(np.geomspace(3050, 49000, 400))
    assert (np.diff(m[blue] - m[red]) < 1e-9).all()


def test_hotter_dwarfs_are_brighter():
    assert (np.diff(dwarfs(np.geomspace(3050, 20000, 300))["g"]) < 0).all()


def test_relations_are_smooth():
    m = dwarfs(np.geomspace(3000, 45000, 4000))
    for band in stars.BANDS:
        assert np.abs(np.diff(m[band], 2)).max() < 0.01, band


def test_the_sun_looks_like_the_sun():
    m = dwarfs(5772.0, logg=4.438)
    assert m["g"][0] == pytest.approx(4.67, abs=0.05)
    assert (m["bp"] - m["rp"])[0] == pytest.approx(0.82, abs=0.02)
    assert m["k"][0] == pytest.approx(3.27, abs=0.1)


def test_a_white_dwarf_is_faint_and_a_clump_giant_bright():
    one = np.ones(1)
    white = stars.absolute_magnitudes(12000 * one, 8 * one, 0 * one, np.array([stars.WHITE_DWARF]))
    clump = stars.absolute_magnitudes(4730 * one, 2.45 * one, 0 * one, np.array([stars.GIANT]))
    assert 10.5 < white["g"][0] < 12.5
    assert 0.0 < clump["g"][0] < 1.2


@pytest.mark.parametrize("teff", [4500, 5000, 5800, 6400])
def test_metallicity_reddens_u_and_v_monotonically(teff):
    fe_h = np.linspace(-3, 0.5, 60)
    m = stars.absolute_magnitudes(np.full(60, teff), np.full(60, 4.4), fe_h, np.full(60, stars.DWARF))
    for blue, red in (("u", "v"), ("v", "bp"), ("nuv", "g")):
        assert (np.diff(m[blue] - m[red]) > 0).all()
    assert np.ptp(m["u"] - m["bp"]) > 0.25
    assert np.ptp(m["bp"] - m["rp"]) < 0.1


@pytest.mark.parametrize("teff", [4000, 5000, 6500, 8000])
def test_low_gravity_reddens_u_minus_v(teff):
    logg = np.linspace(0.5, 5.0, 40)
    m = stars.absolute_magnitudes(np.full(40, teff), logg, np.zeros(40), np.full(40, stars.DWARF))
    assert (np.diff(m["u"] - m["v"]) < 0).all()


def test_giant_branch_cools_upwards_and_with_metals():
    logg = np.linspace(0, 4, 50)
    assert (np.diff(stars.giant_teff(logg, np.zeros(50))) > 0).all()
    assert (np.diff(stars.giant_teff(np.full(50, 2.0), np.linspace(-3, 0.5, 50))) < 0).all()


def test_metal_signal_is_monotone_and_saturates():
    slope = np.diff(stars.metal_signal(np.linspace(-3, 0.5, 100)))
    assert (slope > 0).all()
    assert slope[0] < 0.3 * slope[-1]


def test_relations_clip_beyond_their_ends():
    assert stars.Relations(np.array([1000.0]))("bp_rp")[0] == pytest.approx(3.7)
    assert stars.Relations(np.array([90000.0]))("bp_rp")[0] == pytest.approx(-0.5)


def fit(design, target):
    coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
    return target - design @ coefficients


def test_dereddened_colours_recover_the_parameters_of_dwarfs(sky):
    keep = (sky["kind"] == stars.DWARF) & (sky["teff_k"] > 4200) & (sky["teff_k"] < 7000)
    m = {b: (sky[f"mag_{b}"] - stars.EXTINCTION[b] * sky["ebv"])[keep] for b in stars.BANDS}
    x, y, w = m["bp"] - m["rp"], m["v"] - m["bp"], m["u"] - m["v"]
    one = np.ones_like(x)
    teff, fe_h = sky["teff_k"][keep], sky["fe_h"][keep]
    assert fit(np.c_[one, x, x**2, x**3], teff).std() < 0.12 * teff.std()
    without = fit(np.c_[one, x, x**2, x**3, m["g"] - m["k"]], fe_h).std()
    with_uv = fit(np.c_[one, x, x**2, x**3, y, w, y * x, w * x, y**2, w**2], fe_h).std()
    assert with_uv < 0.5 * without


def test_u_minus_v_tells_giants_from_dwarfs_of_the_same_colour(sky):
    x = sky["abs_bp"] - sky["abs_rp"]
    near = (x > 0.95) & (x < 1.15) & (np.abs(sky["fe_h"]) < 0.3)
    colour = sky["abs_u"] - sky["abs_v"]
    giants, dwarf = near & (sky["kind"] == stars.GIANT), near & (sky["kind"] == stars.DWARF)
    assert np.median(colour[giants]) > np.median(colour[dwarf]) + 0.1


def test_classes_fall_where_the_paper_draws_its_lines(sky):
    x, g = sky["abs_bp"] - sky["abs_rp"], sky["abs_g"]
    white, giant = g > 3.333 * x + 8.333, g < -(x**2) + 6.5 * x - 1.8
    assert (white == (sky["kind"] == stars.WHITE_DWARF)).mean() > 0.999
    assert (giant == (sky["kind"] == stars.GIANT)).mean() > 0.99


def test_the_mix_of_stars_is_that_of_the_survey(sky):
    share = np.bincount(sky["kind"], minlength=4) / len(sky["kind"])
    assert 0.06 < share[stars.GIANT] < 0.11
    assert 0.01 < share[stars.HOT_SUBDWARF] + share[stars.WHITE_DWARF] < 0.05
    bright = np.percentile(sky["mag_g"], [1, 90])
    assert bright[0] > 9.0
    assert bright[1] < 19.0
    assert sky["fe_h"].min() >= -3.2
    assert (sky["fe_h"] < -1.0).mean() > 0.02
    assert (sky["abs_bp"] - sky["abs_rp"] > 1.598).mean() > 0.02
