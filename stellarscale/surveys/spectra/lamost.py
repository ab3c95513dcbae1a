"""LAMOST low-resolution spectra: the row images of the pilot survey to DR7, and the vectors of DR8 and later.

Wavelengths come from ``10 ** (COEFF0 + COEFF1 i)`` in every layout: the third row of a pilot file is no wavelength,
and one stored in single precision is rounded. The column WAVELENGTH of DR8 serves where a header lacks the keywords.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.resample import log_edges
from stellarscale.schema_spectra import SpectrumLayout
from stellarscale.surveys.spectra.hdus import Hdu
from stellarscale.surveys.spectra.spectrum import Spectrum, is_air, joined, sampled, weights

_ROWS = 5
_ORDER = {"flux": 0, "inverse": 1, "andmask": 3, "ormask": 4}


def read_rows(hdus: list[Hdu], layout: SpectrumLayout) -> Spectrum | None:
    """A primary image of five rows (pilot and DR1, and to DR7); None if it is not that.

    Flux, inverse variance and masks stand where EXTEN0 names them, else in rows 0, 1, 3 and 4.
    """
    primary = hdus[0]
    if len(primary.shape) != 2 or primary.shape[0] != _ROWS or "COEFF0" not in primary.cards:
        return None
    rows, order = primary.image(), _row_order(primary.cards)
    flux, ivar = rows[order["flux"]].copy(), rows[order["inverse"]]  # a view would keep all five rows alive
    ivar = weights(flux, ivar, layout, and_mask=rows[order["andmask"]], or_mask=rows[order["ormask"]])
    return Spectrum(_edges(primary.cards, primary, len(flux)), flux, ivar, primary.cards, is_air(primary.cards, layout))


def read_coadd(hdus: list[Hdu], layout: SpectrumLayout) -> Spectrum | None:
    """The table COADD with one row of vectors FLUX, IVAR, ANDMASK, ORMASK (DR8 and later); None if it is not that."""
    table = next((hdu for hdu in hdus if hdu.is_table and hdu.name == "COADD"), None)
    if table is None or not {"flux", "ivar", "andmask", "ormask"} <= set(table.fields):
        return None
    header = joined(hdus[0].cards, table.cards)
    flux = table.column("flux").astype(np.float64)
    ivar = table.column("ivar").astype(np.float64)
    ivar = weights(flux, ivar, layout, and_mask=table.column("andmask"), or_mask=table.column("ormask"))
    if "COEFF0" not in header and "wavelength" in table.fields:
        wave_aa = table.column("wavelength").astype(np.float64)
        edges, flux, ivar = sampled(wave_aa, flux, ivar, where=table.path)
    else:
        edges = _edges(header, table, len(flux))
    return Spectrum(edges, flux, ivar, header, is_air(header, layout))


def _row_order(cards: Mapping[str, Any]) -> dict[str, int]:
    names = [word.lower() for word in re.findall("[A-Za-z]+", str(cards.get("EXTEN0", "")))]
    return {name: names.index(name) for name in _ORDER} if set(_ORDER) <= set(names[:_ROWS]) else _ORDER


def _edges(header: Mapping[str, Any], hdu: Hdu, n_pix: int) -> NDArray[np.float64]:
    start, step = header.get("COEFF0"), header.get("COEFF1")
    if isinstance(start, int | float) and isinstance(step, int | float) and 2 < start < 6 and 0 < step < 0.01:
        return log_edges(float(start), float(step), n_pix)
    raise InputError(
        "the header has no usable wavelengths",
        where=hdu.path,
        seen=f"COEFF0 {start}, COEFF1 {step}",
        needed="the logarithms of the first wavelength in Angstrom and of the step",
    )
