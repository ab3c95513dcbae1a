"""Plain tables of wavelength, flux and error: FITS, CSV, ECSV, VOTable or Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from stellarscale.schema import SurveySchema
from stellarscale.schema_spectra import SpectrumLayout
from stellarscale.surveys.read import open_source
from stellarscale.surveys.spectra.hdus import Hdu
from stellarscale.surveys.spectra.spectrum import Spectrum, inverse_square, is_air, joined, sampled, weights
from stellarscale.surveys.units import conversion_factor

NAMES = {
    "wave": ("wavelength", "wave", "lambda", "lam", "wl", "wave_aa"),
    "log_wave": ("loglam", "log_wave", "log_wavelength"),
    "flux": ("flux", "flux_density"),
    "ivar": ("ivar", "inverse_variance", "invvar"),
    "error": ("flux_err", "flux_error", "e_flux", "error", "err", "sigma", "uncertainty"),
    "mask": ("mask", "and_mask", "andmask"),
}
_LONGEST = 1 << 22
_TAG = re.compile(r"([:-]) +!{1,2}[\w.:/]+[ \t]*$", re.MULTILINE)
_PAIR = re.compile(r"# *([A-Za-z]\w*) *[:=] *(\S.*)")


def roles_of(names: Iterable[str]) -> dict[str, str]:
    """Which column (by its own name) plays which role of ``NAMES``; case does not count."""
    own = {name.lower(): name for name in names}
    found = {role: next((own[name] for name in accepted if name in own), None) for role, accepted in NAMES.items()}
    return {role: name for role, name in found.items() if name is not None}


def is_spectrum(roles: Mapping[str, str]) -> bool:
    """Whether a table's columns make a spectrum: wavelengths and a flux."""
    return "flux" in roles and ("wave" in roles or "log_wave" in roles)


def read_fits_table(hdus: list[Hdu], layout: SpectrumLayout) -> Spectrum | None:
    """The first binary table with columns of wavelength and flux; None if there is none."""
    for hdu in hdus:
        roles = roles_of(hdu.fields) if hdu.is_table else {}
        if is_spectrum(roles):
            columns = {role: hdu.column(name).astype(np.float64) for role, name in roles.items()}
            unit = hdu.fields[roles["wave"]].unit if "wave" in roles else ""
            header = joined(hdus[0].cards, hdu.cards)
            return _spectrum(columns, header, layout, unit=unit, path=hdu.path)
    return None


def read_other_table(path: Path, start: bytes, schema: SurveySchema, layout: SpectrumLayout) -> Spectrum | None:
    """A text table, VOTable or Parquet file with columns of wavelength and flux; None if it has no such columns.

    Header values come from the comment lines of text (``# z = 0.001``), an ECSV file's ``meta`` and the key-value
    metadata of a Parquet file. Missing values carry no weight.
    """
    source = open_source(path, schema)
    roles = roles_of(column.name for column in source.columns)
    if not is_spectrum(roles):
        return None
    batches = source.batches({name: pa.float64() for name in roles.values()}, _LONGEST)
    table = pa.concat_tables(list(batches)) if source.rows != 0 else pa.table({name: [] for name in roles.values()})
    columns = {role: _numbers(table[name]) for role, name in roles.items()}
    unit = next((column.unit for column in source.columns if column.name == roles.get("wave")), "")
    return _spectrum(columns, _header_of(path, start, source.format), layout, unit=unit, path=path)


def _spectrum(
    columns: Mapping[str, NDArray[np.float64]],
    header: Mapping[str, Any],
    layout: SpectrumLayout,
    *,
    unit: str,
    path: Path,
) -> Spectrum:
    flux = columns["flux"]
    if "wave" in columns:
        wave_aa = columns["wave"] * conversion_factor(unit, "Angstrom", where=f"{path}, wavelengths")
    else:
        wave_aa = 10.0 ** columns["log_wave"]
    if "ivar" in columns:
        ivar = columns["ivar"]
    elif "error" in columns:
        ivar = inverse_square(columns["error"])
    else:
        ivar = (np.isfinite(flux) & (flux != 0)).astype(np.float64)
    ivar = weights(flux, ivar, layout, and_mask=columns.get("mask"))
    edges, flux, ivar = sampled(wave_aa, flux, ivar, where=path)
    has_errors = "ivar" in columns or "error" in columns
    return Spectrum(edges, flux, ivar, header, is_air(header, layout), has_errors)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.ascontiguousarray(column.cast(pa.float64()).to_numpy())  # a null is NaN


def _header_of(path: Path, start: bytes, format_: str) -> Mapping[str, Any]:
    if format_ == "parquet":
        pairs = (pq.read_schema(path).metadata or {}).items()
        return {key.decode(): value.decode() for key, value in pairs if not key.startswith((b"ARROW:", b"pandas"))}
    lines = [line for line in start.decode("utf-8", "replace").splitlines() if line.startswith("#")]
    if format_ != "ecsv":
        return {pair[1]: pair[2].strip() for line in lines if (pair := _PAIR.match(line))}
    text = "\n".join(line[2:] for line in lines if not line.startswith("# %ECSV"))
    meta = yaml.safe_load(_TAG.sub(r"\1", text)).get("meta") or {}
    if isinstance(meta, list):  # the ordered mapping of older writers: a list of single pairs
        meta = joined(*meta)
    return {str(key): value for key, value in meta.items()}
