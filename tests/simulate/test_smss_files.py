"""Cut-outs by their bytes: astropy and the package's own reader read them, spoilt ones are what they should be."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from stellarscale.errors import InputError
from stellarscale.simulate.smss_files import cutout_name, header_bytes, wcs_cards, write_cutout
from stellarscale.surveys.cutouts import read_cutouts

PV = np.zeros((2, 11))
PV[:, 1] = 1.0
PV[:, 7] = 3e-4
WCS_CARDS = wcs_cards(np.array([359.123456789, -89.5]), np.array([-7012.25, 28.5]), np.diag([-1.38e-4, 1.38e-4]), PV)
VALUES = {"width": 40, "height": 56, "image_id": 20150101123456, "ccd": 32, "object_id": 100000001, "band": "z"}
VALUES |= {"date": "2015-01-01T12:34:56", "mjd": 57023.5242593, "exptime": 100.0, "fwhm": 5.123, "gain": 0.75}
VALUES |= {"saturate": 6e4} | WCS_CARDS
IMAGE = np.random.default_rng(1).normal(100, 30, (56, 40)).astype(np.float32)
IMAGE[3, 4] = np.nan


def test_headers_are_standard_and_keep_every_digit(tmp_path):
    write_cutout(tmp_path / "a.fits", header_bytes(VALUES, 26.1234), IMAGE)
    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        header = hdus[0].header
        assert np.array_equal(hdus[0].data, IMAGE, equal_nan=True)
    for key, value in WCS_CARDS.items():
        assert header[key] == pytest.approx(value, rel=1e-12)
    assert (header["ZPAPPROX"], header["EXTNAME"], header["OBJECT"]) == (26.1234, "20150101123456-32", "100000001")
    assert (header["FILTER"], header["IMAGEID"], header["CCD"]) == ("z", 20150101123456, 32)
    assert header["CTYPE1"] == "RA---TPV"
    assert "PV1_3" not in header
    assert (tmp_path / "a.fits").stat().st_size % 2880 == 0


def test_the_packages_own_reader_reads_them(tmp_path):
    write_cutout(tmp_path / "a.fits", header_bytes(VALUES, 26.1234), IMAGE)
    (cutout,) = read_cutouts(tmp_path / "a.fits")
    assert np.array_equal(cutout.image, IMAGE, equal_nan=True)
    assert cutout.zero_point == 26.1234
    assert cutout.wcs.crpix == pytest.approx([-7012.25, 28.5])
    assert cutout.wcs.pv[:, :11] == pytest.approx(PV)


def test_spoilt_files(tmp_path):
    header = header_bytes(VALUES, None)
    write_cutout(tmp_path / "none.fits", header, IMAGE, spoilt="missing")
    assert not (tmp_path / "none.fits").exists()
    write_cutout(tmp_path / "cut.fits", header, IMAGE, spoilt="truncated")
    with pytest.raises(InputError):
        read_cutouts(tmp_path / "cut.fits")
    write_cutout(tmp_path / "zp.fits", header, IMAGE, spoilt="no_zpapprox")
    assert read_cutouts(tmp_path / "zp.fits")[0].zero_point is None


def test_names_are_those_of_the_job():
    assert cutout_name(100002007, 20150101123456, 7) == "cutouts/007/100002007/20150101123456-7.fits"
