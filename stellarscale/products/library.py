"""Labelled spectra of the user's own as references: spectra of a catalogue, labels of a table."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.spectra_fits import LabelledSpectra, write_spectra_fits
from stellarscale.config import digest_of
from stellarscale.engine.ledger import fingerprint, open_ledger
from stellarscale.errors import InputError
from stellarscale.kernels.fluxes import medians, weighted
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products.inputs import run_directory
from stellarscale.products.sample_spectra import copy_spectra, missing_spectra
from stellarscale.products.steps import Session, Summary
from stellarscale.schema import field_metadata
from stellarscale.settings.laspm import LaspmJob, Library
from stellarscale.settings.spectra_matching import SpectraMatching

REFERENCES = "references.fits"
ID, STAR = "spectrum_id", "star"


def build_library(on: Session, job: LaspmJob, catalogs: dict[str, Path], steps: list[Summary]) -> Path:
    """Put spectra and labels together, or find them put together; returns the file of references.

    Spectra without labels, labels that are not finite numbers or without a spectrum, and spectra that the matching
    cannot use as references are left out and counted.

    Raises
    ------
    InputError
        If the table of labels cannot be read, lacks a column, names a spectrum twice, or no spectrum has labels.
    """
    started = time.perf_counter()
    library = job.references.library
    assert library is not None, "the caller looked"
    source, file = catalogs[library.spectra], Path(library.labels).absolute()
    labels = read_labels(file, library)  # before the step begins: a table that is mended must not look like another run
    # What spectra are left out depends on the windows.
    settings = library.model_dump(mode="json") | job.matching.model_dump(
        mode="json", include={"windows_aa", "masked_max"}
    )
    about = {"settings": settings, "inputs": [fingerprint(source), fingerprint(file)]}
    out = run_directory(job) / "library"
    ledger = open_ledger(out, step="library", digest=digest_of("library", about), about=about, update=on.update)
    if ledger.finished:
        steps.append({**ledger.finished, "resumed": True})
        return out / REFERENCES
    with ledger.working("library", 1):
        complete = _complete(labels, library)
        there = pa.array(~missing_spectra(source, ID, labels[ID]))
        chosen = labels.filter(pc.and_(complete, there))
        if chosen.num_rows == 0:
            raise InputError(
                "no spectrum of the library has labels",
                where=file,
                seen=", ".join(str(value) for value in labels[ID][:3].to_pylist()),
                needed="the names of spectra: " + _some_ids(source),
            )
        written = _write(source, chosen, job, out, {"CONFIG": digest_of(about["settings"])[:32]})
    summary = {
        "step": "library",
        "name": "library of references",
        "rows_in": labels.num_rows,
        "written": written,
        "rejected": {
            "labels are not finite": int(pc.sum(pc.invert(complete)).as_py() or 0),
            "no spectrum": int(pc.sum(pc.and_(complete, pc.invert(there))).as_py() or 0),
            "masked, or without positive flux": chosen.num_rows - written,
        },
        "seconds": round(time.perf_counter() - started, 3),
    }
    ledger.finish(summary)
    steps.append(summary)
    return out / REFERENCES


def read_labels(file: Path, library: Library) -> pa.Table:
    """The columns of a table of labels that the library names: ``spectrum_id`` and ``star`` as text, labels float64.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or has an id twice.
    """
    table = _read(file)
    wanted = [library.id, *library.columns.values(), *([library.star] if library.star else [])]
    missing = sorted(set(wanted) - set(table.column_names))
    if missing:
        seen, needed = ", ".join(table.column_names[:20]), ", ".join(missing)
        raise InputError("the table of labels lacks columns", where=file, seen=seen, needed=needed)
    columns = {ID: table[library.id].cast(pa.string())}
    columns |= {label: _numbers(table, column, file) for label, column in library.columns.items()}
    columns[STAR] = table[library.star or library.id].cast(pa.string())
    counted = pc.value_counts(columns[ID].drop_null())
    twice = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    if len(twice):
        seen = ", ".join(twice[:5].to_pylist())
        raise InputError(
            "the table of labels has a spectrum twice",
            where=f"{file}, column {library.id}",
            seen=seen,
            needed="one row for each spectrum",
        )
    return pa.table(columns)


def _read(file: Path) -> pa.Table:
    if not file.is_file():
        raise InputError("there is no table of labels", where=file, needed="CSV, ECSV, FITS or Parquet")
    from astropy.table import Table

    try:
        if file.suffix == ".parquet":
            return pq.read_table(file)
        table = Table.read(file, format="ascii.csv") if file.suffix == ".csv" else Table.read(file)
    except Exception as error:  # of astropy's many readers, each with errors of its own
        raise InputError("the table of labels cannot be read", where=file, seen=error) from error
    narrow = [name for name in table.colnames if table[name].ndim == 1]
    return pa.Table.from_pandas(table[narrow].to_pandas(index=False), preserve_index=False)


def _numbers(table: pa.Table, column: str, file: Path) -> pa.ChunkedArray:
    try:
        return table[column].cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise InputError("a label is no number", where=f"{file}, column {column}", seen=error) from error


def _complete(labels: pa.Table, library: Library) -> pa.Array:
    finite = [pc.fill_null(pc.is_finite(labels[label]), False).combine_chunks() for label in library.columns]
    result = pa.array(np.ones(labels.num_rows, dtype=bool))
    for each in finite:
        result = pc.and_(result, each)
    return result


def _some_ids(source: Path) -> str:
    ids = read_columns(open_stored(source), [ID])[ID]
    return ", ".join(str(value) for value in ids[:3].to_pylist()) + ", ..."


def _write(source: Path, labels: pa.Table, job: LaspmJob, out: Path, provenance: dict[str, str]) -> int:
    """Write the references; the labels' table is that of the library: its id, its labels, the star."""
    scratch = out / "spectra"
    spectra = copy_spectra(source, ID, labels[ID], scratch)
    fields = [pa.field(ID, pa.string(), metadata=field_metadata("", "meta.id;meta.main", "spectrum"))]
    fields += [pa.field(label, pa.float64()) for label in labels.column_names[1:-1]]
    fields.append(pa.field(STAR, pa.string(), metadata=field_metadata("", "meta.id", "star of the spectrum")))
    table = labels.cast(pa.schema(fields))
    flux, ivar = spectra.load(np.arange(table.num_rows))
    shutil.rmtree(scratch)
    usable = _usable(flux, ivar, spectra.grid, job.matching)
    table = table.filter(pa.array(usable))
    write_spectra_fits(out / REFERENCES, LabelledSpectra(flux[usable], ivar[usable], spectra.grid, table), provenance)
    return table.num_rows


def _usable(flux: NDArray, ivar: NDArray, grid: WaveGrid, matching: SpectraMatching) -> NDArray[np.bool_]:
    """Spectra with enough pixels and a positive flux in the windows, as references must have."""
    window = np.zeros(grid.n_pix, dtype=bool)
    for first, last in matching.windows_aa:
        window[grid.window(first, last)] = True
    if not window.any():
        return np.ones(len(flux), dtype=bool)  # the matching tells that the grid does not cover the windows
    flux, ivar = weighted(flux[:, window], ivar[:, window])
    enough = (ivar > 0).mean(axis=1) >= 1.0 - matching.masked_max
    return np.asarray(enough & (medians(flux, ivar) > 0))
