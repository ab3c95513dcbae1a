"""Spectra as Arrow columns: fixed-size lists of float32 whose field says which wavelengths they stand at."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.schema import field_metadata

FLUX = "flux"
IVAR = "ivar"
_START, _STEP, _FRAME = b"wave_log10_start", b"wave_log10_step", b"wave_frame"
_REST = b"vacuum, rest frame"
_DESCRIPTIONS = {
    FLUX: ("phot.flux.density;em.wl", "flux density at the wavelengths of the grid, in the file's own unit"),
    IVAR: ("stat.weight;phot.flux.density", "inverse variance of the flux; 0: the pixel carries no information"),
}


def spectrum_field(name: str, grid: WaveGrid) -> pa.Field:
    """Arrow field of a spectrum column, ``flux`` or ``ivar``; the wavelength grid is in its metadata."""
    ucd, description = _DESCRIPTIONS[name]
    first, last = grid.wave_aa[[0, -1]]
    description += (
        f"; pixel i, from 0, at 10**({grid.start_dex:.10g} + {grid.step_dex:.10g} i) Angstrom in vacuum at rest, "
        f"{first:.2f} to {last:.2f}"
    )
    wave = {_START: repr(grid.start_dex).encode(), _STEP: repr(grid.step_dex).encode(), _FRAME: _REST}
    kind = pa.list_(pa.field("element", pa.float32()), grid.n_pix)
    return pa.field(name, kind, metadata={**field_metadata("", ucd, description), **wave})


def grid_of(schema: pa.Schema, name: str = FLUX) -> WaveGrid:
    """The wavelength grid of a spectrum column.

    Raises
    ------
    SchemaError
        If there is no such column, or it is no spectrum.
    """
    if name not in schema.names:
        raise SchemaError("the table holds no spectra", seen=", ".join(schema.names[:20]), needed=f"a column {name!r}")
    field = schema.field(name)
    metadata = field.metadata or {}
    if not pa.types.is_fixed_size_list(field.type) or not {_START, _STEP} <= set(metadata):
        raise SchemaError(
            "the column is no spectrum",
            where=f"column {name}",
            seen=f"{field.type}" + ("" if {_START, _STEP} <= set(metadata) else ", no wavelength grid in its metadata"),
            needed="a fixed-size list of float32 with its wavelength grid in the metadata",
            cause="a catalogue of another program, or columns renamed without their metadata",
        )
    return WaveGrid(float(metadata[_START]), float(metadata[_STEP]), field.type.list_size)


def spectrum_array(values: NDArray, name: str, grid: WaveGrid) -> pa.Array:
    """A float32 (n_rows, n_pix) array as the Arrow column of :func:`spectrum_field`; no copy if it is contiguous."""
    if values.ndim != 2 or values.shape[1] != grid.n_pix:
        raise ValueError(f"spectra of shape {values.shape}, the grid has {grid.n_pix} pixels")
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, type=spectrum_field(name, grid).type)


def spectra_of(table: pa.Table | pa.RecordBatch, name: str) -> NDArray[np.float32]:
    """A spectrum column as float32 (n_rows, n_pix); without a copy when the column has one chunk and no nulls."""
    column = table.column(name)
    if isinstance(column, pa.ChunkedArray):
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies a single one too
    else:
        array = column
    if isinstance(array, pa.ChunkedArray):  # of a table without rows
        return np.empty((0, column.type.list_size), dtype=np.float32)
    width = array.type.list_size
    values = array.values.slice(array.offset * width, len(array) * width)
    result = values.to_numpy(zero_copy_only=False).reshape(len(array), width)
    if array.null_count:
        result = np.where(np.asarray(array.is_valid())[:, None], result, np.float32(0.0))  # without weight: see ivar
    return result
