from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord, angular_separation
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.match_loop import separation_loop
from reference.propagate_loop import propagate_loop

from stellarscale.kernels.sphere import propagate, separation_arcsec, unit_vectors

right_ascensions = st.floats(0.0, 360.0, exclude_max=True)
declinations = st.one_of(
    st.floats(-90.0, 90.0),
    st.floats(0.0, 1e-3).map(lambda x: 90.0 - x),
    st.floats(0.0, 1e-3).map(lambda x: x - 90.0),
)
seeds = st.integers(0, 2**32 - 1)


def stars(seed, n=40):
    """Positions all over the sky, a third of them within an arcminute of a pole or of RA 0."""
    rng = np.random.default_rng(seed)
    ra = rng.uniform(0.0, 360.0, n)
    dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n)))
    dec[: n // 6] = 90.0 - 10.0 ** rng.uniform(-9.0, -1.8, n // 6)
    dec[n // 6 : n // 4] = -90.0 + 10.0 ** rng.uniform(-9.0, -1.8, n // 4 - n // 6)
    ra[n // 4 : n // 3] = (rng.uniform(-1e-3, 1e-3, n // 3 - n // 4)) % 360.0
    return ra, dec, rng


def test_unit_vectors_of_the_axes():
    vectors = unit_vectors([0.0, 90.0, 180.0, 12.0, 300.0], [0.0, 0.0, 0.0, 90.0, -90.0])
    expected = [[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]]
    assert vectors.dtype == np.float64
    np.testing.assert_allclose(vectors, expected, atol=1.3e-16)


def test_unit_vectors_have_length_one_and_agree_with_astropy():
    ra, dec, _ = stars(1, 300)
    vectors = unit_vectors(ra, dec)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=3e-16)
    theirs = SkyCoord(ra * u.deg, dec * u.deg).cartesian.xyz.value.T
    np.testing.assert_allclose(vectors, theirs, atol=3e-16)


def test_unit_vectors_of_no_rows_have_three_columns():
    assert unit_vectors([], []).shape == (0, 3)


@given(right_ascensions, declinations, right_ascensions, declinations)
def test_separation_agrees_with_astropy_and_the_loop(ra1, dec1, ra2, dec2):
    ours = float(separation_arcsec(ra1, dec1, ra2, dec2))
    vincenty = angular_separation(*np.radians([ra1, dec1, ra2, dec2]))
    assert ours == pytest.approx(np.degrees(vincenty) * 3600.0, abs=1e-8)
    if ours < 3600.0 * 90.0:  # the chord loses its digits near the antipode
        assert ours == pytest.approx(separation_loop(ra1, dec1, ra2, dec2), abs=1e-9)


@given(right_ascensions, declinations, right_ascensions, declinations)
def test_separation_is_symmetric_to_the_last_bit(ra1, dec1, ra2, dec2):
    assert separation_arcsec(ra1, dec1, ra2, dec2) == separation_arcsec(ra2, dec2, ra1, dec1)


@given(right_ascensions, declinations)
def test_separation_from_itself_is_zero(ra, dec):
    assert separation_arcsec(ra, dec, ra, dec) == 0.0


@pytest.mark.parametrize("dec", [0.0, 45.0, 89.9, 89.9999999, -89.9999999])
@pytest.mark.parametrize("offset_arcsec", [1e-6, 1e-3, 1.0, 100.0])
def test_separation_along_declination(dec, offset_arcsec):
    other = dec - np.sign(dec or 1.0) * offset_arcsec / 3600.0
    assert separation_arcsec(33.0, dec, 33.0, other) == pytest.approx(offset_arcsec, abs=1e-9)


@pytest.mark.parametrize("distance_arcsec", [1e-3, 0.5, 60.0])
@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_separation_across_a_pole(pole, distance_arcsec):
    dec = pole - np.sign(pole) * distance_arcsec / 3600.0
    rounding = 1e-7 * distance_arcsec + 2e-10  # the plane's law, and a declination near 90 degrees
    assert separation_arcsec(10.0, dec, 190.0, dec) == pytest.approx(2 * distance_arcsec, abs=rounding)
    assert separation_arcsec(10.0, dec, 100.0, dec) == pytest.approx(2**0.5 * distance_arcsec, abs=rounding)


def test_separation_across_right_ascension_zero():
    assert separation_arcsec(359.99999, 0.0, 1e-5, 0.0) == pytest.approx(0.072, abs=1e-9)
    assert separation_arcsec(1e-5, 0.0, -1e-5, 0.0) == pytest.approx(0.072, abs=1e-9)


def test_separation_takes_any_turn_of_right_ascension():
    assert separation_arcsec(-10.0, 5.0, 350.0, 5.0) == 0.0
    assert separation_arcsec(370.0, 5.0, 10.0, 5.0) == 0.0
    assert separation_arcsec(-1e-20, 5.0, 0.0, 5.0) == 0.0


def test_separation_of_antipodes():
    assert separation_arcsec(20.0, 30.0, 200.0, -30.0) == pytest.approx(180.0 * 3600.0, abs=1e-9)
    assert separation_arcsec(0.0, 90.0, 0.0, -90.0) == pytest.approx(180.0 * 3600.0, abs=1e-9)
    off = separation_arcsec(20.0, 30.0, 200.0, -30.0 + 1.0 / 3600.0)
    assert off == pytest.approx(180.0 * 3600.0 - 1.0, abs=1e-8)


def test_separation_broadcasts():
    ra = np.array([10.0, 11.0, 12.0])
    table = separation_arcsec(ra[:, None], 0.0, ra[None, :], 0.0)
    assert table.shape == (3, 3)
    np.testing.assert_allclose(table, 3600.0 * np.abs(ra[:, None] - ra[None, :]), atol=1e-8)
    assert separation_arcsec(1.0, 2.0, 3.0, 4.0).shape == ()


def astropy_motion(ra, dec, pmra, pmdec, dt):
    """The oracle. A distance is given because without one ERFA guesses it, badly so close to a pole."""
    start = Time(2016.0, format="jyear", scale="tdb")
    n = len(ra)
    coordinates = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        pm_ra_cosdec=pmra * u.mas / u.yr,
        pm_dec=pmdec * u.mas / u.yr,
        distance=np.full(n, 10.0) * u.pc,
        radial_velocity=np.zeros(n) * u.km / u.s,
        obstime=start,
    )
    moved = coordinates.apply_space_motion(Time(2016.0 + dt, format="jyear", scale="tdb"))
    return moved.ra.deg, moved.dec.deg


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([1.0, 100.0, 10_000.0]), st.floats(-50.0, 50.0))
def test_propagation_agrees_with_astropy(seed, speed_masyr, dt):
    ra, dec, rng = stars(seed)
    angle = rng.uniform(0.0, 2.0 * np.pi, ra.size)
    pmra, pmdec = speed_masyr * np.cos(angle), speed_masyr * np.sin(angle)
    ours = propagate(ra, dec, pmra, pmdec, dt)
    theirs = astropy_motion(ra, dec, pmra, pmdec, dt)
    assert separation_arcsec(*ours, *theirs).max() < 1e-7


@pytest.mark.filterwarnings("ignore:ERFA function")  # it says that it guesses a distance
def test_propagation_agrees_with_astropy_without_distance_away_from_the_poles():
    ra, dec, rng = stars(5, 200)
    ra, dec = ra[60:], dec[60:]
    pmra, pmdec = rng.normal(0.0, 300.0, (2, ra.size))
    start = Time(2016.0, format="jyear", scale="tdb")
    plain = SkyCoord(
        ra * u.deg, dec * u.deg, pm_ra_cosdec=pmra * u.mas / u.yr, pm_dec=pmdec * u.mas / u.yr, obstime=start
    )
    moved = plain.apply_space_motion(Time(1999.8, format="jyear", scale="tdb"))
    ours = propagate(ra, dec, pmra, pmdec, -16.2)
    assert separation_arcsec(*ours, moved.ra.deg, moved.dec.deg).max() < 1e-6


@settings(max_examples=100, deadline=None)
@given(seeds, st.floats(0.0, 20_000.0), st.floats(-100.0, 100.0))
def test_propagation_agrees_with_the_loop(seed, speed_masyr, dt):
    ra, dec, rng = stars(seed)
    angle = rng.uniform(0.0, 2.0 * np.pi, ra.size)
    pmra, pmdec, dts = speed_masyr * np.cos(angle), speed_masyr * np.sin(angle), np.full(ra.size, dt)
    ours = propagate(ra, dec, pmra, pmdec, dts)
    theirs = propagate_loop(ra, dec, pmra, pmdec, dts)
    assert separation_arcsec(*ours, *theirs).max() < 1e-9


@settings(max_examples=100, deadline=None)
@given(right_ascensions, declinations, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(-100.0, 100.0))
def test_propagated_positions_lie_on_the_sphere_and_not_too_far(ra, dec, pmra, pmdec, dt):
    new_ra, new_dec = propagate(ra, dec, pmra, pmdec, dt)
    assert 0.0 <= new_ra < 360.0
    assert -90.0 <= new_dec <= 90.0
    travelled = separation_arcsec(ra, dec, new_ra, new_dec)
    assert travelled <= np.hypot(pmra, pmdec) * 1e-3 * abs(dt) * (1.0 + 1e-9) + 1e-9


@given(right_ascensions, declinations, st.sampled_from([(0.0, 0.0, 30.0), (500.0, -20.0, 0.0)]))
def test_a_star_that_does_not_move_keeps_its_position_exactly(ra, dec, motion):
    new_ra, new_dec = propagate(ra, dec, *motion)
    assert (new_ra, new_dec) == (ra, dec)


def test_motion_crosses_right_ascension_zero():
    ra, dec = propagate([0.0001, 359.9999], [0.0, 0.0], [-1000.0, 1000.0], [0.0, 0.0], 1.0)
    np.testing.assert_allclose(ra, [360.0 + 0.0001 - 1.0 / 3600.0, 359.9999 + 1.0 / 3600.0 - 360.0], atol=1e-12)
    np.testing.assert_allclose(dec, 0.0, atol=1e-12)


def test_motion_crosses_the_pole():
    ra, dec = propagate([30.0], [90.0 - 2.0 / 3600.0], [0.0], [1000.0], 5.0)
    assert ra[0] == pytest.approx(210.0, abs=1e-6)
    assert dec[0] == pytest.approx(90.0 - 3.0 / 3600.0, abs=1e-12)


def test_missing_motion_is_left_to_the_caller():
    ra, dec = propagate([10.0, 10.0], [5.0, 5.0], [np.nan, 1.0], [0.0, 1.0], 1.0)
    assert np.isnan([ra[0], dec[0]]).all()
    assert np.isfinite([ra[1], dec[1]]).all()


def test_propagation_takes_one_time_per_row():
    ra, dec = np.full(3, 50.0), np.full(3, 20.0)
    together = propagate(ra, dec, 100.0, 200.0, np.array([0.0, 10.0, -10.0]))
    one = [propagate(50.0, 20.0, 100.0, 200.0, dt) for dt in (0.0, 10.0, -10.0)]
    np.testing.assert_array_equal(np.transpose(together), one)


def test_propagation_is_not_the_linear_formula_near_the_pole():
    dec = 89.99
    rigorous = propagate(0.0, dec, 10_000.0, 0.0, 16.0)
    linear = 160.0 / 3600.0 / np.cos(np.radians(dec)), dec
    assert separation_arcsec(*rigorous, *linear) > 100.0
