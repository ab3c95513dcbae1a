"""Small spectrum files in the layouts of the surveys, written with astropy."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from astropy.io import fits

COEFF0, COEFF1 = 3.5682, 1e-4
KEYS = {
    "DESIG": "LAMOST J063715.90+271356.5", "RA": 99.316263, "DEC": 27.23237, "LMJD": 55862, "MJD": 55863,
    "PLANID": "B6212", "SPID": 6, "FIBERID": 3, "CLASS": "STAR", "SUBCLASS": "M0", "Z": -7.138e-05,
    "Z_ERR": 4.663e-05, "VACUUM": True, "COEFF0": COEFF0, "COEFF1": COEFF1,
}  # fmt: skip
OLD_SNR = {f"SN_{band}": 10.0 + i for i, band in enumerate("UGRIZ")}
NEW_SNR = {f"SNR{band}": 10.0 + i for i, band in enumerate("UGRIZ")}
LAYOUTS = ("pilot", "rows", "coadd")


def some_spectrum(n=3904, seed=0, level=100.0):
    """Flux, inverse variance and the two masks (n,) of a noisy slope with a line at 6564.6 Angstrom."""
    rng = np.random.default_rng(seed)
    wave = 10 ** (COEFF0 + COEFF1 * np.arange(n))
    flux = level * (1 + (wave - 6000) / 9000 - 0.6 * np.exp(-0.5 * ((wave - 6564.61) / 4) ** 2))
    flux += rng.normal(0, level / 50, n)
    return flux, np.full(n, (50 / level) ** 2), np.zeros(n, np.int32), np.zeros(n, np.int32)


def write_lamost(path: Path, layout: str, parts=None, **keys) -> Path:
    """A file in the layout of the pilot survey, of DR2 to DR7 (rows) or of DR8 (coadd); keys of None are left out."""
    flux, ivar, and_mask, or_mask = parts or some_spectrum()
    wave = 10 ** (COEFF0 + COEFF1 * np.arange(len(flux)))
    values = {**KEYS, **(OLD_SNR if layout == "pilot" else {"OBSID": 353301003, **NEW_SNR}), **keys}
    header = fits.Header([(key, value) for key, value in values.items() if value is not None])
    header["COMMENT"] = "--------FILE INFORMATION"
    if layout == "coadd":
        vectors = {"FLUX": flux, "IVAR": ivar, "WAVELENGTH": wave, "ANDMASK": and_mask, "ORMASK": or_mask}
        vectors["NORMALIZATION"] = flux
        kinds = {"ANDMASK": "I", "ORMASK": "I"}
        columns = [
            fits.Column(name, f"{len(flux)}{kinds.get(name, 'E')}", array=np.asarray(v)[None])
            for name, v in vectors.items()
        ]
        units = [fits.PrimaryHDU(header=header), fits.BinTableHDU.from_columns(columns, name="COADD")]
    else:
        third = np.ones(len(flux)) if layout == "pilot" else wave
        word = "Subcontinuum" if layout == "pilot" else "Wavelength"
        header["EXTEN0"] = f"Flux Inverse {word} Andmask Ormask"
        rows = np.array([flux, ivar, third, and_mask, or_mask], np.float32)
        units = [fits.PrimaryHDU(rows, header)]
    return write_units(path, units)


def write_sdss(path: Path, parts=None, **values) -> Path:
    """A ``spec-*.fits`` file: COADD with a row a pixel, SPECOBJ with the row of the object."""
    flux, ivar, and_mask, or_mask = parts or some_spectrum()
    log = COEFF0 + COEFF1 * np.arange(len(flux))
    kinds = {"flux": ("E", flux), "loglam": ("E", log), "ivar": ("E", ivar), "and_mask": ("J", and_mask),
             "or_mask": ("J", or_mask), "sky": ("E", flux)}  # fmt: skip
    coadd = fits.BinTableHDU.from_columns([fits.Column(n, k, array=v) for n, (k, v) in kinds.items()], name="COADD")
    row = {"PLUG_RA": 10.5, "PLUG_DEC": -3.25, "MJD": 55863, "PLATE": 4055, "FIBERID": 7, "CLASS": "STAR",
           "SUBCLASS": "M3", "Z": 1e-4, "Z_ERR": 1e-5, "ZWARNING": 0, "SN_MEDIAN_ALL": 12.5} | values  # fmt: skip
    kind = {int: "J", float: "D", str: "10A"}
    columns = [fits.Column(name, kind[type(value)], array=[value]) for name, value in row.items()]
    row_unit = fits.BinTableHDU.from_columns(
        [*columns, fits.Column("MAG", "5E", array=np.ones((1, 5)))], name="SPECOBJ"
    )
    return write_units(path, [fits.PrimaryHDU(), coadd, row_unit])


def write_units(path: Path, units: list) -> Path:
    """The units as a FITS file, compressed when its name ends in .gz."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    fits.HDUList(units).writeto(plain, overwrite=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        plain.unlink()
    return path
