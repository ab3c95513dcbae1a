"""Cut-outs as FITS files, written by their bytes: one header template, an image of big-endian float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate.files import FITS_BLOCK
from stellarscale.simulate.smss_wcs import PV_TERMS

SPOILT = ("missing", "truncated", "no_zpapprox")
_USED = [term for term in range(PV_TERMS) if term != 3]
_PV = [f"PV{axis}_{term}" for axis in (1, 2) for term in _USED]
_REALS = ["CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2", *_PV]


def _fixed(key: str, shown: str, comment: str = "") -> str:
    """A card in fixed format; ``%`` formats within must have the width that they leave room for."""
    return f"{key:<8}= {shown:>20}" + (f" / {comment}" if comment else "")


def _text(key: str, value: str) -> str:
    return f"{key:<8}= '{value:<8}'"


def _template() -> str:
    cards = [_fixed("SIMPLE", "T"), _fixed("BITPIX", "-32"), _fixed("NAXIS", "2")]
    cards += [_fixed("NAXIS1", "%(width)20d"), _fixed("NAXIS2", "%(height)20d")]
    cards += [
        _text("EXTNAME", "%(image_id)d-%(ccd)d"),
        _text("OBJECT", "%(object_id)d"),
        _text("INSTRUME", "SkyMapper"),
        _text("FILTER", "%(band)s       "),
    ]
    cards += [_fixed("IMAGEID", "%(image_id)20d"), _fixed("CCD", "%(ccd)20d"), _text("DATE-OBS", "%(date)s")]
    cards += [_fixed("MJD-OBS", "%(mjd)20.10f"), _fixed("EXPTIME", "%(exptime)20.3f", "seconds")]
    cards += [_fixed("QAFWHM", "%(fwhm)20.5f", "arcsec"), _fixed("GAIN", "%(gain)20.4f")]
    cards += [_fixed("SATURATE", "%(saturate)20.1f"), _text("BUNIT", "adu")]
    cards += [_text("RADESYS", "ICRS"), _fixed("EQUINOX", "2000.0")]
    cards += [_text("CTYPE1", "RA---TPV"), _text("CTYPE2", "DEC--TPV"), _text("CUNIT1", "deg"), _text("CUNIT2", "deg")]
    cards += [_fixed(key, f"%({key})20.12E") for key in _REALS]
    return "\n".join([*cards, "%(zpapprox)s"])


_TEMPLATE = _template()


def header_bytes(values: Mapping[str, object], zpapprox: float | None) -> bytes:
    """The header of a cut-out in whole FITS blocks; without ``ZPAPPROX`` where that is None."""
    card = "" if zpapprox is None else _fixed("ZPAPPROX", f"{zpapprox:20.4f}")
    lines = (_TEMPLATE % (dict(values) | {"zpapprox": card})).split("\n")
    content = "".join([line.ljust(80) for line in lines if line] + ["END".ljust(80)])
    return content.ljust(-(-len(content) // FITS_BLOCK) * FITS_BLOCK).encode("ascii")


def wcs_cards(crval: NDArray, crpix: NDArray, cd: NDArray, pv: NDArray) -> dict[str, float]:
    """Values of the cards of a TPV map; ``pv`` has shape (2, PV_TERMS)."""
    used = pv[:, _USED]
    return dict(zip(_REALS, np.concatenate([crval, crpix, cd.ravel(), used.ravel()]).tolist(), strict=True))


def write_cutout(path: Path, header: bytes, image: NDArray[np.float32], *, spoilt: str = "") -> None:
    """Write a cut-out, two thirds of it when ``truncated``, nothing when ``missing``.

    Parameters
    ----------
    path : Path
        File in a folder that is there.
    header : bytes
        Of :func:`header_bytes`.
    image : ndarray of float32, shape (h, w)
        Counts, NaN where missing.
    spoilt : str
        Empty or one of ``SPOILT``.
    """
    if spoilt == "missing":
        return
    data = image.astype(">f4").tobytes()
    content = header + data + b"\0" * (-len(data) % FITS_BLOCK)
    with path.open("wb") as stream:
        stream.write(content[: len(content) * 2 // 3] if spoilt == "truncated" else content)


def cutout_name(object_id: int, image_id: int, ccd: int) -> str:
    """Place of a cut-out in the folder of the mock."""
    return f"cutouts/{object_id % 1000:03d}/{object_id}/{image_id}-{ccd}.fits"
