from __future__ import annotations

import healpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.kernels import healpix


def points_around(order, ipix, margin_arcsec, rng):
    """Random points up to the margin away from a pixel's border, on both sides."""
    border = healpy.boundaries(1 << order, ipix, step=32, nest=True).T
    east = np.cross([0.1, 0.2, 1.0], border)
    east /= np.linalg.norm(east, axis=1)[:, None]
    north = np.cross(border, east)
    angle = rng.uniform(0, 2 * np.pi, len(border))[:, None]
    radius = np.radians(margin_arcsec / 3600) * rng.uniform(0, 1, len(border))[:, None]
    points = np.cos(radius) * border + np.sin(radius) * (np.sin(angle) * north + np.cos(angle) * east)
    return healpy.vec2ang(points, lonlat=True)


@given(
    order=st.integers(0, 9),
    place=st.floats(0, 1, exclude_max=True),
    margin_arcsec=st.floats(0.01, 200_000),
    seed=st.integers(0, 1000),
)
def test_ring_covers_everything_within_the_margin_and_nothing_inside(order, place, margin_arcsec, seed):
    ipix = int(place * 12 * 4**order)
    ranges = healpix.ring_around(order, ipix, margin_arcsec)
    keys = healpix.pixel_of(*points_around(order, ipix, margin_arcsec, np.random.default_rng(seed)))
    inside = (keys >> (2 * (29 - order))) == ipix
    covered = healpix.in_ranges(keys, ranges)
    assert covered[~inside].all()
    assert not covered[inside].any()
    assert (ranges[1:, 0] > ranges[:-1, 1]).all()


def test_ring_is_thin_for_a_small_margin():
    ranges = healpix.ring_around(3, 17, 1.0)
    area = (ranges[:, 1] - ranges[:, 0]).sum() / 4.0 ** (29 - 3)
    assert area < 0.02


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), max_size=30))
def test_merged_ranges_hold_the_same_values(pairs):
    ranges = np.array([[a, a + n] for a, n in pairs], dtype=np.int64).reshape(-1, 2)
    merged = healpix.merge_ranges(ranges)
    values = np.arange(400)
    expected = np.array([any(a <= v < b for a, b in ranges) for v in values])
    assert (healpix.in_ranges(values, merged) == expected).all() if len(merged) else not expected.any()
    without = healpix.subtract_range(merged, 50, 100)
    gone = expected & ~((values >= 50) & (values < 100))
    found = healpix.in_ranges(values, without) if len(without) else np.zeros(400, bool)
    assert (found == gone).all()


@pytest.mark.parametrize("ra, dec, radius", [(10.0, 89.9, 0.5), (0.01, -45, 2.0), (200, 0, 0.001), (3, 3, 60)])
def test_disc_covers_the_cone(ra, dec, radius):
    rng = np.random.default_rng(5)
    centre = healpy.ang2vec(ra, dec, lonlat=True)
    points = centre + rng.normal(size=(4000, 3)) * np.radians(radius)
    points /= np.linalg.norm(points, axis=1)[:, None]
    near = np.degrees(np.arccos(np.clip(points @ centre, -1, 1))) <= radius
    keys = healpix.pixel_of(*healpy.vec2ang(points, lonlat=True))
    assert near.sum() > 100
    assert healpix.in_ranges(keys, healpix.disc_ranges(ra, dec, radius))[near].all()


def test_polygon_must_be_convex():
    with pytest.raises(ValueError, match="convex"):
        healpix.polygon_ranges([0, 10, 5, 10], [0, 0, 2, 10])


def test_pixel_of_agrees_with_healpy_and_takes_nothing():
    ra, dec = np.array([0.0, 359.9999999, 12.5, 200]), np.array([90.0, -90, 0, 45])
    assert (healpix.pixel_of(ra, dec) == healpy.ang2pix(1 << 29, ra, dec, nest=True, lonlat=True)).all()
    assert len(healpix.pixel_of(np.array([]), np.array([]))) == 0
