"""Spectra as Arrow columns, under the name that partition functions know."""

from __future__ import annotations

from stellarscale.spectra_columns import FLUX, IVAR, grid_of, spectra_of, spectrum_array, spectrum_field

__all__ = ["FLUX", "IVAR", "grid_of", "spectra_of", "spectrum_array", "spectrum_field"]
