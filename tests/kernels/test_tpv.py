"""TPV and TAN coordinates against the registered formula, astropy and themselves."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.stamp_loop import CHIP_PX, SCALE_DEG, chip_wcs, header_of, pixel_loop, sky_loop, tpv_loop

from stellarscale.errors import InputError
from stellarscale.kernels import tpv
from stellarscale.kernels.tpv import ImageWcs, identity_pv, pixel_to_sky, sky_to_pixel

PLACES = [(120.0, -35.0), (0.01, -60.0), (359.99, 2.0), (200.0, -89.995), (10.0, 89.9), (75.0, 0.0)]
# Right ascension in degrees has eps 6e-14 near 360, which is 4e-10 of a pixel.
TIGHT_PX = 3e-9


def apart_px(ra1, dec1, ra2, dec2):
    dra = ((np.asarray(ra1) - ra2 + 180) % 360 - 180) * np.cos(np.radians(dec1))
    return np.hypot(dra, np.asarray(dec1) - dec2) / SCALE_DEG


def plain(ra=10.0, dec=-30.0, pv=None):
    return ImageWcs([30, 30], [ra, dec], SCALE_DEG * np.diag([-1, 1]), identity_pv() if pv is None else pv)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), u=st.floats(-2, 2), v=st.floats(-2, 2), share=st.floats(0, 1))
def test_all_forty_terms_and_their_derivatives(seed, u, v, share):
    rng = np.random.default_rng(seed)
    pv = rng.normal(size=(2, 40)) * (rng.random((2, 40)) < share)
    poly, radial, degree = tpv.terms(pv)
    xi, eta, *slopes = tpv.distort(poly, radial, degree, u, v)
    size = np.abs(pv).sum() * max(1.0, np.hypot(u, v)) ** 7
    assert (xi, eta) == pytest.approx(tpv_loop(pv, u, v), abs=1e-14 * size)
    if np.hypot(u, v) > 0.01:
        h = 1e-5
        along_u = np.subtract(tpv_loop(pv, u + h, v), tpv_loop(pv, u - h, v)) / (2 * h)
        along_v = np.subtract(tpv_loop(pv, u, v + h), tpv_loop(pv, u, v - h)) / (2 * h)
        expected = along_u[0], along_v[0], along_u[1], along_v[1]
        assert slopes == pytest.approx(expected, abs=1e-5 * size, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    place=st.sampled_from(PLACES),
    order=st.integers(1, 7),
    distortion=st.floats(0, 10),
)
def test_equals_astropy_and_goes_back(seed, place, order, distortion):
    rng = np.random.default_rng(seed)
    wcs = chip_wcs(rng, *place, distortion_px=distortion, order=order)
    peer = WCS(header_of(wcs, CHIP_PX[::-1]))
    x, y = rng.uniform(-0.5, np.array(CHIP_PX) - 0.5, (40, 2)).T
    ra, dec = pixel_to_sky(wcs, x, y)
    assert ((ra >= 0) & (ra < 360)).all()
    assert apart_px(ra, dec, *peer.all_pix2world(x, y, 0)).max() < TIGHT_PX
    back = sky_to_pixel(wcs, ra, dec)
    np.testing.assert_allclose(back, (x, y), atol=TIGHT_PX)
    np.testing.assert_allclose(back, peer.all_world2pix(ra, dec, 0), atol=1e-8)


@pytest.mark.parametrize("place", PLACES)
def test_tan_is_the_identity_polynomial(place):
    rng = np.random.default_rng(5)
    wcs = chip_wcs(rng, *place)
    wcs = ImageWcs(wcs.crpix, wcs.crval, wcs.cd, identity_pv())
    peer = WCS(header_of(wcs, kind="TAN"))
    x, y = rng.uniform(0, 4000, (2, 200))
    ra, dec = pixel_to_sky(wcs, x, y)
    assert apart_px(ra, dec, *peer.all_pix2world(x, y, 0)).max() < TIGHT_PX
    np.testing.assert_allclose(sky_to_pixel(wcs, ra, dec), (x, y), atol=TIGHT_PX)


def test_equals_the_textbook():
    rng = np.random.default_rng(6)
    for place in PLACES:
        wcs = chip_wcs(rng, *place, order=4)
        x, y = 1500.25, 321.5
        ra, dec = sky_loop(wcs, x, y)
        assert apart_px(*pixel_to_sky(wcs, x, y), ra, dec) < TIGHT_PX
        np.testing.assert_allclose(sky_to_pixel(wcs, ra, dec), pixel_loop(wcs, ra, dec), atol=1e-8)


def test_shapes_are_those_of_the_input_and_broadcast():
    ra, dec = pixel_to_sky(plain(), np.arange(4.0), np.arange(3.0)[:, None])
    assert ra.shape == dec.shape == (3, 4)
    assert [value.shape for value in sky_to_pixel(plain(), 10.0, -30.0)] == [(), ()]
    np.testing.assert_allclose(sky_to_pixel(plain(), 10.0, -30.0), (29, 29), atol=1e-10)


def test_a_position_behind_the_plane_has_no_pixel():
    x, y = sky_to_pixel(plain(), [10.0, 190.0, 105.0, np.nan, 10.0], [-30.0, 30.0, 0.0, -30.0, 89.0])
    assert np.isfinite(x).tolist() == np.isfinite(y).tolist() == [True, False, False, False, False]
    assert np.isnan(pixel_to_sky(plain(), np.nan, 1.0)).all()


def test_a_polynomial_without_a_solution_gives_nan():
    pv = identity_pv()
    pv[:, 4] = 1.0  # u + u^2 is never less than -1/4
    reached = sky_to_pixel(plain(pv=pv), 10.0, -29.9)
    beyond = sky_to_pixel(plain(pv=pv), 10.0, -30.5)
    assert np.isfinite(reached).all()
    assert np.isnan(beyond).all()


def test_coordinates_cannot_be_changed_nor_follow_a_change():
    pv = identity_pv()
    wcs = plain(pv=pv)
    pv[0, 0] = 1.0
    assert wcs.pv[0, 0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        wcs.pv[0, 0] = 1.0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"crpix": [1.0]}, r"crpix.*shape \(1,\)"),
        ({"pv": np.zeros((2, 17))}, r"pv.*\(2, 40\)"),
        ({"crval": [10.0, np.nan]}, "crval.*finite"),
        ({"crval": [10.0, 91.0]}, "no declination"),
        ({"cd": np.ones((2, 2))}, "no area"),
        ({"cd": np.zeros((2, 2))}, "no area"),
    ],
)
def test_what_is_no_wcs_is_refused(change, words):
    good = {"crpix": [1.0, 1.0], "crval": [10.0, -30.0], "cd": np.eye(2) * SCALE_DEG, "pv": identity_pv()}
    with pytest.raises(InputError, match=words):
        ImageWcs(**{**good, **change})
