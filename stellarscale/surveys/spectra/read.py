"""Read files of single spectra as canonical batches: a row each, with flux and inverse variance on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import InputError, RowCountError, SchemaError, StellarscaleError
from stellarscale.flags import COLUMN, Flag
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.schema import SurveySchema
from stellarscale.spectra_columns import FLUX, IVAR, spectrum_array, spectrum_field
from stellarscale.surveys.canonical import REJECTS, CanonicalBatch, canonical_batch
from stellarscale.surveys.mapping import match_columns
from stellarscale.surveys.plan import canonical_schema, make_plan
from stellarscale.surveys.spectra.files import layout_of, read_spectrum
from stellarscale.surveys.spectra.headers import header_table, header_values, source_of, stem_of
from stellarscale.surveys.spectra.spectrum import Spectrum, on_grid

_CHUNK = 256  # files whose spectra are held as read


def available_columns(schema: SurveySchema) -> tuple[str, ...]:
    """Canonical columns that the headers of a survey's spectra may give: all that the schema keeps, and positions."""
    names = [name for name, column in schema.columns.items() if column.keep]
    return (*names, *(name for name in (schema.position.ra, schema.position.dec) if name not in names))


def spectra_schema(schema: SurveySchema, columns: Sequence[str], grid: WaveGrid) -> pa.Schema:
    """Arrow schema of :func:`read_spectra`: that of ``canonical_schema``, then ``flux`` and ``ivar``."""
    scalars = canonical_schema(schema, columns)
    return pa.schema([*scalars, spectrum_field(FLUX, grid), spectrum_field(IVAR, grid)])


def read_spectra(
    paths: Sequence[Path], schema: SurveySchema, grid: WaveGrid, columns: Sequence[str], *, first_id: int = 0
) -> CanonicalBatch:
    """Read files of single spectra, bring them to vacuum and rest frame, and rebin them to a grid.

    Parameters
    ----------
    paths : sequence of Path
        Files, one spectrum each.
    schema : SurveySchema
        A survey whose ``spectrum`` says how its files are laid out.
    grid : WaveGrid
        Wavelengths of the result.
    columns : sequence of str
        Canonical columns wanted; id and position always come along, what a header lacks is null.
    first_id : int
        Number, across all files of an import, of the first of these.

    Returns
    -------
    CanonicalBatch
        ``table`` in the schema of :func:`spectra_schema`, in the order of the files; ``rejects`` has a row for every
        file that failed, with the reason. A spectrum whose pixels are masked, or whose median flux is not positive,
        is kept and flagged.

    Raises
    ------
    SchemaError
        If the schema is not one of spectra, or has no such column.
    """
    layout_of(schema)
    output = spectra_schema(schema, columns, grid)
    names = [*output.names[:-2]]
    batches = [
        _read_chunk([Path(path) for path in paths[i : i + _CHUNK]], schema, grid, names, first_id=first_id + i)
        for i in range(0, len(paths), _CHUNK)
    ]
    table = pa.concat_tables([output.empty_table(), *(batch.table for batch in batches)])
    rejects = pa.concat_tables([REJECTS.empty_table(), *(batch.rejects for batch in batches)])
    if table.num_rows + rejects.num_rows != len(paths):
        raise RowCountError(
            "spectra were lost while reading", seen=table.num_rows + rejects.num_rows, needed=len(paths)
        )
    return CanonicalBatch(table, rejects, len(paths))


@dataclass
class _Files:
    """What became of each file of a chunk: its spectrum, its header's values, or the reason why not."""

    paths: list[Path]
    spectra: list[Spectrum | None] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def _read_chunk(
    paths: list[Path], schema: SurveySchema, grid: WaveGrid, names: Sequence[str], *, first_id: int
) -> CanonicalBatch:
    files = _open_all(paths, schema)
    native = header_table(files.values, schema, first_id=first_id)
    layout = layout_of(schema)
    wanted = [*names] if layout.rest else [*names, layout.redshift]
    source = source_of(native, paths[0].parent)
    plan = make_plan(source, schema, match_columns(source, schema), wanted)
    batch = canonical_batch(native, plan, path=source.path, first_row=0, first_id=first_id)
    placed = np.delete(np.arange(len(paths)), batch.rejects["row"].to_numpy())
    for row, reason in zip(batch.rejects["row"].to_pylist(), batch.rejects["reason"].to_pylist(), strict=True):
        files.reasons[row] = files.reasons[row] or reason
    z = None if layout.rest else batch.table[layout.redshift].to_numpy(zero_copy_only=False).astype(np.float64)
    flux, ivar = _resample(files, placed, z, grid)
    kept = np.array([not files.reasons[row] for row in placed], dtype=bool)
    table = _with_spectra(batch.table.select(names).filter(pa.array(kept)), flux[kept], ivar[kept], grid)
    return CanonicalBatch(table, _rejects(files, batch, placed, schema), len(paths))


def _open_all(paths: list[Path], schema: SurveySchema) -> _Files:
    files = _Files(paths)
    for path in paths:
        spectrum, values, reason = None, {}, ""
        try:
            spectrum = read_spectrum(path, schema)
            values = header_values(spectrum.header, path, schema)
        except (InputError, SchemaError) as error:
            reason = str(error)
        files.spectra.append(spectrum)
        files.values.append(values)
        files.reasons.append(reason)
    return files


def _resample(
    files: _Files, placed: NDArray[np.int64], z: NDArray[np.float64] | None, grid: WaveGrid
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    flux = np.zeros((len(placed), grid.n_pix), np.float32)
    ivar = np.zeros_like(flux)
    for i, row in enumerate(placed):
        spectrum, path = files.spectra[row], files.paths[row]
        if files.reasons[row] or spectrum is None:
            continue
        if z is not None and not np.isfinite(z[i]):
            files.reasons[row] = f"no redshift in the header of {path.name}: the rest frame is not known"
            continue
        try:
            flux[i], ivar[i] = on_grid(spectrum, grid, z=0.0 if z is None else float(z[i]), where=path)
        except StellarscaleError as error:
            files.reasons[row] = str(error)
    return flux, ivar


def _with_spectra(table: pa.Table, flux: NDArray[np.float32], ivar: NDArray[np.float32], grid: WaveGrid) -> pa.Table:
    flags = table[COLUMN].to_numpy().copy()
    for i in range(len(flags)):
        used = ivar[i] > 0
        if 2 * np.count_nonzero(used) < grid.n_pix:
            flags[i] |= int(Flag.MASKED_PIXELS)
        if used.any() and np.median(flux[i][used]) <= 0:
            flags[i] |= int(Flag.NOT_POSITIVE_FLUX)
    place = table.column_names.index(COLUMN)
    table = table.set_column(place, table.schema.field(COLUMN), pa.array(flags))
    table = table.append_column(spectrum_field(FLUX, grid), spectrum_array(flux, FLUX, grid))
    return table.append_column(spectrum_field(IVAR, grid), spectrum_array(ivar, IVAR, grid))


def _rejects(files: _Files, batch: CanonicalBatch, placed: NDArray[np.int64], schema: SurveySchema) -> pa.Table:
    ra, dec = batch.table[schema.position.ra], batch.table[schema.position.dec]
    position = {int(row): (ra[i].as_py(), dec[i].as_py()) for i, row in enumerate(placed) if files.reasons[row]}
    position |= {row["row"]: (row["ra"], row["dec"]) for row in batch.rejects.to_pylist()}
    if schema.position.placeholder:
        position = dict.fromkeys(position, (None, None))
    rows = [
        {
            "file": str(files.paths[row]),
            "row": 0,
            "id": stem_of(files.paths[row]),
            "reason": files.reasons[row],
            "ra": position[row][0],
            "dec": position[row][1],
        }
        for row in sorted(position)
    ]
    return pa.Table.from_pylist(rows, schema=REJECTS)
