"""Files of single spectra, read as rows of a table with flux and inverse variance on one grid."""

from stellarscale.surveys.spectra.files import read_spectrum
from stellarscale.surveys.spectra.read import available_columns, read_spectra, spectra_schema

__all__ = ["available_columns", "read_spectra", "read_spectrum", "spectra_schema"]
