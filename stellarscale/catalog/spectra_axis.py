"""The wavelengths of a FITS file of spectra, as keywords of the header or as values in an HDU or column."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.wavelength import WaveGrid

_VALUES = ("wavelength", "wave", "loglam", "lambda", "log_wave", "wave_aa")
_LARGEST_LOG = 10.0  # a wavelength in Angstrom is above, its logarithm below
_TOLERANCE = 0.02  # of a pixel, for wavelengths that are given one by one, in float32 at times


def axis_cards(grid: WaveGrid) -> list[tuple[str, Any, str]]:
    """Header cards of a log-linear axis."""
    return [
        ("CTYPE1", "LINEAR", "see DC-FLAG"),
        ("CRPIX1", 1.0, "pixel of CRVAL1"),
        ("CRVAL1", grid.start_dex, "log10 of the first wavelength in Angstrom"),
        ("CDELT1", grid.step_dex, "step in log10 of the wavelength"),
        ("CD1_1", grid.step_dex, "step in log10 of the wavelength"),
        ("DC-FLAG", 1, "1: log-linear"),
        ("VACUUM", True, "wavelengths in vacuum, rest frame"),
    ]


def grid_of_hdus(hdus: Any, n_pix: int, path: Path) -> WaveGrid:
    """The grid of a file's spectra.

    Raises
    ------
    InputError
        If no wavelengths are found, they are in air, or are not log-linear.
    """
    header = hdus[0].header
    if header.get("VACUUM", True) is False or str(header.get("VACUUM", 1)).strip() in {"0", "F"}:
        raise InputError(
            "the wavelengths are in air",
            where=f"{path}, VACUUM",
            needed="a log-linear grid of vacuum wavelengths",
            cause="resample the spectra, which on an even grid in air are on none in vacuum",
        )
    step = header.get("CD1_1", header.get("CDELT1"))
    if "CRVAL1" not in header or step is None:
        return _even(_values(hdus, n_pix, path), path)
    first = float(header["CRVAL1"]) + float(step) * (1.0 - float(header.get("CRPIX1", 1.0)))
    is_log = bool(header.get("DC-FLAG", 0)) or "LOG" in str(header.get("CTYPE1", "")).upper() or first < _LARGEST_LOG
    if is_log and float(step) > 0 and first < _LARGEST_LOG:
        return WaveGrid(first, float(step), n_pix)
    return _even(first + float(step) * np.arange(n_pix, dtype=np.float64), path)


def _values(hdus: Any, n_pix: int, path: Path) -> NDArray[np.float64]:
    """Wavelengths given one by one: an image of their number, or a column of a table that has as many rows or cells."""
    for hdu in hdus[1:]:
        if hdu.data is None:
            continue
        if hdu.data.dtype.names is None:
            if hdu.name.lower() in _VALUES and hdu.data.size == n_pix:
                return np.asarray(hdu.data, dtype=np.float64).ravel()
            continue
        for name in hdu.data.dtype.names:
            if name.lower() in _VALUES:
                column = np.asarray(hdu.data[name], dtype=np.float64)
                values = column[0] if column.ndim == 2 and len(column) else column
                if values.size == n_pix:
                    return values
    raise InputError(
        "the spectra have no wavelengths",
        where=path,
        needed=f"CRVAL1 and CD1_1 (or CDELT1) in the primary header, or {n_pix} values in an HDU or a column",
        seen=f"HDUs {', '.join(hdu.name or 'PRIMARY' for hdu in hdus)}",
    )


def _even(wave: NDArray[np.float64], path: Path) -> WaveGrid:
    """The log-linear grid that wavelengths, or their logarithms, are the pixels of."""
    log = wave if wave[0] < _LARGEST_LOG else np.log10(np.maximum(wave, 1.0))
    step = (log[-1] - log[0]) / max(len(log) - 1, 1)
    off = np.abs(log - (log[0] + step * np.arange(len(log))))
    if not (math.isfinite(step) and step > 0 and off.max() <= _TOLERANCE * step):
        raise InputError(
            "the wavelengths are not log-linear",
            where=path,
            seen=f"{len(wave)} from {wave[0]:g} to {wave[-1]:g}",
            needed="equal steps of log10 of the vacuum wavelength: resample the spectra",
        )
    return WaveGrid(float(log[0]), float(step), len(log))
