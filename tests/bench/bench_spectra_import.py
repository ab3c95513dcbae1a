"""Reading of LAMOST spectra from FITS: spectra a second on one core, side by side with astropy and np.interp.

Both read the same files, of every layout, plain and gzip: the header's values, the masks, the rest frame, and the
spectrum on the 1663 pixels from 6000 to 8800 Angstrom. The peer interpolates; ours rebins and carries the variance.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

COEFF0, COEFF1, PIXELS = 3.5682, 1e-4, 3904
WANTED = ("RA", "DEC", "MJD", "LMJD", "PLANID", "SPID", "FIBERID", "CLASS", "SUBCLASS", "Z", "Z_ERR", "DESIG",
          "SNRU", "SNRG", "SNRR", "SNRI", "SNRZ", "OBSID")  # fmt: skip
CARDS_OF_A_REAL_FILE = 122


def write_files(folder: Path, layout: str, count: int, suffix: str) -> list[Path]:
    """Noisy spectra with as many header cards as real files have, in the layout of DR2 to DR7 or of DR8."""
    from astropy.io import fits

    rng = np.random.default_rng(1)
    wave = 10 ** (COEFF0 + COEFF1 * np.arange(PIXELS))
    paths = []
    for number in range(count):
        flux = rng.normal(wave / 60, 3).astype(np.float32)
        ivar = np.where(rng.random(PIXELS) < 0.1, 0, 1 / 9).astype(np.float32)
        mask = (rng.random(PIXELS) < 0.02).astype(np.float32)
        header = fits.Header({"RA": 99.3, "DEC": 27.2, "MJD": 55863, "LMJD": 55862, "PLANID": "B6212", "SPID": 6,
                              "FIBERID": number, "CLASS": "STAR", "SUBCLASS": "M0", "Z": rng.normal(0, 1e-4),
                              "Z_ERR": 5e-5, "DESIG": "LAMOST J063715.90+271356.5", "OBSID": number + 1,
                              "COEFF0": COEFF0, "COEFF1": COEFF1, "VACUUM": True})  # fmt: skip
        header.update({f"SNR{band}": 30.0 for band in "UGRIZ"})
        header.update({f"CARD{i}": (float(i), "a comment") for i in range(CARDS_OF_A_REAL_FILE - len(header))})
        if layout == "rows":
            units = [fits.PrimaryHDU(np.array([flux, ivar, wave, mask, mask], np.float32), header)]
        else:
            vectors = {"FLUX": flux, "IVAR": ivar, "WAVELENGTH": wave, "ANDMASK": mask, "ORMASK": mask}
            vectors["NORMALIZATION"] = flux
            columns = [fits.Column(name, f"{PIXELS}E", array=values[None]) for name, values in vectors.items()]
            units = [fits.PrimaryHDU(header=header), fits.BinTableHDU.from_columns(columns, name="COADD")]
        path = folder / f"{layout}-{number:05d}.fits"
        fits.HDUList(units).writeto(path)
        if suffix == ".fits.gz":
            path.with_suffix(suffix).write_bytes(gzip.compress(path.read_bytes(), 6))
            path.unlink()
        paths.append(path.with_suffix(suffix))
    return paths


def ours(paths: list[Path]) -> int:
    """Spectra read by this package."""
    from stellarscale.kernels.wavelength import WaveGrid
    from stellarscale.schema import load_survey
    from stellarscale.surveys.spectra import available_columns, read_spectra

    schema = load_survey("lamost_spectra")
    batch = read_spectra(paths, schema, WaveGrid.covering(6000, 8800), available_columns(schema))
    return batch.table.num_rows


def astropy_and_interp(paths: list[Path]) -> int:
    """Spectra read the straightforward way, a file after the other."""
    from astropy.io import fits

    from stellarscale.kernels.wavelength import WaveGrid

    grid = WaveGrid.covering(6000, 8800).wave_aa
    kept = []
    for path in paths:
        with fits.open(path, memmap=False) as units:
            header = units[0].header
            if len(units) == 1:
                flux, ivar, _, and_mask, _ = units[0].data
            else:
                flux, ivar, and_mask = (units[1].data[name][0] for name in ("FLUX", "IVAR", "ANDMASK"))
            values = [header[name] for name in WANTED]
            wave = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(len(flux))) / (1 + header["Z"])
        weight = np.where(and_mask == 0, ivar, 0)
        kept.append((values, np.interp(grid, wave, flux), np.interp(grid, wave, weight)))
    return len(kept)


def rate(function: Callable[[list[Path]], int], paths: list[Path]) -> float:
    """Spectra a second of one pass over files that are in the page cache."""
    start = time.perf_counter()
    done = function(paths)
    seconds = time.perf_counter() - start
    assert done == len(paths), f"{done} of {len(paths)} files were read"
    return done / seconds


def main() -> None:
    """Print a line for every layout and packing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    files, repeats = (60, 2) if options.quick else (options.files, options.repeats)
    for layout in ("rows", "coadd"):
        for suffix in (".fits", ".fits.gz"):
            with tempfile.TemporaryDirectory() as folder:
                paths = write_files(Path(folder), layout, files, suffix)
                ours(paths[:10]), astropy_and_interp(paths[:10])
                pairs = [(rate(ours, paths), rate(astropy_and_interp, paths)) for _ in range(repeats)]
            mine, peer = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(
                f"{layout:5} {suffix:8} {mine:6.0f} spectra/s on one core, astropy and np.interp {peer:5.0f}: "
                f"{statistics.median(a / b for a, b in pairs):.1f} times"
            )


if __name__ == "__main__":
    main()
