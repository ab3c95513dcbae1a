from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.kernels.dust import DustMaps, ebv_sfd98, galactic
from stellarscale.kernels.photometry import absolute_magnitude, deredden, line


def test_extinction_is_subtracted_and_unknown_stays_unknown():
    result = deredden(np.array([15.0, np.nan, 15.0]), np.array([0.1, 0.1, np.nan]), 4.324)
    assert result[0] == pytest.approx(15 - 0.4324)
    assert np.isnan(result[1:]).all()


@given(st.floats(0.01, 1000), st.floats(-5, 25))
def test_absolute_magnitude_is_the_magnitude_at_ten_parsec(parallax, mag):
    distance_pc = 1000.0 / parallax
    found = absolute_magnitude(np.array([mag]), np.array([parallax]))[0]
    assert found == pytest.approx(mag - 5 * np.log10(distance_pc / 10), abs=1e-9)


def test_no_absolute_magnitude_without_a_positive_parallax():
    assert np.isnan(absolute_magnitude(np.full(3, 10.0), np.array([0.0, -1.0, np.nan]))).all()


def test_line_has_the_lowest_power_first():
    assert line(np.array([2.0]), [1.0, 3.0, -1.0])[0] == 1 + 6 - 4


def test_galactic_agrees_with_astropy():
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 2000), np.degrees(np.arcsin(rng.uniform(-1, 1, 2000)))
    lon, lat = galactic(ra, dec)
    expected = SkyCoord(ra, dec, unit="deg").galactic
    assert SkyCoord(lon, lat, unit="deg", frame="galactic").separation(expected).arcsec.max() < 0.05


def polar_maps(n, value):
    """Maps whose pixels hold a smooth function of the position, by the published projection."""
    maps = []
    for sign in (1, -1):
        offset = (np.arange(n) - (n / 2 - 0.5)) / (n / 2)
        x, y = np.meshgrid(offset, offset)
        lat = sign * np.arcsin(1 - np.minimum(x**2 + y**2, 1))
        maps.append(value(np.arctan2(-sign * y, x), lat).astype(np.float32))
    return DustMaps(*maps)


def test_interpolation_finds_the_field_back():
    def value(lon, lat):
        return 1.0 + 0.3 * np.cos(lon) * np.cos(lat) + 0.2 * np.sin(lat)

    rng = np.random.default_rng(4)
    lon, lat = rng.uniform(0, 360, 5000), np.degrees(np.arcsin(rng.uniform(-1, 1, 5000)))
    away_from_edge = np.abs(lat) > 1.0
    found = ebv_sfd98(polar_maps(512, value), lon, lat)
    assert np.abs(found - value(np.radians(lon), np.radians(lat)))[away_from_edge].max() < 2e-3


def test_hemispheres_are_told_apart_and_poles_are_inside():
    maps = DustMaps(np.full((64, 64), 1.0, np.float32), np.full((64, 64), 2.0, np.float32))
    assert ebv_sfd98(maps, np.array([0.0, 10, 20, 359]), np.array([90.0, 0, -1e-9, -90])).tolist() == [1, 1, 2, 2]
