"""Spectra in the three file layouts that LAMOST has used, and the ways in which files go wrong."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate.files import FITS_BLOCK

_GZIP_WINDOW = 31
_EXTEN0 = {
    "pilot": "Flux Inverse Subcontinuum Andmask Ormask",
    "dr7": "Flux, Inverse, Wavelength, Andmask, Ormask",
}
Cards = dict[str, str | bool | int | float]
_VERSION = {"pilot": "v2.6.4", "dr7": "v2.9.7", "dr10": "v2.9.9"}


@dataclass(frozen=True)
class FileSpectrum:
    """One spectrum as a file holds it.

    Parameters
    ----------
    flux, ivar : ndarray of float32, shape (n_pix,)
        Counts and their inverse variance; 0 is no weight.
    andmask, ormask : ndarray of int16, shape (n_pix,)
        Bits set in every exposure, and in any.
    start_dex : float
        Logarithm of the first (vacuum) wavelength; the step is 1e-4.
    cards : dict
        What the header says of the target: ``obsid``, ``designation``, ``ra``, ``dec``, ``lmjd``, ``planid``,
        ``spid``, ``fiberid``, ``class``, ``subclass``, ``z``, ``z_err`` and ``snr`` (by band).
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    andmask: NDArray[np.int16]
    ormask: NDArray[np.int16]
    start_dex: float
    cards: dict

    @property
    def wave_aa(self) -> NDArray[np.float64]:
        """Vacuum wavelengths."""
        return 10.0 ** (self.start_dex + 1e-4 * np.arange(self.flux.size, dtype=np.float64))


def write_spectrum(spectrum: FileSpectrum, folder: Path, stem: str, *, layout: str, zipped: bool, bad: str) -> Path:
    """Write a spectrum as one release would have, or spoilt in one way.

    Parameters
    ----------
    spectrum : FileSpectrum
        What to write.
    folder, stem : Path, str
        Where, and the file's name without suffixes.
    layout : str
        ``pilot`` (image of five rows, no wavelengths, no obsid), ``dr7`` (image of five rows with wavelengths)
        or ``dr10`` (a table COADD with one row of vectors).
    zipped : bool
        Compress it, with ``.gz`` added to the name.
    bad : str
        Empty; or ``truncated``, ``wrong_layout``, ``no_z``, ``short_grid``, which are made here.

    Returns
    -------
    Path
        The file.
    """
    if bad == "short_grid":
        spectrum = _blue_part(spectrum)
    header = _header(spectrum, stem, layout, wanted_z=bad != "no_z")
    if bad == "wrong_layout":
        content = _image(header, np.stack([spectrum.flux, spectrum.ivar, spectrum.ivar]))
    elif layout == "dr10":
        content = _coadd(header, spectrum)
    else:
        third = np.ones(spectrum.flux.size) if layout == "pilot" else spectrum.wave_aa
        content = _image(header, np.stack([spectrum.flux, spectrum.ivar, third, spectrum.andmask, spectrum.ormask]))
    if zipped:
        squeeze = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
        content = squeeze.compress(content) + squeeze.flush()
    if bad == "truncated":
        content = content[: int(0.6 * len(content))]
    path = folder / f"{stem}.fits{'.gz' if zipped else ''}"
    path.write_bytes(content)
    return path


def _blue_part(spectrum: FileSpectrum) -> FileSpectrum:
    """Only the first 1500 pixels, to about 5230 Angstrom: nothing of the range that is matched."""
    part = slice(0, 1500)
    return replace(
        spectrum,
        flux=spectrum.flux[part],
        ivar=spectrum.ivar[part],
        andmask=spectrum.andmask[part],
        ormask=spectrum.ormask[part],
    )


def _header(spectrum: FileSpectrum, stem: str, layout: str, *, wanted_z: bool) -> Cards:
    """The cards of a release that a reader may need; the pilot's has no OBSID and S/N clipped at 99."""
    about = spectrum.cards
    start = round(float(spectrum.start_dex), 5)
    cards: Cards = {"FILENAME": f"{stem}.fits"}
    if layout != "pilot":
        cards["OBSID"] = int(about["obsid"])
    cards |= {"AUTHOR": "mock", "ORIGIN": "NAOC-LAMOST", "DATE": "2020-01-01T00:00:00"}
    if layout in _EXTEN0:
        cards |= {"N_EXTEN": 1, "EXTEN0": _EXTEN0[layout]}
    cards |= {"TELESCOP": "LAMOST", "LMJD": int(about["lmjd"]), "MJD": int(about["lmjd"]) + 1}
    cards |= {"PLANID": str(about["planid"]), "RA": round(float(about["ra"]), 6), "DEC": round(float(about["dec"]), 6)}
    cards |= {"DESIG": f"LAMOST {about['designation']}", "FIBERID": int(about["fiberid"]), "SPID": int(about["spid"])}
    cards |= {"OBJTYPE": "star", "FIBERTYP": "Obj", "RADECSYS": "FK5", "EQUINOX": 2000.0, "HELIO": True, "VACUUM": True}
    cards |= {"NWORDER": 2, "WFITTYPE": "LOG-LINEAR", "COEFF0": start, "COEFF1": 1e-4, "CRVAL1": start, "CD1_1": 1e-4}
    cards |= {"CRPIX1": 1, "CTYPE1": "LINEAR", "DC-FLAG": 1, "VERSPIPE": _VERSION[layout], "CLASS": str(about["class"])}
    cards["SUBCLASS"] = _old_name(str(about["subclass"]), layout)
    if wanted_z:
        cards |= {"Z": float(about["z"]), "Z_ERR": float(f"{about['z_err']:.3e}")}
    name, top = ("SN_", 99.0) if layout == "pilot" else ("SNR", 999.0)
    return cards | {f"{name}{band.upper()}": round(float(min(s, top)), 2) for band, s in about["snr"].items()}


def _old_name(subclass: str, layout: str) -> str:
    """The pilot knew no luminosity classes: M2 for dM2."""
    return subclass[1:] if layout == "pilot" else subclass


def _text(cards: Cards) -> bytes:
    """A FITS header in fixed format, 80 characters a card."""
    lines = []
    for key, value in cards.items():
        if isinstance(value, str):
            shown = f"'{value:<8}'"
        elif isinstance(value, bool):
            shown = f"{'T' if value else 'F':>20}"
        else:
            shown = f"{str(value).upper():>20}"
        lines.append(f"{key:<8}= {shown}".ljust(80))
    content = "".join([*lines, "END".ljust(80)])
    return content.ljust(-(-len(content) // FITS_BLOCK) * FITS_BLOCK).encode("ascii")


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % FITS_BLOCK)


def _image(header: Cards, rows: NDArray) -> bytes:
    """A primary image of float32 rows."""
    size: Cards = {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": rows.shape[1], "NAXIS2": rows.shape[0]}
    return _text(size | {"EXTEND": True} | header) + _padded(rows.astype(">f4").tobytes())


def _coadd(header: Cards, spectrum: FileSpectrum) -> bytes:
    """An empty primary HDU with the cards, and the table COADD of one row."""
    n = spectrum.flux.size
    level = max(float(np.median(np.abs(spectrum.flux))), 1e-9)
    vectors: dict[str, tuple[str, NDArray]] = {"FLUX": ("E", spectrum.flux), "IVAR": ("E", spectrum.ivar)}
    vectors |= {"WAVELENGTH": ("E", spectrum.wave_aa), "ANDMASK": ("I", spectrum.andmask)}
    vectors |= {"ORMASK": ("I", spectrum.ormask), "NORMALIZATION": ("E", spectrum.flux / level)}
    row = b"".join(vector.astype(">f4" if form == "E" else ">i2").tobytes() for form, vector in vectors.values())
    primary: Cards = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True}
    table: Cards = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": len(row), "NAXIS2": 1}
    table |= {"PCOUNT": 0, "GCOUNT": 1, "TFIELDS": len(vectors)}
    for place, (name, (form, _)) in enumerate(vectors.items(), start=1):
        table |= {f"TTYPE{place}": name, f"TFORM{place}": f"{n}{form}"}
    return _text(primary | header) + _text(table | {"EXTNAME": "COADD"}) + _padded(row)
