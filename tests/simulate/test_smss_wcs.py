"""The maps of the mock exposures against astropy and against the kernel that reads their headers."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from stellarscale.kernels.tpv import ImageWcs
from stellarscale.kernels.tpv import sky_to_pixel as kernel_pixel
from stellarscale.simulate.smss_exposures import CHIP_PX, SCALE_ARCSEC, draw_exposures
from stellarscale.simulate.smss_files import header_bytes, wcs_cards
from stellarscale.simulate.smss_plan import ImagePlan
from stellarscale.simulate.smss_stars import draw_block
from stellarscale.simulate.smss_wcs import distort, sky_to_chip, undistort

PLAN = ImagePlan(rows=32, seed=5)
SKY = draw_block(PLAN, 0)
EXPOSURES = draw_exposures(SKY, PLAN, 0)
MAIN = np.flatnonzero(SKY["slot"] == 0)[EXPOSURES["group"]]


def header(row: int) -> fits.Header:
    values = {
        "width": 56,
        "height": 56,
        "image_id": 1,
        "ccd": 2,
        "object_id": 3,
        "band": "r",
        "date": "2014-12-09T00:00:00",
    }
    values |= {"mjd": 57000.0, "exptime": 5.0, "fwhm": 5.0, "gain": 0.75, "saturate": 6e4}
    values |= wcs_cards(*(EXPOSURES[name][row] for name in ("crval", "crpix", "cd", "pv")))
    return fits.Header.fromstring(header_bytes(values, 25.0))


def test_the_inverse_of_the_polynomials_is_exact():
    rng = np.random.default_rng(1)
    n = len(EXPOSURES["group"])
    xi, eta = rng.uniform(-1.2, 1.2, (2, n))
    back = distort(*undistort(xi, eta, EXPOSURES["pv"]), EXPOSURES["pv"])
    assert np.abs(np.array(back) - [xi, eta]).max() < 1e-13


def test_stars_are_where_astropy_puts_them_by_the_header():
    x, y = sky_to_chip(SKY["ra"][MAIN], SKY["dec"][MAIN], EXPOSURES)
    for row in range(0, len(MAIN), 7):
        cards = header(row)
        assert (cards["CTYPE1"], cards["CTYPE2"]) == ("RA---TPV", "DEC--TPV")
        there = WCS(cards).all_world2pix(SKY["ra"][MAIN[row]], SKY["dec"][MAIN[row]], 0)
        assert np.abs(np.array(there) - [x[row], y[row]]).max() < 1e-4


def test_the_kernel_agrees():
    x, y = sky_to_chip(SKY["ra"][MAIN], SKY["dec"][MAIN], EXPOSURES)
    for row in range(0, len(MAIN), 5):
        pv = np.zeros((2, 40))
        pv[:, :11] = EXPOSURES["pv"][row]
        wcs = ImageWcs(EXPOSURES["crpix"][row], EXPOSURES["crval"][row], EXPOSURES["cd"][row], pv)
        there = np.ravel(kernel_pixel(wcs, SKY["ra"][MAIN[row]], SKY["dec"][MAIN[row]]))
        assert np.abs(there - [x[row], y[row]]).max() < 1e-6


def test_pointings_are_those_of_a_survey():
    x, y = sky_to_chip(SKY["ra"][MAIN], SKY["dec"][MAIN], EXPOSURES)
    assert x.min() > 0
    assert x.max() < CHIP_PX[0]
    assert y.min() > 0
    assert y.max() < CHIP_PX[1]
    turned = EXPOSURES["cd"][:, 0, 0] > 0
    assert 0.35 < turned.mean() < 0.65
    scale = 3600 * np.sqrt(np.abs(np.linalg.det(EXPOSURES["cd"])))
    assert scale == pytest.approx(SCALE_ARCSEC)
    tilt = np.degrees(np.arcsin(EXPOSURES["cd"][:, 0, 1] * 3600 / SCALE_ARCSEC))
    assert 0.1 < np.abs(tilt).std() < 1.0


def test_exposures_have_their_own_seconds_seeing_and_zero_points():
    assert len(np.unique(EXPOSURES["image_id"])) == len(EXPOSURES["image_id"])
    assert [str(i)[:4] in {str(year) for year in range(2014, 2022)} for i in EXPOSURES["image_id"]].count(False) == 0
    assert EXPOSURES["fwhm_arcsec"].min() >= 1.8
    assert EXPOSURES["fwhm_arcsec"].max() <= 3.5
    for band in range(6):
        here = EXPOSURES["zero_point"][EXPOSURES["band"] == band]
        assert here.std() > 0.05
    count = np.bincount(EXPOSURES["group"] * 6 + EXPOSURES["band"], minlength=6 * 32)
    assert set(count) == {1, 2, 3, 4}
    assert 0 < np.abs(EXPOSURES["zpapprox"] - EXPOSURES["zero_point"]).max() < 0.03
