"""The spectra of the empirical sample on disk: read once along the sky, then by row in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.catalog.reader import StoredCatalog, open_stored, read_batches_of, read_columns
from stellarscale.errors import InputError
from stellarscale.kernels.resample import grid_edges, rebin
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.spectra_columns import FLUX, IVAR, grid_of, spectra_of


@dataclass(frozen=True, eq=False)
class SpectraOnDisk:
    """Flux and inverse variance of the spectra that a sample needs, memory-mapped.

    Attributes
    ----------
    grid : WaveGrid
    flux, ivar : memmap of float32, shape (n, n_pix)
    """

    grid: WaveGrid
    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]

    def load(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Flux and ivar of some rows, in memory."""
        return np.array(self.flux[rows]), np.array(self.ivar[rows])


def missing_spectra(catalog: Path, column: str, ids: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which ids no spectrum of a catalogue has.

    Raises
    ------
    SchemaError
        If the catalogue holds no spectra, or no such column.
    InputError
        If the ids are of another kind than the column.
    """
    stored = open_stored(catalog)
    grid_of(stored.schema)
    known = read_columns(stored, [column])[column]
    try:
        wanted = ids.cast(known.type)
    except pa.ArrowException as error:
        where = f"{catalog}, column {column}"
        raise InputError("ids are of another kind than those of the spectra", where=where, seen=error) from error
    return pc.invert(pc.is_in(wanted, value_set=known)).to_numpy(zero_copy_only=False)


def copy_spectra(catalog: Path, column: str, ids: pa.ChunkedArray, folder: Path) -> SpectraOnDisk:
    """Copy the spectra of some ids into two files of a folder, in the order of the ids.

    Memory holds a row group of the catalogue at a time. Of several spectra of one id the first along the sky counts.

    Raises
    ------
    InputError
        If a spectrum is not there.
    """
    stored = open_stored(catalog)
    grid = grid_of(stored.schema)
    shape = (len(ids), grid.n_pix)
    folder.mkdir(parents=True, exist_ok=True)
    flux, ivar = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=shape)
        for name in (FLUX, IVAR)
    )
    filled = np.zeros(len(ids), dtype=bool)
    wanted = ids.cast(stored.schema.field(column).type).combine_chunks()
    for batch in _batches(stored, column, wanted):
        place = pc.index_in(batch[column], value_set=wanted).to_numpy(zero_copy_only=False).astype(np.int64)
        place, first = np.unique(place, return_index=True)
        new = ~filled[place]
        place, first = place[new], first[new]
        flux[place], ivar[place] = spectra_of(batch, FLUX)[first], spectra_of(batch, IVAR)[first]
        filled[place] = True
    if not filled.all():
        seen = ", ".join(str(value) for value in wanted.filter(pa.array(~filled))[:5].to_pylist())
        raise InputError("spectra of the sample are not in the catalogue", where=catalog, seen=seen)
    return SpectraOnDisk(grid, flux, ivar)


def _batches(stored: StoredCatalog, column: str, wanted: pa.Array) -> Iterator[pa.Table]:
    for pixel in stored.pixels:
        for batch in read_batches_of(stored, pixel, columns=[column, FLUX, IVAR]):
            found = pc.is_in(batch[column], value_set=wanted)
            if pc.any(found).as_py():
                yield batch.filter(found)


def on_grid(flux: NDArray, source: WaveGrid, target: WaveGrid, *, where: Path) -> NDArray[np.float64]:
    """Spectra without noise on another grid: a part where the two align, else rebinned, or interpolated if coarser.

    Raises
    ------
    InputError
        If they do not reach over the whole of the target.
    """
    ends, needed = source.wave_aa[[0, -1]], target.wave_aa[[0, -1]]
    half = 0.5 * source.step_dex * np.log(10.0)
    if ends[0] * (1 - half) > needed[0] * (1 + half) or ends[1] * (1 + half) < needed[1] * (1 - half):
        raise InputError(
            "the model spectra do not cover the wavelengths of the sample",
            where=where,
            seen=f"{ends[0]:.1f}-{ends[1]:.1f} Angstrom",
            needed=f"{needed[0]:.1f}-{needed[1]:.1f} Angstrom",
        )
    offset = target.offset_in(source)
    if offset is not None and offset >= 0 and offset + target.n_pix <= source.n_pix:
        return np.asarray(flux[:, offset : offset + target.n_pix], dtype=np.float64)
    if source.step_dex > target.step_dex:  # rebinned, coarse models would be stairs
        return np.stack([np.interp(target.log10_aa, source.log10_aa, row) for row in flux])
    ones, edges, out = np.ones(source.n_pix), grid_edges(source), grid_edges(target)
    return np.stack([rebin(np.asarray(row, dtype=np.float64), ones, edges, out)[0] for row in flux])
