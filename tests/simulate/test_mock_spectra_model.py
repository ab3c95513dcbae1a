"""The spectra of mock M stars: smooth in their labels, told apart by the features that tell real ones apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.simulate.mbands import BANDS, FEATURES, RESOLUTION, Band, band_profile, feature_profiles
from stellarscale.simulate.mplan import MStarPlan
from stellarscale.simulate.mspectra import feature_amounts, m_star_flux
from stellarscale.simulate.mstars import colour_and_magnitude, draw_m_stars, draw_visits, subclass

GRID = WaveGrid.covering(3700.0, 9100.0)
WAVE = GRID.wave_aa
RED = WaveGrid.covering(6000.0, 8800.0)


def index(flux, ends, side):
    """Mean flux of a feature over that of its pseudo-continuum."""
    return flux[:, GRID.window(*ends)].mean(axis=1) / flux[:, GRID.window(*side)].mean(axis=1)


def tio5(flux):
    return index(flux, (7128.0, 7137.0), (7044.0, 7048.0))


def cah3(flux):
    return index(flux, (6962.0, 6992.0), (7044.0, 7048.0))


def sodium(flux):
    return index(flux, (8180.0, 8203.0), (8150.0, 8170.0))


def calcium(flux):
    return index(flux, (8540.0, 8549.0), (8555.0, 8570.0))


def test_shape_type_and_scale():
    flux = m_star_flux(WAVE, [3200.0, 4000.0], [5.0, 4.7], 0.0)
    assert flux.shape == (2, GRID.n_pix)
    assert flux.dtype == np.float32
    assert (flux > 0).all()
    assert (flux < 1.6).all()


@given(teff=st.floats(3050, 4250), logg=st.floats(-0.4, 5.3), m_h=st.floats(-1.2, 0.7), alpha=st.floats(-0.1, 0.3))
@settings(max_examples=30, deadline=None)
def test_small_steps_make_small_changes(teff, logg, m_h, alpha):
    flux = m_star_flux(
        WAVE, [teff, teff + 1.0, teff, teff], [logg, logg, logg + 0.01, logg], [m_h, m_h, m_h, m_h + 0.01], alpha=alpha
    )
    change = np.abs(np.log(flux[1:]) - np.log(flux[0])).max(axis=1)
    assert (change > 1e-5).all()
    assert (change < 0.03).all()


def test_a_spectrum_does_not_depend_on_its_neighbours_or_its_grid():
    one = m_star_flux(WAVE, [3500.0], [4.8], [0.1])[0]
    many = m_star_flux(WAVE, [3900.0, 3500.0], [1.0, 4.8], [-0.2, 0.1])[1]
    np.testing.assert_allclose(many, one, rtol=1e-5)
    part = m_star_flux(WAVE[1000:1100], [3500.0], [4.8], [0.1])[0]
    np.testing.assert_allclose(part, one[1000:1100], rtol=1e-5)


def test_tio_deepens_from_4150_to_3100_kelvin():
    teff = np.arange(4150.0, 3099.0, -50.0)
    depth = tio5(m_star_flux(WAVE, teff, 4.8, 0.0))
    assert (np.diff(depth) < 0).all()
    assert depth[0] > 0.75
    assert depth[-1] < 0.55


def test_cah_and_sodium_mark_dwarfs_and_the_triplet_marks_giants():
    dwarf, giant = m_star_flux(WAVE, [3600.0, 3600.0], [4.8, 0.5], 0.0)[:, None, :]
    assert cah3(dwarf) < cah3(giant) - 0.05
    assert sodium(dwarf) < sodium(giant) - 0.1
    assert calcium(giant) < calcium(dwarf) - 0.08


def test_the_ratio_of_tio_to_cah_follows_the_metallicity():
    m_h = np.linspace(-1.0, 0.6, 9)
    flux = m_star_flux(WAVE, 3500.0, 4.8, m_h)
    ratio = np.log(tio5(flux)) / np.log(cah3(flux))
    assert (np.diff(ratio) > 0).all()
    assert ratio[-1] > 1.3 * ratio[0]


def test_emission_and_alpha_are_what_the_labels_do_not_tell():
    quiet, active, rich = m_star_flux(WAVE, [3400.0] * 3, 4.9, 0.0, activity=[0.0, 1.0, 0.0], alpha=[0.0, 0.0, 0.2])
    h_alpha = GRID.window(6562.0, 6567.0)
    assert active[h_alpha].max() > 1.5 * quiet[h_alpha].max()
    assert tio5(rich[None]) < tio5(quiet[None])


def test_every_feature_has_a_profile_and_an_amount():
    assert feature_profiles(WAVE).shape == (len(FEATURES), GRID.n_pix)
    amounts = feature_amounts(*(np.array([v]) for v in (3500.0, 4.8, 0.0, 0.0, 0.3)))
    assert amounts.shape == (1, len(FEATURES))
    assert (amounts > 0).all()
    assert not feature_profiles(WAVE).flags.writeable


@pytest.mark.parametrize("band", [band for bands in BANDS.values() for band in bands], ids=str)
def test_band_heads_are_a_convolved_step(band: Band):
    sigma = band.head_aa / RESOLUTION / 2.3548
    x = np.arange(-40.0, 400.0, 0.05)
    step = np.where(x >= 0, np.exp(-np.maximum(x, 0) / band.fade_aa), 0.0)
    kernel = np.exp(-0.5 * (np.arange(-10.0, 10.0001, 0.05) / sigma) ** 2)
    smooth = np.convolve(step, kernel / kernel.sum(), "same")
    inner = slice(400, -400)
    profile = band_profile(band.head_aa + x, band)
    np.testing.assert_allclose(profile[inner], smooth[inner], atol=0.02)


def test_nearest_spectra_have_near_labels():
    sky = draw_m_stars(MStarPlan(1200, 3), 1200)
    labels = {name: sky[name] for name in ("teff", "logg", "m_h", "alpha", "activity")}
    flux = m_star_flux(RED.wave_aa, **labels)
    flux += np.median(flux, axis=1)[:, None] / 60.0 * np.random.default_rng(1).standard_normal(flux.shape)
    x = np.linspace(-1.0, 1.0, RED.n_pix)
    basis = np.linalg.qr(np.stack([x**0, x, x**2], axis=1))[0]
    log = np.log(np.maximum(flux, 0.05))
    log -= (log @ basis) @ basis.T
    old, new = log[:800], log[800:]
    distance = (old**2).sum(axis=1)[None, :] - 2.0 * new @ old.T
    near = np.argsort(distance, axis=1)[:, :5]
    for name, limit, wanted in (("teff", 60.0, 0.98), ("logg", 0.12, 0.99), ("m_h", 0.12, 0.85)):
        guess, true = sky[name][:800][near].mean(axis=1), sky[name][800:]
        assert np.corrcoef(guess, true)[0, 1] > wanted
        # Not trivially exact either: the nuisances and the noise leave a scatter.
        assert limit / 30.0 < 1.4826 * np.median(np.abs(guess - true)) < limit


def test_the_population_is_that_of_the_survey():
    sky = draw_m_stars(MStarPlan(4000, 8), 4000)
    dwarf = sky["kind"] == 1
    assert 0.86 < dwarf.mean() < 0.94
    assert (sky["teff"] > 3090).all()
    assert (sky["teff"] < 4160).all()
    assert sky["logg"].min() > -0.31
    assert sky["logg"].max() < 5.11
    assert ((sky["m_h"] >= -1.0) & (sky["m_h"] <= 0.7)).all()
    inside = (sky["abs_g"][dwarf] > 7) & (sky["abs_g"][dwarf] < 12) & (sky["distance_pc"][dwarf] < 2000)
    assert inside.mean() > 0.95
    giants = ~dwarf
    assert ((sky["bp_rp"][giants] > 1.25) & (sky["bp_rp"][giants] < 4.0)).mean() > 0.95
    assert 0.4 < (sky["distance_pc"][giants] < 5000).mean() < 0.9
    colour, m_g = colour_and_magnitude(sky["teff"], sky["logg"], sky["m_h"], sky["kind"])
    assert 0.01 < (np.abs(sky["abs_g"] - m_g) > 1.3).mean() < 0.03
    assert np.abs(sky["bp_rp"] - colour).max() < 0.4
    assert 0.01 < sky["variable"].mean() < 0.03
    assert len(np.unique(sky["source_id"])) == 4000
    modulus = 5 * np.log10(sky["distance_pc"]) - 5
    np.testing.assert_allclose(sky["mag_g"] - modulus - 2.364 * sky["ebv"], sky["abs_g"], atol=1e-9)


def test_a_quarter_of_the_stars_is_seen_again():
    star = draw_visits(MStarPlan(5000, 1))
    visits = np.bincount(star)
    assert len(star) == 5000
    assert 0.2 < (visits > 1).mean() < 0.3
    assert visits.max() <= 6
    assert (visits >= 3).sum() > 100


def test_subclasses_run_with_temperature():
    names = subclass(np.array([4100.0, 3600.0, 3100.0, 3600.0]), np.array([1, 1, 1, 0]))
    assert names.tolist() == ["dM0", "dM2", "dM5", "gM2"]
