"""A spectrum as its file has it: pixel edges, flux and inverse variance, and the header's values."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.resample import grid_edges, rebin
from stellarscale.kernels.wavelength import WaveGrid, air_to_vacuum
from stellarscale.schema_spectra import SpectrumLayout

_GAP = 3.0  # times the neighbouring steps: wider ones are holes of the sampling, not pixels
_SHORTEST_AIR_AA = 2000.0
_EXACT = 2.0**53  # masks stored as floats are whole up to here


@dataclass(frozen=True)
class Spectrum:
    """One spectrum.

    Attributes
    ----------
    edges_aa : ndarray of float64, shape (n + 1,)
        Edges of the pixels in Angstrom, rising, in the file's own frame.
    flux, ivar : ndarray of float64, shape (n,)
        Flux density and inverse variance; ``ivar`` 0 means no weight.
    header : mapping
        Keywords of the file with their values.
    air : bool
        Whether the wavelengths are those in air.
    has_errors : bool
        False where the file gives none; ``ivar`` is then 1 for every pixel with a flux.
    """

    edges_aa: NDArray[np.float64]
    flux: NDArray[np.float64]
    ivar: NDArray[np.float64]
    header: Mapping[str, Any]
    air: bool
    has_errors: bool = True


def weights(
    flux: NDArray[np.float64],
    ivar: NDArray[np.float64],
    layout: SpectrumLayout,
    *,
    and_mask: NDArray[Any] | None = None,
    or_mask: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Inverse variance (n,) with 0 for every pixel without information.

    That is where it is not a positive finite number, where the flux is not finite, and where a mask has one of the
    layout's bits set or is no number.
    """
    good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
    for mask, bits in ((and_mask, layout.and_bits), (or_mask, layout.or_bits)):
        if mask is not None and bits:
            known = np.abs(mask) < _EXACT
            good &= known & ((np.where(known, mask, 0).astype(np.int64) & bits) == 0)
    return np.where(good, ivar, 0.0) / layout.oversampling


def is_air(header: Mapping[str, Any], layout: SpectrumLayout) -> bool:
    """Whether wavelengths are in air: by the header (VACUUM, or CTYPE1 AWAV/WAVE) where it says, else the layout."""
    if isinstance(header.get("VACUUM"), bool):
        return not header["VACUUM"]
    return {"AWAV": True, "WAVE": False}.get(str(header.get("CTYPE1", ""))[:4], layout.air)


def joined(*headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Headers as one; of a keyword that several have, the first counts."""
    return ChainMap(*headers)  # type: ignore[arg-type]  # it is only read


def inverse_square(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse variance (n,) of standard errors; 0 for those that are not positive and finite."""
    good = np.isfinite(error) & (error > 0)
    return np.divide(1.0, error**2, out=np.zeros(len(error)), where=good)


def sampled(
    wave_aa: NDArray[np.float64], flux: NDArray[np.float64], ivar: NDArray[np.float64], *, where: object
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Edges, flux and inverse variance of a spectrum given at centres of any spacing.

    Edges lie halfway between the centres. A step of more than three times its neighbours is a hole: a pixel without
    weight fills it, and the pixels beside it keep the width of the narrower step.

    Raises
    ------
    InputError
        If there are fewer than three wavelengths, or they neither rise nor fall, or are not positive.
    """
    if len(wave_aa) > 1 and wave_aa[0] > wave_aa[-1]:
        wave_aa, flux, ivar = wave_aa[::-1], flux[::-1], ivar[::-1]
    step = np.diff(wave_aa)
    if len(wave_aa) < 3 or not (np.isfinite(wave_aa).all() and (step > 0).all() and wave_aa[0] > 0):
        bad = int(np.argmin(step > 0)) if len(step) else 0
        raise InputError(
            "the wavelengths do not rise steadily",
            where=where,
            seen=f"{len(wave_aa)} of them" + (f", {wave_aa[bad : bad + 2]} at row {bad}" if len(step) else ""),
            needed="three or more positive wavelengths in order",
        )
    padded = np.concatenate([[np.inf], step, [np.inf]])
    narrow = np.minimum(padded[:-2], padded[2:])  # the smaller neighbour of each step
    is_hole = step > _GAP * narrow
    holes = np.flatnonzero(is_hole) + 1
    half = np.where(is_hole, narrow, step) / 2
    upper = wave_aa + np.append(half, half[-1])
    lower = np.insert(wave_aa - np.append(half[0], half), holes, upper[holes - 1])
    return np.append(lower, upper[-1]), np.insert(flux, holes, 0.0), np.insert(ivar, holes, 0.0)


def on_grid(spectrum: Spectrum, grid: WaveGrid, *, z: float, where: object) -> tuple[NDArray, NDArray]:
    """Flux and inverse variance, both float32 (n_pix,), of a spectrum in vacuum and at rest on a grid.

    The flux density keeps its value when the wavelengths are divided by ``1 + z``. Without errors in the file the
    inverse variance is 1 in every pixel with a flux.

    Raises
    ------
    InputError
        If file and grid have no wavelength in common, or the values do not fit single precision.
    """
    edges = spectrum.edges_aa
    if spectrum.air:
        if edges[0] < _SHORTEST_AIR_AA:
            raise InputError(
                "wavelengths in air are known above 2000 Angstrom only",
                where=where,
                seen=f"{edges[0]:g}",
                cause="another unit than Angstrom",
            )
        edges = air_to_vacuum(edges)
    wanted = grid_edges(grid) * (1.0 + z)
    if edges[0] >= wanted[-1] or edges[-1] <= wanted[0]:
        raise InputError(
            "the spectrum covers nothing of the wavelength grid",
            where=where,
            seen=f"{edges[0] / (1 + z):.1f}-{edges[-1] / (1 + z):.1f} Angstrom at rest",
            needed=f"{wanted[0] / (1 + z):.1f}-{wanted[-1] / (1 + z):.1f}",
            cause="another instrument's range, or another unit of the wavelengths",
        )
    flux, ivar = rebin(spectrum.flux, spectrum.ivar, edges, wanted)
    if not spectrum.has_errors:
        ivar = (ivar > 0).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        single, weight = flux.astype(np.float32), ivar.astype(np.float32)
    if not (np.isfinite(single).all() and np.isfinite(weight).all()) or ((weight > 0) != (ivar > 0)).any():
        raise InputError(
            "the values do not fit single precision",
            where=where,
            seen=f"fluxes to {np.abs(flux).max():.3g}, inverse variances to {ivar.max():.3g}",
            needed="inverse variances between 1e-45 and 3e38",
            cause="flux in a unit far from the spectrum's level; scale it",
        )
    return single, weight
