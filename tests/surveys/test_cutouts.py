"""Cut-outs as files: headers, packings, and what cannot be read."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from reference.fake_cutouts import SCALE_DEG, Shot, header_of, image_of, wcs_of, write_cutout

from stellarscale.errors import InputError
from stellarscale.kernels.tpv import identity_pv, pixel_to_sky
from stellarscale.surveys.cutouts import read_cutouts

SHOT = Shot(150.0, -30.0, shift_px=(3.0, -5.5), turn_deg=20.0)
STARS = [(150.0, -30.0, 5e4)]
TAN = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}


def written(tmp_path: Path, **cards) -> Path:
    return write_cutout(tmp_path / "cutout.fits", SHOT, STARS, **cards)


def test_a_tpv_cutout_is_read_as_it_was_written(tmp_path):
    (found,) = read_cutouts(written(tmp_path, EXTNAME="20150201-7"))
    assert found.image.dtype == np.float64
    assert np.array_equal(found.image, image_of(SHOT, STARS).astype("f4"))
    for part in ("crpix", "crval", "cd", "pv"):
        assert np.allclose(getattr(found.wcs, part), getattr(wcs_of(SHOT), part), rtol=1e-13, atol=0), part
    assert (found.zero_point, found.name) == (25.0, "20150201-7")
    assert found.fwhm_arcsec == 2.5


@pytest.mark.parametrize("projection", ["TPV", "TAN"])
def test_positions_are_those_of_astropy(tmp_path, projection):
    shot = replace(SHOT, projection=projection)
    path = write_cutout(tmp_path / "c.fits", shot, STARS)
    (found,) = read_cutouts(path)
    x, y = np.meshgrid([0.0, 31.5, 63.0], [0.0, 20.0, 63.0])
    ra, dec = WCS(fits.getheader(path)).all_pix2world(x, y, 0)
    ours = pixel_to_sky(found.wcs, x, y)
    assert np.allclose(ours[0], ra, rtol=0, atol=1e-10)
    assert np.allclose(ours[1], dec, rtol=0, atol=1e-10)


def test_scale_and_turn_may_be_given_apart(tmp_path):
    turn = np.radians(10)
    matrix = {"PC1_1": np.cos(turn), "PC1_2": -np.sin(turn), "PC2_1": np.sin(turn), "PC2_2": np.cos(turn)}
    none = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
    path = written(tmp_path, **none, **matrix, CDELT1=-SCALE_DEG, CDELT2=2 * SCALE_DEG)
    (found,) = read_cutouts(path)
    expected = np.array([[-np.cos(turn), np.sin(turn)], [2 * np.sin(turn), 2 * np.cos(turn)]]) * SCALE_DEG
    assert np.allclose(found.wcs.cd, expected, rtol=1e-14)


def test_tan_with_a_distortion_is_tpv_by_another_name(tmp_path):
    plain = read_cutouts(written(tmp_path))[0]
    scamp = read_cutouts(written(tmp_path, **TAN))[0]
    assert np.array_equal(scamp.wcs.pv, plain.wcs.pv)
    no_distortion = dict.fromkeys(("PV1_5", "PV1_7", "PV2_1", "PV2_6", "PV2_10"))
    pole = read_cutouts(written(tmp_path, **TAN, **no_distortion, PV1_1=0.0, PV1_2=90.0))[0]
    assert np.array_equal(pole.wcs.pv, identity_pv())


@pytest.mark.parametrize("packing", ["gzip", "bz2", "fz", "fz of integers"])
def test_packed_files_hold_the_same(tmp_path, packing):
    import bz2

    path = written(tmp_path)
    plain = read_cutouts(path)[0]
    packed = tmp_path / f"packed.fits.{packing[:2]}"
    if packing in ("gzip", "bz2"):
        packed.write_bytes({"gzip": gzip, "bz2": bz2}[packing].compress(path.read_bytes()))
    elif packing == "fz":
        unit = fits.CompImageHDU(
            plain.image.astype("f4"), header_of(SHOT), compression_type="GZIP_1", quantize_level=0.0
        )
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(packed)
    else:
        unit = fits.CompImageHDU(plain.image.astype("i4"), header_of(SHOT), compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(packed)
    (found,) = read_cutouts(packed)
    assert np.array_equal(found.image, plain.image if packing != "fz of integers" else plain.image.astype("i4"))
    assert np.array_equal(found.wcs.cd, plain.wcs.cd)
    assert found.zero_point == 25.0


def test_headers_may_write_numbers_and_order_keywords_as_they_like(tmp_path):
    plain = read_cutouts(written(tmp_path))[0]
    raw = (tmp_path / "cutout.fits").read_bytes()
    cards = [raw[i : i + 80] for i in range(0, raw.index(b"END" + b" " * 77), 80)]
    fixed, others = cards[:5], cards[5:]
    spelled = [_respelled(card, number) for number, card in enumerate(others)]
    comments = [
        b"COMMENT = END".ljust(80),
        b"END     of nothing".rjust(80),
        b"ENDING  =                  1.5".ljust(80),
    ]
    header = b"".join([*fixed, *comments, *reversed(spelled), b"END".ljust(80)])
    data = raw[-(-(len(cards) + 1) * 80 // 2880) * 2880 :]
    (tmp_path / "other.fits").write_bytes(header.ljust(-(-len(header) // 2880) * 2880) + data)
    (found,) = read_cutouts(tmp_path / "other.fits")
    assert np.array_equal(found.image, plain.image)
    for part in ("crpix", "crval", "cd", "pv"):
        assert np.array_equal(getattr(found.wcs, part), getattr(plain.wcs, part)), part
    assert (found.zero_point, found.fwhm_arcsec) == (plain.zero_point, plain.fwhm_arcsec)


def _respelled(card: bytes, number: int) -> bytes:
    """The same number with a comment, with a D, or without its blanks."""
    key, value = card[:10], card[10:].partition(b"/")[0].strip()
    if b"'" in value or not value:
        return card
    value = f"{float(value):.17E}".encode()
    forms = (value + b" / of the chip", value.replace(b"E", b"D"), value.rjust(60), b" " + value + b"/")
    return (key + forms[number % 4]).ljust(80)


def test_extensions_are_cutouts_too(tmp_path):
    units = [fits.PrimaryHDU()]
    for number in range(3):
        shot = replace(SHOT, sky=100.0 + number, name=f"2015-{number}")
        units.append(fits.ImageHDU(image_of(shot, STARS).astype("f4"), header_of(shot)))
    fits.HDUList(units).writeto(tmp_path / "all.fits")
    found = read_cutouts(tmp_path / "all.fits")
    assert [cutout.name for cutout in found] == ["2015-0", "2015-1", "2015-2"]
    assert [cutout.image.min() for cutout in found] == pytest.approx([100, 101, 102], abs=1e-3)


def test_pixels_without_a_value_are_nan(tmp_path):
    image = image_of(SHOT, STARS)
    image[4, 7] = np.nan
    fits.PrimaryHDU(image.astype("f4"), header_of(SHOT)).writeto(tmp_path / "nan.fits")
    (found,) = read_cutouts(tmp_path / "nan.fits")
    assert np.argwhere(np.isnan(found.image)).tolist() == [[4, 7]]
    whole = np.full((8, 8), 7, dtype="i2")
    whole[2, 3] = -99
    header = header_of(SHOT)
    header["BLANK"] = -99
    fits.PrimaryHDU(whole, header).writeto(tmp_path / "blank.fits")
    (found,) = read_cutouts(tmp_path / "blank.fits")
    assert np.argwhere(np.isnan(found.image)).tolist() == [[2, 3]]
    assert np.nanmax(found.image) == 7


@pytest.mark.parametrize("value", ["unknown", True, None])
def test_a_header_that_does_not_know_says_nothing(tmp_path, value):
    (found,) = read_cutouts(written(tmp_path, ZPAPPROX=value, QAFWHM=value))
    assert found.zero_point is None
    assert found.fwhm_arcsec is None


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"CTYPE1": None}, "no coordinates.*no CTYPE1"),
        ({"CRVAL2": None, "CRPIX1": None}, "no CRPIX1, CRVAL2"),
        ({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"}, "projection is not known.*RA---SIN, DEC--SIN"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}, "TAN-SIP"),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "GLON-TAN"),
        ({"CTYPE1": "DEC--TPV", "CTYPE2": "RA---TPV"}, "DEC--TPV, RA---TPV"),
        (dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2")), "neither CD nor CDELT"),
        (dict.fromkeys(("CD1_1", "CD1_2"), 0.0), "no area on the sky"),
        ({"CUNIT1": "arcsec"}, "CUNIT1"),
        ({"CROTA2": 30.0}, "CROTA2"),
        ({"CRVAL1": "north"}, "contradicts itself.*north"),
    ],
)
def test_coordinates_that_cannot_be_used_are_told(tmp_path, cards, words):
    path = written(tmp_path, **cards)
    with pytest.raises(InputError, match=words) as caught:
        read_cutouts(path)
    assert "cutout.fits" in str(caught.value)


def test_files_that_are_no_cutouts_are_told(tmp_path):
    page = tmp_path / "page.fits"
    page.write_text("<html><body>503 Service Unavailable</body></html>")
    with pytest.raises(InputError, match=r"no FITS file.*<html>.*error page"):
        read_cutouts(page)
    (tmp_path / "empty.fits").touch()
    with pytest.raises(InputError, match="empty"):
        read_cutouts(tmp_path / "empty.fits")
    with pytest.raises(InputError, match="not a file"):
        read_cutouts(tmp_path / "none.fits")
    fits.PrimaryHDU().writeto(tmp_path / "bare.fits")
    with pytest.raises(InputError, match="holds no image"):
        read_cutouts(tmp_path / "bare.fits")
    fits.PrimaryHDU(np.zeros((3, 8, 8), "f4"), header_of(SHOT)).writeto(tmp_path / "cube.fits")
    with pytest.raises(InputError, match=r"not two-dimensional.*NAXIS = 3, 8 x 8 x 3"):
        read_cutouts(tmp_path / "cube.fits")


@pytest.mark.parametrize("packing", ["plain", "gzip", "fz"])
@pytest.mark.parametrize("part", [0.1, 0.6, 0.9])
def test_truncated_files_are_told(tmp_path, packing, part):
    path = written(tmp_path)
    raw = path.read_bytes()
    if packing == "gzip":
        raw = gzip.compress(raw)
    if packing == "fz":
        unit = fits.CompImageHDU(np.random.default_rng(1).integers(0, 1000, (64, 64)).astype("i4"), header_of(SHOT))
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "c.fz")
        raw = (tmp_path / "c.fz").read_bytes().rstrip(b"\0")
    path.write_bytes(raw[: int(len(raw) * part)])
    with pytest.raises(InputError, match=r"truncated|ends inside a header"):
        read_cutouts(path)
