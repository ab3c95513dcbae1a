"""Image cut-outs: FITS images whose header says where on the sky each pixel lies.

SkyMapper's headers are RA---TPV, those of most others RA---TAN; what else a header may say of the sky is refused,
because a star would be cut out beside its place.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError, StellarscaleError
from stellarscale.kernels.tpv import N_TERMS, ImageWcs, identity_pv
from stellarscale.surveys.native import open_bytes
from stellarscale.surveys.spectra.hdus import Cards, Hdu, parse_hdus

PROJECTIONS = ("TPV", "TAN")
_POINT = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2")
_NEEDED = (*_POINT, "CTYPE1", "CTYPE2")
_USUAL = {"CUNIT1": "deg", "CUNIT2": "deg", "LONPOLE": 180.0, "CROTA1": 0.0, "CROTA2": 0.0}
_MATRIX = ("CD1_1", "CD1_2", "CD2_1", "CD2_2")
_PV = {f"PV{axis}_{term}": (axis - 1, term) for axis in (1, 2) for term in range(N_TERMS)}
_PC = ("PC1_1", "PC1_2", "PC2_1", "PC2_2")


@dataclass(frozen=True, eq=False)
class Cutout:
    """Part of an exposure.

    Attributes
    ----------
    image : ndarray of float64, shape (n_rows, n_columns)
        Counts, sky included; NaN where there is no value.
    wcs : ImageWcs
        Where its pixels lie.
    zero_point : float or None
        Magnitude of one count, ``ZPAPPROX``.
    fwhm_arcsec : float or None
        Seeing: ``QAFWHM``, which SkyMapper gives in arcsec.
    name : str
        ``EXTNAME``, empty where there is none.
    """

    image: NDArray[np.float64]
    wcs: ImageWcs
    zero_point: float | None
    fwhm_arcsec: float | None
    name: str


def read_cutouts(path: Path) -> list[Cutout]:
    """Read every image of a FITS file, its primary one and extensions, plain or packed (gzip, bz2, ``.fz``).

    Parameters
    ----------
    path : Path
        The file; each of its images must have RA---TPV or RA---TAN coordinates, by CD or by CDELT and PC.

    Returns
    -------
    list of Cutout
        In the order of the file, at least one.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated or no FITS file, has no image or one that is not two-dimensional, or
        its header has no coordinates or such of another projection.
    """
    raw = _content(path)
    try:
        hdus = parse_hdus(raw, path)
        if not hdus:
            raise _not_fits(path, raw)
        found = [_cutout(image, cards, path) for image, cards in _images(hdus, raw)]
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, StellarscaleError):
            raise
        raise InputError("the file contradicts itself", where=path, seen=repr(error), cause="a damaged file") from error
    if not found:
        raise InputError("the FITS file holds no image", where=path, seen=f"{len(hdus)} units", needed="an image")
    return found


def _content(path: Path) -> bytes:
    """The file's bytes, unpacked; a plain file costs no more than to open and read it."""
    try:
        with open(path, "rb", buffering=0) as stream:
            raw = stream.read()
    except OSError:
        raw = b""
    if raw.startswith(b"SIMPLE"):
        return raw
    with open_bytes(path) as stream:  # packed, or it tells what is wrong
        return stream.read()


def _images(hdus: list[Hdu], raw: bytes) -> Iterator[tuple[NDArray[np.float64], Mapping[str, Any]]]:
    """Images of a file with their headers; packed ones are unpacked by astropy."""
    packed = [number for number, hdu in enumerate(hdus) if hdu.is_table and hdu.cards.get("ZIMAGE") is True]
    unpacked = _unpacked(raw, hdus[0].path, packed) if packed else {}
    for number, hdu in enumerate(hdus):
        if number in unpacked:
            yield unpacked[number]
        elif not hdu.is_table and hdu.shape:
            _check_flat(hdu.shape, hdu.path, hdu.name)
            yield hdu.image(), hdu.cards


def _unpacked(raw: bytes, path: Path, numbers: list[int]) -> dict[int, tuple[NDArray[np.float64], Mapping[str, Any]]]:
    from astropy.io import fits

    found: dict[int, tuple[NDArray[np.float64], Mapping[str, Any]]] = {}
    try:
        with fits.open(io.BytesIO(raw), memmap=False) as file:
            for number in numbers:
                unit = file[number]
                header = {key: value for key, value in unit.header.items() if key}
                _check_flat(unit.shape, path, str(header.get("EXTNAME", "")))
                found[number] = np.ascontiguousarray(unit.data, dtype=np.float64), header
    except StellarscaleError:
        raise
    except Exception as error:  # the decoders of tiles raise errors of all kinds on damaged data
        raise InputError(
            "the packed image cannot be unpacked", where=path, seen=repr(error), cause="a damaged file"
        ) from error
    return found


def _check_flat(shape: tuple[int, ...], path: Path, name: str) -> None:
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(
            "the image is not two-dimensional",
            where=f"{path}{name and f', {name}'}",
            seen=f"NAXIS = {len(shape)}, {' x '.join(map(str, reversed(shape)))} pixels",
            needed="NAXIS = 2",
        )


def _cutout(image: NDArray[np.float64], cards: Mapping[str, Any], path: Path) -> Cutout:
    name = str(cards.get("EXTNAME") or "").strip()
    wcs = wcs_of(cards, f"{path}{name and f', {name}'}")
    fwhm = _number(cards.get("QAFWHM"))
    return Cutout(image, wcs, _number(cards.get("ZPAPPROX")), fwhm if fwhm is not None and fwhm > 0 else None, name)


def wcs_of(cards: Mapping[str, Any], where: object) -> ImageWcs:
    """Coordinates of an image from its header.

    Raises
    ------
    InputError
        If they are missing, not finite, singular, or of a projection other than TPV and TAN.
    """
    types = [cards.get("CTYPE1"), cards.get("CTYPE2")]
    kinds = [str(kind or "").strip() for kind in types]
    values: list[Any] = [cards.get(key) for key in _POINT]
    missing = [key for key, value in zip(_NEEDED, [*values, *types], strict=True) if value is None]
    if missing:
        raise InputError(
            "the image has no coordinates",
            where=where,
            seen=f"no {', '.join(missing)}",
            needed="a header with RA---TPV or RA---TAN",
            cause="not a cut-out of the survey, or its header was stripped",
        )
    projection = kinds[0][5:]
    if projection not in PROJECTIONS or kinds != [f"RA---{projection}", f"DEC--{projection}"]:
        raise InputError(
            "the image's projection is not known",
            where=where,
            seen=", ".join(kinds),
            needed="RA---TPV, DEC--TPV or RA---TAN, DEC--TAN",
        )
    _check_plain(cards, where)
    crpix, crval = (np.array([float(value) for value in values[i : i + 2]]) for i in (0, 2))
    cd, pv = _matrix(cards, where), _polynomial(cards, projection)
    try:
        return ImageWcs(crpix, crval, cd, pv)
    except InputError as error:
        raise InputError(
            f"the image's coordinates are not usable: {error.what}",
            where=f"{where}, {error.where}",
            seen=error.seen,
            needed=error.needed,
        ) from error


def _check_plain(cards: Mapping[str, Any], where: object) -> None:
    """Cards that would turn the sky, and that nothing here looks at, must say what is usual."""
    for key, value in _USUAL.items():
        seen = cards.get(key)
        seen = seen.strip().lower() if isinstance(seen, str) else seen
        if seen not in (None, "", value):
            raise InputError(f"a header with this {key} is not understood", where=where, seen=seen, needed=value)


def _matrix(cards: Mapping[str, Any], where: object) -> NDArray[np.float64]:
    """Degrees per pixel: the CD matrix, or CDELT times PC."""
    given = [key for key in _MATRIX if key in cards]
    if given:
        values = dict(zip(given, _floats(cards, given), strict=True))
        return np.array([values.get(key, 0.0) for key in _MATRIX]).reshape(2, 2)
    if cards.get("CDELT1") is None or cards.get("CDELT2") is None:
        raise InputError("the image has no coordinates", where=where, seen="neither CD nor CDELT", needed="one of them")
    turn = np.array([float(cards.get(key, unit)) for key, unit in zip(_PC, (1.0, 0.0, 0.0, 1.0), strict=True)])
    scale = np.array([[float(cards["CDELT1"])], [float(cards["CDELT2"])]])
    return scale * turn.reshape(2, 2)


def _polynomial(cards: Mapping[str, Any], projection: str) -> NDArray[np.float64]:
    """Terms of the distortion, (2, 40).

    Headers of SCAMP call TPV by the name TAN; of a true TAN the first five terms mean the pole, not a distortion.
    """
    pv = identity_pv()
    keys = [key for key in cards if key in _PV]
    places, values = [_PV[key] for key in keys], _floats(cards, keys)
    if projection == "TPV" or any(term > 4 for _, term in places):
        for place, value in zip(places, values, strict=True):
            pv[place] = value
    return pv


def _floats(cards: Mapping[str, Any], keys: Sequence[str]) -> list[float]:
    return cards.floats(keys) if isinstance(cards, Cards) else [float(cards[key]) for key in keys]


def _not_fits(path: Path, raw: bytes) -> InputError:
    return InputError(
        "the cut-out is no FITS file",
        where=path,
        seen=repr(raw[:40]),
        needed="a FITS image",
        cause="an error page of the cut-out service, saved under the name of an image",
    )


def _number(value: Any) -> float | None:
    """A finite number, or None: headers write what they do not know as text or NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
