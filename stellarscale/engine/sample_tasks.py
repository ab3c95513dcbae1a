"""What workers do for one partition of matched spectra that may enter the empirical sample. No Dask here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import read_pixel
from stellarscale.catalog.writer import WriteOptions, write_pixel, write_table
from stellarscale.engine.tasks import Record, dust_of, record_of, stored_catalog
from stellarscale.partition.sample import PIXEL, needed_columns, reason_counts, sample_rows
from stellarscale.settings.sample import SampleSelection


@dataclass(frozen=True)
class SampleTask:
    """Cuts of single rows; rows that fail one go to a file of their own in ``rejects``, with the reason."""

    source: Path
    out: Path
    rejects: Path
    selection: SampleSelection


def sample_pixel(task: SampleTask, pixel: Pixel) -> Record:
    """Keep the rows of one partition that pass the cuts, and record the others."""
    catalog = stored_catalog(task.source)
    properties, maps = catalog.properties, task.selection.cuts.reddening.sfd98
    columns = [properties.ra, properties.dec, *needed_columns(task.selection)]
    table = read_pixel(catalog, pixel, columns=list(dict.fromkeys(columns)))
    ebv = dust_of(table, maps, catalog) if maps else None
    kept, rejects = sample_rows(table, task.selection, ebv)
    write_table(rejects_file(task.rejects, pixel), rejects, WriteOptions())
    return {
        "rows_in": table.num_rows,
        **record_of(write_pixel(task.out, pixel, kept)),
        "rejected": reason_counts(rejects),
    }


def sample_schema(schema: pa.Schema, selection: SampleSelection) -> pa.Schema:
    """Columns that :func:`sample_pixel` writes."""
    wanted = {PIXEL, *needed_columns(selection)}
    there = [name for name in schema.names if name in wanted]  # what is missing is told by the cuts themselves
    kept, _ = sample_rows(schema.empty_table().select(there), selection, np.empty(0))
    return kept.schema


def rejects_file(folder: Path, pixel: Pixel) -> Path:
    """Where the rejects of a partition are."""
    return folder / f"{str(pixel).replace('/', '-')}.parquet"
