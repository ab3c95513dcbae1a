"""What workers do for one partition of spectra, or of what was made of them. No Dask here."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import read_batches_of, read_pixel, read_ranges
from stellarscale.catalog.spectra_fits import read_spectra_fits
from stellarscale.catalog.subset import Subset
from stellarscale.catalog.writer import WriteOptions, write_pixel
from stellarscale.engine.tasks import Record, chosen_rows, record_of, stored_catalog
from stellarscale.errors import InputError
from stellarscale.kernels import healpix
from stellarscale.partition.attach import AttachConfig, attach_columns
from stellarscale.partition.label_errors import ErrorsConfig, add_errors
from stellarscale.partition.references import References, place_in, prepare_references
from stellarscale.partition.spectra_match import SpectraMatchConfig, match_partition, needed_columns, output_schema
from stellarscale.settings.spectra_matching import SpectraMatching
from stellarscale.spectra_columns import grid_of

log = logging.getLogger(__name__)

_ROWS_AT_A_TIME = 1024  # 27 MB of float32 pixels on LAMOST's grid, in a few copies


@dataclass(frozen=True)
class ReferenceFile:
    """A file of labelled spectra, its sha256, and what it calls the labels where their names differ."""

    path: Path
    digest: str
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SpectraTask:
    """Parameters of a catalogue of spectra by the references of a file."""

    source: Path
    out: Path
    config: SpectraMatchConfig
    references: ReferenceFile
    subset: Subset | None = None
    write: WriteOptions = field(default_factory=WriteOptions)


@dataclass(frozen=True)
class AttachTask:
    """Columns of the right catalogue for the rows of the left one that share a key with it."""

    left: Path
    right: Path
    out: Path
    config: AttachConfig
    write: WriteOptions = field(default_factory=WriteOptions)


@dataclass(frozen=True)
class ErrorsTask:
    """Errors for the labels of a catalogue; the models travel with the task: they are small."""

    source: Path
    out: Path
    config: ErrorsConfig
    write: WriteOptions = field(default_factory=WriteOptions)


def check_spectra(task: SpectraTask) -> pa.Schema:
    """Everything that can be wrong with a match of spectra before any work is done; returns the result's schema.

    Raises
    ------
    InputError
        If the references cannot be used, or stand on another grid than the spectra, which may end before a window too.
    SchemaError
        If the spectra lack a column, or there are none.
    """
    schema = stored_catalog(task.source).schema
    place_in(load_references(task.references, task.config.matching), grid_of(schema))
    return output_schema(schema, task.config)


def match_spectra_pixel(task: SpectraTask, pixel: Pixel) -> Record:
    """Match the spectra of one partition, a row group at a time: only what is found is kept in memory."""
    catalog, matching = stored_catalog(task.source), task.config.matching
    references = load_references(task.references, matching)
    columns = needed_columns(catalog.schema, matching)
    if task.subset is not None:
        columns = list(dict.fromkeys([*columns, catalog.properties.ra, catalog.properties.dec]))
    rows_in, found = 0, [output_schema(catalog.schema, task.config).empty_table()]
    ranges = task.subset.ranges() if task.subset is not None else None
    for batch in read_batches_of(catalog, pixel, columns=columns, ranges=ranges):
        table = chosen_rows(batch, task.subset, catalog)
        rows_in += table.num_rows
        for start in range(0, table.num_rows, _ROWS_AT_A_TIME):  # other programs make row groups of any size
            found.append(match_partition(table.slice(start, _ROWS_AT_A_TIME), task.config, references))
        del batch, table  # before the next one is read
    written = write_pixel(task.out, pixel, pa.concat_tables(found), task.write)
    return {"rows_in": rows_in, **record_of(written)}


def attach_pixel(task: AttachTask, pixel: Pixel) -> Record:
    """Attach columns of the right catalogue to one left partition; what lies around it is read too.

    The left partition is read whole: attach to what the matching made rather than to the spectra.
    """
    catalog, other, config = stored_catalog(task.left), stored_catalog(task.right), task.config
    left = read_pixel(catalog, pixel)
    own = np.array([[pixel.first, pixel.last]], dtype=np.int64)
    ring = healpix.ring_around(pixel.order, pixel.ipix, config.radius_arcsec)
    columns = list(dict.fromkeys([*config.right.names, *config.columns.values()]))
    right = read_ranges(other, healpix.merge_ranges(np.concatenate([own, ring])), columns=columns)
    attached = attach_columns(left, right, config)
    written = write_pixel(task.out, pixel, attached.table, task.write)
    return {
        "rows_in": left.num_rows,
        **record_of(written),
        "matched": attached.matched,
        "several": attached.several,
    }


def errors_pixel(task: ErrorsTask, pixel: Pixel) -> Record:
    """Give the labels of one partition their errors."""
    catalog = stored_catalog(task.source)
    table = read_pixel(catalog, pixel)
    written = write_pixel(task.out, pixel, add_errors(table, task.config), task.write)
    return {"rows_in": table.num_rows, **record_of(written)}


def load_references(file: ReferenceFile, matching: SpectraMatching) -> References:
    """References ready for the matcher, read and prepared once per process.

    Raises
    ------
    InputError
        As :func:`read_spectra_fits` and :func:`prepare_references`; the file is named.
    """
    return _prepared(file, matching.model_dump_json())


@lru_cache(maxsize=4)
def _prepared(file: ReferenceFile, settings: str) -> References:
    matching = SpectraMatching.model_validate_json(settings)
    spectra = read_spectra_fits(file.path, labels=matching.labels, names=dict(file.names), expect_digest=file.digest)
    try:
        references = prepare_references(
            spectra.flux, spectra.ivar, spectra.labels(matching.labels), spectra.grid, matching
        )
    except InputError as error:
        where = f"{file.path}, {error.where}" if error.where else file.path
        raise InputError(error.what, where=where, seen=error.seen, needed=error.needed, cause=error.cause) from error
    for row, first in references.duplicates:
        log.warning("%s: the spectrum of row %d is that of row %d: it is left out", file.path, row, first)
    return references
