"""Spectra as one row of an image with linear or logarithmic wavelengths in the header, as in the MILES library."""

from __future__ import annotations

import numpy as np

from stellarscale.errors import InputError
from stellarscale.schema_spectra import SpectrumLayout
from stellarscale.surveys.spectra.hdus import Hdu
from stellarscale.surveys.spectra.spectrum import Spectrum, is_air
from stellarscale.surveys.units import conversion_factor


def read_image(hdus: list[Hdu], layout: SpectrumLayout) -> Spectrum | None:
    """A primary image of one row, of one axis or with further axes of one pixel; None if it is not that.

    Wavelengths are ``CRVAL1 + CDELT1 (i + 1 - CRPIX1)``, their logarithms if DC-FLAG is 1. There are no errors:
    the inverse variance is 1 where the flux is finite and not 0, as a mask rather than a claim.
    """
    primary = hdus[0]
    cards, shape = primary.cards, primary.shape
    step = cards.get("CDELT1", cards.get("CD1_1"))
    if not shape or shape[-1] < 2 or int(np.prod(shape[:-1])) != 1 or step is None or "CRVAL1" not in cards:
        return None
    flux = primary.image().ravel()
    centre = np.arange(len(flux) + 1) + 0.5 - float(cards.get("CRPIX1", 1))
    edges = np.asarray(float(cards["CRVAL1"]) + float(step) * centre, dtype=np.float64)
    if cards.get("DC-FLAG") == 1:
        edges = np.power(10.0, edges)
    else:
        edges = edges * conversion_factor(str(cards.get("CUNIT1") or ""), "Angstrom", where=f"{primary.path}, CUNIT1")
    if not (edges[0] > 0 and edges[-1] > edges[0]):
        raise InputError("the header has no usable wavelengths", where=primary.path, seen=f"{edges[0]:g}-{edges[-1]:g}")
    usable = np.isfinite(flux) & (flux != 0)
    return Spectrum(edges, flux, usable.astype(np.float64), cards, is_air(cards, layout), has_errors=False)
