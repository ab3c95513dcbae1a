"""SDSS spectra (the table COADD with a row for each pixel) and templates made of them in PyHammer's style."""

from __future__ import annotations

import numpy as np

from stellarscale.schema_spectra import SpectrumLayout
from stellarscale.surveys.spectra.hdus import Hdu
from stellarscale.surveys.spectra.spectrum import Spectrum, inverse_square, is_air, joined, sampled, weights

_OBJECT_TABLES = ("SPECOBJ", "SPALL")


def read_sdss(hdus: list[Hdu], layout: SpectrumLayout) -> Spectrum | None:
    """A ``spec-plate-mjd-fiber`` file: flux, loglam, ivar and and_mask of the coadded spectrum; None if it is not.

    Redshift, class and position come from the row of the table SPECOBJ (older files: SPALL), then from the header.
    """
    table = next((hdu for hdu in hdus if hdu.is_table and "loglam" in hdu.fields and "ivar" in hdu.fields), None)
    if table is None or "flux" not in table.fields:
        return None
    rows = [hdu.first_row() for hdu in hdus if hdu.is_table and hdu.name in _OBJECT_TABLES]
    header = joined(*rows, hdus[0].cards)
    flux = table.column("flux").astype(np.float64)
    masks = {name: table.column(name) for name in ("and_mask", "or_mask") if name in table.fields}
    ivar = weights(flux, table.column("ivar").astype(np.float64), layout, **masks)
    wave_aa = 10.0 ** table.column("loglam").astype(np.float64)
    edges, flux, ivar = sampled(wave_aa, flux, ivar, where=table.path)
    return Spectrum(edges, flux, ivar, header, is_air(hdus[0].cards, layout))


def read_template(hdus: list[Hdu], layout: SpectrumLayout) -> Spectrum | None:
    """The columns LogLam, Flux and PropErr of the first table; None if it does not have them.

    PropErr is the propagated error of the mean spectrum. The column Std, the scatter between the stars of a template,
    is not the error of its flux and is not read.
    """
    table = next((hdu for hdu in hdus if hdu.is_table), None)
    if table is None or not {"loglam", "flux", "properr"} <= set(table.fields):
        return None
    wave_aa = 10.0 ** table.column("loglam").astype(np.float64)
    flux = table.column("flux").astype(np.float64)
    ivar = weights(flux, inverse_square(table.column("properr").astype(np.float64)), layout)
    edges, flux, ivar = sampled(wave_aa, flux, ivar, where=table.path)
    return Spectrum(edges, flux, ivar, hdus[0].cards, is_air(hdus[0].cards, layout))
