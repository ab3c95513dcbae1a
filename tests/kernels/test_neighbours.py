from __future__ import annotations

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarscale.kernels import healpix
from stellarscale.kernels.neighbours import interleave, neighbours


@pytest.mark.parametrize("order", range(7))
def test_all_neighbours_of_coarse_orders_are_those_of_healpy(order):
    ipix = np.arange(12 << (2 * order))
    assert (neighbours(order, ipix) == healpy.get_all_neighbours(1 << order, ipix, nest=True)).all()


@given(st.integers(7, 29), st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_neighbours_of_fine_orders_are_those_of_healpy(order, places):
    ipix = np.array([int(place * (12 << (2 * order))) for place in places], dtype=np.int64)
    assert (neighbours(order, ipix) == healpy.get_all_neighbours(1 << order, ipix, nest=True)).all()


@given(st.integers(0, 29), st.integers(0, 11), st.integers(0, 3))
def test_neighbours_of_the_corners_of_base_pixels(order, base, corner):
    last = (1 << order) - 1
    x, y = np.array([last * (corner & 1)]), np.array([last * (corner >> 1)])
    ipix = (np.int64(base) << (2 * order)) + interleave(x, y)
    assert (neighbours(order, ipix) == healpy.get_all_neighbours(1 << order, ipix, nest=True)).all()


def test_no_pixels_have_no_neighbours():
    assert neighbours(3, np.empty(0, dtype=np.int64)).shape == (8, 0)


@given(st.integers(0, (1 << 29) - 1), st.integers(0, (1 << 29) - 1))
def test_interleaving_puts_the_bits_of_x_below_those_of_y(x, y):
    expected = int("".join(f"{b}{a}" for a, b in zip(f"{x:029b}", f"{y:029b}", strict=True)), 2)
    assert interleave(np.array([x]), np.array([y])).tolist() == [expected]


def random_place(rng, rows):
    """Positions (degrees), half of them in the corners of pixels: the poles, the edges of the equatorial belt."""
    ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    special = rng.random(rows) < 0.5
    places = np.array([(45, 90), (45, -90), (0, 41.8103), (45, 0), (90, 41.8103), (0, -41.8103), (135, 41.8103)])
    there = places[rng.integers(0, len(places), rows)]
    near = rng.normal(0, 10.0 ** rng.uniform(-6, 0.5, rows))
    ra = np.where(special, there[:, 0] + near, ra) % 360
    dec = np.where(special, np.clip(there[:, 1] - np.sign(there[:, 1]) * np.abs(near), -90, 90), dec)
    return ra, dec


@settings(max_examples=60)
@given(st.floats(0.001, 50_000), st.integers(0, 10_000))
def test_what_is_within_the_margin_is_in_the_cell_or_beside_it(margin_arcsec, seed):
    order = healpix.finest_order(margin_arcsec)
    assert healpix.resolution_arcsec(order) > 2.0 * margin_arcsec
    rng = np.random.default_rng(seed)
    ra, dec = random_place(rng, 500)
    centre = healpy.ang2vec(ra, dec, lonlat=True)
    east = np.cross([0.1, 0.2, 1.0], centre)
    east /= np.linalg.norm(east, axis=1)[:, None]
    angle, step = rng.uniform(0, 2 * np.pi, 500)[:, None], np.radians(margin_arcsec / 3600)
    moved = np.cos(step) * centre + np.sin(step) * (np.cos(angle) * east + np.sin(angle) * np.cross(centre, east))
    here = healpix.pixel_of(ra, dec, order)
    there = healpix.pixel_of(*healpy.vec2ang(moved, lonlat=True), order)
    assert ((neighbours(order, here) == there) | (here == there)).any(axis=0).all()


def test_the_finest_order_starts_where_it_is_told_and_stops_there_when_the_margin_is_wide():
    assert healpix.finest_order(1e6, first=3) == 3
    assert healpix.finest_order(1e-9) == 28
    assert healpix.finest_order(1.0, last=5) == 5


@pytest.mark.parametrize("order", [0, 3, 17, 29])
def test_the_resolution_is_that_of_healpy(order):
    expected = healpy.nside2resol(1 << order, arcmin=True) * 60
    assert healpix.resolution_arcsec(order) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("radius_deg", [60.0, 89.0, 91.0, 137.0, 179.0])
def test_wide_discs_cover_their_cones(radius_deg):
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 50_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 50_000)))
    distance = np.degrees(np.arccos(np.cos(np.radians(dec)) * np.cos(np.radians(ra))))
    keys = healpix.pixel_of(ra, dec)[distance <= radius_deg]
    assert healpix.in_ranges(keys, healpix.disc_ranges(0.0, 0.0, radius_deg)).all()
