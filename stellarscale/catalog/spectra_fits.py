"""Spectra with labels as one FITS file: fluxes in the primary HDU, labels in a table, inverse variances behind it.

The layout of the published M-star sample and reference grid (paper II, section 4), which model grids come in too. The
axis is that of IRAF's log-linear spectra: CRVAL1 and CD1_1 are log10 of Angstrom, DC-FLAG is 1.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.export_rows import RecordColumn, record_columns, record_type, records
from stellarscale.catalog.spectra_axis import axis_cards, grid_of_hdus
from stellarscale.errors import InputError
from stellarscale.kernels.wavelength import WaveGrid

LABELS, IVAR = "LABELS", "IVAR"
_NAMED_ROWS = 10


@dataclass(frozen=True, eq=False)
class LabelledSpectra:
    """Spectra of a file, one row a star: flux and ivar float32 (n, n_pix), None without ivar; labels as a table."""

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32] | None
    grid: WaveGrid
    table: pa.Table
    digest: str = ""

    def labels(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Columns of the table, shape (n, len(names)), NaN for null; names that `read_spectra_fits` checked."""
        columns = [self.table[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names]
        return np.stack(columns, axis=1) if columns else np.empty((len(self.flux), 0))


def write_spectra_fits(path: Path, spectra: LabelledSpectra, provenance: Mapping[str, str] = {}) -> str:
    """Write spectra and labels atomically; returns the sha256 of the file.

    Parameters
    ----------
    path : Path
        File to make, or to replace.
    spectra : LabelledSpectra
        The table's field metadata gives units, UCDs and descriptions.
    provenance : mapping of str to str
        Keywords of the primary header, e.g. CONFIG (digest of the settings); at most eight capital letters each.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    SchemaError
        If the table has a column that a FITS table cannot hold.
    """
    from astropy.io import fits

    from stellarscale import __version__

    shape = (spectra.table.num_rows, spectra.grid.n_pix)
    if spectra.flux.shape != shape or (spectra.ivar is not None and spectra.ivar.shape != shape):
        raise ValueError(f"spectra of shape {spectra.flux.shape}, needed {shape}")
    header = fits.Header([*axis_cards(spectra.grid), ("ORIGIN", "stellarscale", "program that wrote the file")])
    header["VERSION"] = (__version__, "of the program")
    for key, value in provenance.items():
        header[key] = value
    hdus = [fits.PrimaryHDU(np.ascontiguousarray(spectra.flux, dtype=np.float32), header), _table_hdu(spectra.table)]
    if spectra.ivar is not None:
        axis = fits.Header(axis_cards(spectra.grid))
        hdus.append(fits.ImageHDU(np.ascontiguousarray(spectra.ivar, dtype=np.float32), axis, name=IVAR))
    with atomic_write(path) as temporary:
        fits.HDUList(hdus).writeto(temporary, checksum=False)
        return _sha256(temporary)


def read_spectra_fits(
    path: Path,
    *,
    labels: Sequence[str] = (),
    names: Mapping[str, str] = {},
    expect_digest: str | None = None,
) -> LabelledSpectra:
    """Read spectra and labels.

    Parameters
    ----------
    path : Path
        A file of this layout.
    labels : sequence of str
        Columns that must be there, finite in every row. A file's own column is taken for a label when the two agree but
        for case and signs: ``TEFF``, ``M_H``, ``[M/H]``.
    names : mapping of str to str
        The file's columns of labels, where they are called otherwise.
    expect_digest : str, optional
        sha256 that the file must have.

    Returns
    -------
    LabelledSpectra
        Flux and ivar in memory, in the machine's byte order, read-only. The table has the file's columns, but for
        arrays, in lower case; labels under the names asked for.

    Raises
    ------
    InputError
        If the file is missing, damaged or another one, has no such layout, its wavelengths are neither in keywords nor
        in an HDU or column, are no log-linear vacuum grid, or a label is missing: rows are named.
    """
    from astropy.io import fits

    if not path.is_file():
        raise InputError("there is no such file of spectra", where=path)
    digest = _sha256(path)
    if expect_digest is not None and digest != expect_digest:
        raise InputError("the file of spectra changed", where=path, seen=digest[:12], needed=expect_digest[:12])
    try:
        with warnings.catch_warnings(), fits.open(path, memmap=False) as hdus:
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)  # of names like [M/H], which files do have
            flux, table = _matrix(hdus, path), _table(hdus, path)
            grid = grid_of_hdus(hdus, flux.shape[1], path)
            ivar = _native(hdus[IVAR].data) if IVAR in hdus else None
    except (OSError, TypeError, fits.VerifyError) as error:
        raise InputError("the file of spectra is damaged", where=path, seen=error) from error
    if table.num_rows != len(flux) or (ivar is not None and ivar.shape != flux.shape):
        raise InputError(
            "spectra and labels do not fit together",
            where=path,
            seen=f"{flux.shape} fluxes, {table.num_rows} rows of labels"
            + (f", {ivar.shape} ivar" if ivar is not None else ""),
            needed="one row of labels, and as many inverse variances, for each spectrum",
        )
    return LabelledSpectra(flux, ivar, grid, _labelled(table, labels, names, path), digest)


def _labelled(table: pa.Table, labels: Sequence[str], names: Mapping[str, str], path: Path) -> pa.Table:
    """The table with its label columns under the names asked for, checked to be complete."""
    found = {_plain(name): name for name in reversed(table.column_names)}
    chosen = {label: found.get(_plain(names.get(label, label))) for label in labels}
    for label, name in chosen.items():
        if name is None:
            raise InputError(
                "the spectra have no such label",
                where=path,
                seen=", ".join(table.column_names),
                needed=names.get(label, label),
                cause="the file calls it otherwise: give its name",
            )
        values = table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            rows = ", ".join(map(str, bad[:_NAMED_ROWS])) + (", ..." if len(bad) > _NAMED_ROWS else "")
            raise InputError(
                f"{len(bad)} of {len(values)} spectra have no {label}",
                where=f"{path}, rows {rows} (counted from 0)",
                needed="a finite value for every spectrum: one without labels is of no use",
            )
    # A column that has the name of a label and was not chosen for it gives way.
    columns: list[tuple[str, str]] = []
    for name in table.column_names:
        served = [label for label, column in chosen.items() if column == name]
        columns += [(label, name) for label in served or ([name] if name not in chosen else [])]
    fields = [table.schema.field(name).with_name(label) for label, name in columns]
    return pa.table([table[name] for _, name in columns], schema=pa.schema(fields))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _matrix(hdus: Any, path: Path) -> NDArray[np.float32]:
    data = hdus[0].data
    if data is None or data.ndim != 2:
        raise InputError(
            "the file holds no spectra",
            where=f"{path}, primary HDU",
            seen="no data" if data is None else f"shape {data.shape}",
            needed="fluxes of shape (spectra, pixels)",
        )
    return _native(data)


def _native(data: Any) -> NDArray[np.float32]:
    values = np.ascontiguousarray(data, dtype=np.float32)
    values.flags.writeable = False
    return values


def _table(hdus: Any, path: Path) -> pa.Table:
    """Scalars and vectors of the first table, in lower case."""
    from astropy.io import fits

    hdu = next((each for each in hdus if isinstance(each, fits.BinTableHDU)), None)
    if hdu is None:
        raise InputError("the spectra have no labels", where=path, needed="a binary table behind the primary HDU")
    arrays, fields = [], []
    for column in hdu.columns:
        values = np.asarray(hdu.data[column.name])
        if values.ndim > 2:
            continue
        metadata = {b"unit": column.unit.encode()} if column.unit else None
        arrays.append(_arrow(values, column.null))
        fields.append(pa.field(column.name.lower(), arrays[-1].type, metadata=metadata))
    return pa.table(arrays, schema=pa.schema(fields))


def _arrow(values: NDArray[Any], null: int | None) -> pa.Array:
    if values.dtype.kind in "SU":
        texts = [str(value).strip() for value in values.astype(str)]
        return pa.array([text or None for text in texts], pa.string())
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if native.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(native.ravel()), native.shape[1])
    return pa.array(native, mask=native == null) if null is not None else pa.array(native, from_pandas=True)


def _table_hdu(table: pa.Table) -> Any:
    """The labels; astropy lays out the columns, missing values are marked as in the package's other FITS tables."""
    from astropy.io import fits

    columns = record_columns(table.schema, lambda: iter([table]))
    rows = np.concatenate([np.empty(0, record_type(columns)), *records(table, columns, record_type(columns))])
    made = [_fits_column(column, rows[column.name], table[column.name].null_count) for column in columns]
    hdu = fits.BinTableHDU.from_columns(made, nrows=len(rows), name=LABELS)
    for number, column in enumerate(columns, start=1):
        for key, name in (("TUCD", b"ucd"), ("TCOMM", b"description")):
            text = (column.field.metadata or {}).get(name, b"").decode().encode("ascii", "replace").decode()
            if text:
                hdu.header[f"{key}{number}"] = text
    return hdu


def _fits_column(column: RecordColumn, values: NDArray[Any], nulls: int) -> Any:
    from astropy.io import fits

    unit = (column.field.metadata or {}).get(b"unit", b"").decode() or None
    null = column.null if nulls else None
    if column.letter == "L":
        values = values == ord("T")
    return fits.Column(column.name, f"{column.count}{column.letter}", unit=unit, null=null, array=values)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
