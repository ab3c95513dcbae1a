"""Grids of model spectra such as a user would supply: one for dwarfs, one for giants, each a little wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.simulate.mspectra import m_star_flux

MODEL_GRID = WaveGrid.covering(3700.0, 9100.0, 1e-4)
# File, Teff, log g, [M/H], and the slope (dex over the range) by which the models' continuum is off.
_GRIDS: dict[str, tuple[Sequence[float], Sequence[float], Sequence[float], float]] = {
    "btsettl_like": (range(3000, 4301, 100), (4.25, 4.5, 4.75, 5.0, 5.25), (-1.0, -0.5, 0.0, 0.3, 0.5), 0.01),
    "marcs_like": (range(3200, 4301, 100), (-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5), (-1.0, -0.5, 0.0, 0.25, 0.5), -0.02),
}


def write_models(folder: Path) -> list[Path]:
    """Write both grids: spectra in the primary HDU, labels in a table ``LABELS``.

    Parameters
    ----------
    folder : Path
        Gets ``btsettl_like.fits`` (dwarfs) and ``marcs_like.fits`` (giants).

    Returns
    -------
    list of Path
        The two files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for name, (teff, logg, m_h, slope) in _GRIDS.items():
        labels = np.array(list(product(teff, logg, m_h)), dtype=float).T
        x = np.linspace(-0.5, 0.5, MODEL_GRID.n_pix)
        flux = m_star_flux(MODEL_GRID.wave_aa, *labels) * (10.0 ** (slope * x)).astype(np.float32)
        out.append(folder / f"{name}.fits")
        _write_grid(out[-1], flux, labels)
    return out


def _write_grid(path: Path, flux: NDArray[np.float32], labels: NDArray) -> None:
    image = fits.PrimaryHDU(flux)
    cards = {"CRVAL1": MODEL_GRID.start_dex, "CDELT1": MODEL_GRID.step_dex, "CD1_1": MODEL_GRID.step_dex}
    image.header.update(cards | {"CRPIX1": 1.0, "CTYPE1": "LINEAR", "DC-FLAG": 1, "VACUUM": True})
    units = {"teff": "K", "logg": "", "m_h": ""}
    columns = [
        fits.Column(name, "E", unit=unit or None, array=values)
        for (name, unit), values in zip(units.items(), labels, strict=True)
    ]
    fits.HDUList([image, fits.BinTableHDU.from_columns(columns, name="LABELS")]).writeto(path, overwrite=True)
